"""The skeleton of a mask as a graph of pixels: ends, spurs, paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

CONTINUED_PX = 16
"""How far a mask is drawn on beyond the picture's border, so that its skeleton leaves the picture straight."""

_STRAIGHT = ((0, 1), (1, 0))
_DIAGONAL = ((1, 1), (1, -1))

Box = tuple[int, int, int, int]
"""First row, first column, stop row, stop column."""


@dataclass(frozen=True, slots=True)
class Thinned:
    """A skeleton in its picture.

    Attributes:
        skeleton: (h, w) bool, one pixel wide; reaches beyond the picture where the mask touches its border.
        half_width_px: (h, w) distance of each pixel of the mask from its edge.
        first_row, first_col: Where both begin in the picture; may be negative.
    """

    skeleton: NDArray[np.bool_]
    half_width_px: NDArray[np.floating]
    first_row: int
    first_col: int


def thin(mask: NDArray[np.bool_], box: Box, shape: tuple[int, ...]) -> Thinned:
    """Skeleton and half widths of a mask.

    Args:
        mask: (h, w) bool, tight in the box.
        box: Where it lies in the picture.
        shape: Rows and columns of the picture; a mask that touches its border is drawn on beyond.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.morphology import skeletonize

    beyond = [(CONTINUED_PX * (box[axis] == 0), CONTINUED_PX * (box[axis + 2] == shape[axis])) for axis in (0, 1)]
    # Where the picture ends the crack does not: its last row is repeated there, and everywhere else there is steel.
    image = np.pad(np.pad(mask, beyond, mode="edge"), 1)
    half_width = np.asarray(distance_transform_edt(image))
    return Thinned(np.asarray(skeletonize(image)), half_width, box[0] - beyond[0][0] - 1, box[1] - beyond[1][0] - 1)


class Skeleton:
    """A graph whose nodes are the skeleton's pixels, numbered row by row.

    Two pixels are joined if they touch; by a corner only where no third pixel joins them already, so that a line has
    two neighbours everywhere and a fork is a pixel of three or more.
    """

    def __init__(self, thinned: Thinned) -> None:
        skeleton = thinned.skeleton
        rows, cols = np.nonzero(skeleton)
        self._points = np.stack((rows + thinned.first_row, cols + thinned.first_col), axis=1)
        self._half_width = thinned.half_width_px[rows, cols]
        self._neighbours: list[set[int]] = [set() for _ in range(len(rows))]
        self._alive = np.ones(len(rows), np.bool_)
        number = np.full((skeleton.shape[0] + 2, skeleton.shape[1] + 2), -1)
        number[rows + 1, cols + 1] = np.arange(len(rows))
        for down, right in (*_STRAIGHT, *_DIAGONAL):
            other = number[rows + 1 + down, cols + 1 + right]
            joined = other >= 0
            if down and right:
                joined &= (number[rows + 1 + down, cols + 1] < 0) & (number[rows + 1, cols + 1 + right] < 0)
            for one, two in zip(np.flatnonzero(joined).tolist(), other[joined].tolist(), strict=True):
                self._neighbours[one].add(two)
                self._neighbours[two].add(one)

    def nodes(self) -> list[int]:
        """All that were not pruned."""
        return np.flatnonzero(self._alive).tolist()

    def ends(self) -> list[int]:
        """The nodes with one neighbour, or none."""
        return [node for node in self.nodes() if len(self._neighbours[node]) <= 1]

    def points(self, nodes: Sequence[int]) -> NDArray[np.intp]:
        """(n, 2) rows and columns in the picture, or beyond it."""
        return self._points[list(nodes)]

    def half_width_px(self, nodes: Sequence[int]) -> NDArray[np.floating]:
        """(n,) distance from the mask's edge."""
        return self._half_width[list(nodes)]

    def length_px(self, nodes: Iterable[int]) -> float:
        """Of all lines between some nodes."""
        own = set(nodes)
        return 0.5 * sum(self._step_px(node, other) for node in own for other in self._neighbours[node] & own)

    def prune(self, least_px: float, spur_ratio: float) -> None:
        """Take away side branches that are spurs, the shortest first, until none is left.

        Args:
            least_px: A branch that is shorter is a spur.
            spur_ratio: So is one that is shorter than this many times the half width where it leaves.
        """
        while True:
            spurs: list[tuple[float, int, list[int]]] = []
            for end in self.ends():
                branch, fork = self._branch(end)
                if fork is None:
                    continue
                length = sum(map(self._step_px, branch, [*branch[1:], fork]))
                if length < max(least_px, spur_ratio * float(self._half_width[fork])):
                    spurs.append((length, end, branch))
            if not spurs:
                return
            self._remove(min(spurs)[2])

    def paths_from(self, start: int) -> tuple[NDArray[np.floating], NDArray[np.intp]]:
        """Length of the shortest path to each node, infinite where there is none, and the node before it on the way."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import dijkstra

        pairs = [(one, two) for one in self.nodes() for two in self._neighbours[one]]
        ones, twos = np.array(pairs, np.intp).reshape(-1, 2).T
        steps = np.hypot(*(self._points[ones] - self._points[twos]).T)
        size = len(self._points)
        graph = coo_array((steps, (ones, twos)), shape=(size, size)).tocsr()
        distance, before = dijkstra(graph, indices=start, return_predecessors=True)
        return np.asarray(distance), np.asarray(before)

    def _branch(self, end: int) -> tuple[list[int], int | None]:
        """From an end to the fork where it leaves; no fork where the whole skeleton is one line."""
        branch, previous, node = [end], -1, end
        while True:
            further = [other for other in self._neighbours[node] if other != previous]
            if not further:
                return branch, None
            previous, node = node, further[0]
            if len(self._neighbours[node]) > 2:
                return branch, node
            branch.append(node)

    def _remove(self, nodes: Iterable[int]) -> None:
        for node in nodes:
            self._alive[node] = False
            for other in self._neighbours[node]:
                self._neighbours[other].discard(node)
            self._neighbours[node] = set()

    def _step_px(self, one: int, two: int) -> float:
        return float(np.hypot(*(self._points[one] - self._points[two])))


def walk_back(before: NDArray[np.intp], end: int) -> list[int]:
    """The path from where `before` was asked for to an end."""
    path = [end]
    while before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    return path[::-1]
