"""From a crack mask to cracks: lengths, widths, and where each crack ends.

The skeleton of a component ends in three ways: at the picture's border, where the crack goes on; in a mouth, where it
is still wide and the specimen ends; or in a tip, where it runs out. The main tip is the end of the longest path from
the root, and the root is where the crack comes in: its widest end at the border, else its widest end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.heads.crack_skeleton import Skeleton, thin, walk_back

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SPUR_RATIO = 2.0
"""A side branch is a spur of the lips if it is no longer than this many times the half width where it leaves."""
ROOT_PX = 40.0
"""The root is the end before which a crack is widest over so long a way."""
MOUTH_RATIO, FLARED_RATIO = 1.5, 2.5
"""The root of a crack that does not reach the border is a mouth, and no tip, if its end is so many times as blunt as
the end farthest from it, and `MOUTH_PX` at least, or if the crack is so many times as wide on the way to it.

The skeleton of a blunt end runs into one of its corners, so how blunt it is says the half width of the largest disc of
which the end is a corner: no farther from its middle than `CORNER_RATIO` times its radius.
"""
MOUTH_PX = 2.5
CORNER_RATIO = 1.8
AROUND_PX = 5.0
"""A tip's probability is the mean so far around it."""

_HOLE_PX = 64  # a smaller hole in a mask is debris between the lips, and no crack runs around it
_SMOOTHED_PX = 5
_DIRECTION_PX = 7
_HOOKED = 4  # so many pixels of a skeleton's end may turn into a corner,
_HOOKED_PX = 1.9  # where the crack's half width is so much; one that runs out finely has none
_HOOK_PX = 2.0
_STEP_PX = 0.25


@dataclass(frozen=True, slots=True)
class TracedTip:
    """Where a crack runs out: on the mask's edge, to a fraction of a pixel.

    Attributes:
        main: It is the end of the longest path from the root.
        row_px, col_px: Pixel centres have whole numbers.
        probability: Mean crack probability of the mask's pixels around it, 0..1.
    """

    main: bool
    row_px: float
    col_px: float
    probability: float


@dataclass(frozen=True, slots=True)
class TracedCrack:
    """One connected crack.

    Attributes:
        first_row, first_col: Where its box begins.
        mask: (h, w) bool, the crack in its box.
        skeleton: (n, 2) rows and columns in the picture, without spurs.
        length_px: Of the longest path along the skeleton, from the root to the main tip.
        mean_width_px: Area by the length of the whole skeleton.
        max_width_px: Of the widest circle in it.
        tips: The main one first, then by their distance from the root, the farthest first.
    """

    first_row: int
    first_col: int
    mask: NDArray[np.bool_]
    skeleton: NDArray[np.intp]
    length_px: float
    mean_width_px: float
    max_width_px: float
    tips: tuple[TracedTip, ...]

    @property
    def area_px(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.mask))


def trace_cracks(
    probability: NDArray[np.uint8], threshold: float, *, min_size_px: int = 1, min_branch_px: float = 10.0
) -> list[TracedCrack]:
    """The cracks of a picture, the largest first; a pure function.

    Args:
        probability: (H, W) uint8, 255 = 1.0.
        threshold: Probability, 0..1, from which a pixel counts.
        min_size_px: Smaller components are left out.
        min_branch_px: Shorter side branches are spurs, whatever the width.
    """
    from skimage.measure import label, regionprops

    mask = probability >= level_of(threshold)
    if not mask.any():
        return []
    parts = [part for part in regionprops(label(mask, connectivity=2)) if part.area >= min_size_px]
    parts.sort(key=lambda part: (-part.area, part.bbox))
    return [_trace(probability, part, threshold, min_branch_px) for part in parts]


def level_of(threshold: float) -> int:
    """The least level, 1..255, that reaches a probability."""
    return max(1, int(np.ceil(255.0 * threshold - 1e-6)))


def _trace(probability: NDArray[np.uint8], part: Any, threshold: float, min_branch_px: float) -> TracedCrack:
    top, left, bottom, right = (int(each) for each in part.bbox)
    thinned = thin(_filled(part.image), (top, left, bottom, right), probability.shape)
    graph = Skeleton(thinned)
    graph.prune(min_branch_px, SPUR_RATIO)
    inside = _Inside(probability.shape)
    ends = graph.ends()
    path, tip_paths = _route(graph, ends, [inside.leaves(graph, end) for end in ends])
    length_px = smooth_length_px(graph.points(inside.nodes(graph, path)))
    tips: list[TracedTip] = []
    for number, inwards in enumerate(tip_paths):
        points = graph.points(inwards)
        place = _run_out(probability, points, float(graph.half_width_px(inwards[:_HOOKED]).max()), threshold)
        # The skeleton ends before the mask does.
        length_px += float(np.hypot(*(place - points[0]))) if inwards[0] in (path[0], path[-1]) else 0.0
        surety = _around(probability, place, threshold)
        tips.append(TracedTip(number == 0, float(place[0]), float(place[1]), surety))
    nodes = inside.nodes(graph, graph.nodes())
    return TracedCrack(
        first_row=top,
        first_col=left,
        mask=part.image,
        skeleton=graph.points(nodes),
        length_px=max(length_px, 1.0),
        mean_width_px=float(part.area) / max(graph.length_px(nodes), length_px, 1.0),
        max_width_px=max(1.0, 2.0 * float(thinned.half_width_px.max()) - 1.0),
        tips=tuple(tips),
    )


@dataclass(frozen=True, slots=True)
class _Inside:
    """What of a skeleton lies in the picture."""

    shape: tuple[int, ...]

    def nodes(self, graph: Skeleton, nodes: Sequence[int]) -> list[int]:
        """Those in the picture, in their order."""
        points = graph.points(nodes)
        there = np.flatnonzero(np.all((points >= 0) & (points < self.shape), axis=1))
        return [nodes[place] for place in there.tolist()]

    def leaves(self, graph: Skeleton, end: int) -> bool:
        """Whether an end lies at the picture's border or beyond."""
        (point,) = graph.points([end])
        return bool(((point <= 0) | (point >= np.array(self.shape) - 1)).any())


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without its small holes; what reaches its box's edge is no hole."""
    from skimage.measure import label, regionprops

    filled = mask.copy()
    for hole in regionprops(label(~np.pad(mask, 1), connectivity=1)):
        top, left, bottom, right = hole.bbox
        if top > 0 and hole.area < _HOLE_PX:  # the box's surroundings begin at row 0
            filled[top - 1 : bottom - 1, left - 1 : right - 1] |= hole.image
    return filled


def _route(graph: Skeleton, ends: Sequence[int], at_border: Sequence[bool]) -> tuple[list[int], list[list[int]]]:
    """The longest path from the root, and the way inwards from each tip, the main tip first."""
    if not ends:  # a ring
        return graph.nodes()[:1], []
    border = [end for end, there in zip(ends, at_border, strict=True) if there]
    inner = [end for end in ends if end not in border]
    # What comes in at the border needs no mouth: its ends are tips, however blunt.
    root = max(border or ends, key=lambda end: (_wide_px(graph, end), -end))
    distance, before = graph.paths_from(root)
    farthest = max(ends, key=lambda end: (distance[end], -end))
    tips = inner
    if not border and _is_mouth(graph, root, farthest):
        # The skeleton may run into both corners of a mouth.
        corner_px = 4.0 * _blunt_px(graph, root)
        tips = [end for end in inner if distance[end] > corner_px]
    tips.sort(key=lambda end: (-distance[end], end))
    last = tips[0] if tips else farthest
    if tips == [root]:  # a single pixel
        return [root], [[root]]
    inwards = {tip: walk_back(before, tip)[::-1] for tip in tips}
    if root in inwards:
        inwards[root] = inwards[last][::-1]
    return walk_back(before, last), [inwards[tip] for tip in tips]


def _is_mouth(graph: Skeleton, root: int, farthest: int) -> bool:
    blunt_px, other_px = _blunt_px(graph, root), _blunt_px(graph, farthest)
    flared = _wide_px(graph, root) >= FLARED_RATIO * _wide_px(graph, farthest)
    return flared or blunt_px >= max(MOUTH_PX, MOUTH_RATIO * other_px)


def _wide_px(graph: Skeleton, end: int) -> float:
    """Mean half width of the crack on its way to an end."""
    distance, _ = graph.paths_from(end)
    return float(graph.half_width_px(np.flatnonzero(distance <= ROOT_PX).tolist()).mean())


def _blunt_px(graph: Skeleton, end: int) -> float:
    """Half width of the largest disc to which an end is a corner."""
    nodes = graph.nodes()
    half_width = graph.half_width_px(nodes)
    away = np.hypot(*(graph.points(nodes) - graph.points([end])).T)
    return float(half_width[away <= np.maximum(CORNER_RATIO * half_width, 0.5)].max())


def smooth_length_px(points: NDArray[np.intp]) -> float:
    """Length of a path of pixels, whose stairs are smoothed first: a straight line has its own length at any angle.

    >>> round(smooth_length_px(np.array([(row, row // 3) for row in range(61)])), 1)
    63.3
    """
    if len(points) < 2:
        return 0.0
    half = min(_SMOOTHED_PX // 2 * 2, (len(points) - 1) // 2)
    window = np.ones(2 * half + 1) / (2 * half + 1)
    ends = np.pad(points.astype(np.float64), ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
    smooth = np.stack([np.convolve(ends[:, axis], window, mode="valid") for axis in (0, 1)], axis=1)
    return float(np.hypot(*np.diff(smooth, axis=0).T).sum())


def _run_out(
    probability: NDArray[np.uint8], inwards: NDArray[np.intp], half_width_px: float, threshold: float
) -> NDArray[np.float64]:
    """Go on from a skeleton's end, in its own direction, until the probability falls below the threshold.

    The last pixels of a skeleton turn into a corner of the mask, so the way begins a half width before them.

    Args:
        probability: (H, W) uint8.
        inwards: (n, 2) the skeleton's pixels, from its end on.
        half_width_px: Of the crack there.
        threshold: 0..1.
    """
    half = round(half_width_px) + 1 if half_width_px >= _HOOKED_PX else 0
    near, far = (inwards[min(place, len(inwards) - 1)].astype(np.float64) for place in (half, half + _DIRECTION_PX))
    ahead = (near - far) / max(1e-9, float(np.hypot(*(near - far))))
    place = _beyond(probability, near, ahead, threshold)
    if float(np.hypot(*(place - inwards[0]))) <= half + _HOOK_PX:
        return place
    # The crack bends just there.
    near = inwards[0].astype(np.float64)
    ahead = (near - far) / max(1e-9, float(np.hypot(*(near - far))))
    return _beyond(probability, near, ahead, threshold)


def _beyond(
    probability: NDArray[np.uint8], start: NDArray[np.float64], ahead: NDArray[np.float64], threshold: float
) -> NDArray[np.float64]:
    """Where the probability falls below the threshold, on a straight way."""
    level, place = 255.0 * threshold, start
    before = _sample(probability, start)
    while before >= level and ahead.any():
        further = place + _STEP_PX * ahead
        value = _sample(probability, further)
        if value < level:
            return place + _STEP_PX * ahead * (before - level) / max(before - value, 1e-9)
        place, before = further, value
    return place


def _sample(probability: NDArray[np.uint8], place: NDArray[np.float64]) -> float:
    """Bilinear, 0 beyond the picture."""
    row, col = int(np.floor(place[0])), int(np.floor(place[1]))
    down, right = float(place[0]) - row, float(place[1]) - col
    total = 0.0
    for rows, weight in ((row, 1.0 - down), (row + 1, down)):
        for cols, share in ((col, 1.0 - right), (col + 1, right)):
            if 0 <= rows < probability.shape[0] and 0 <= cols < probability.shape[1]:
                total += weight * share * float(probability[rows, cols])
    return total


def _around(probability: NDArray[np.uint8], place: NDArray[np.float64], threshold: float) -> float:
    """Mean probability of the mask's pixels around a tip, 0..1."""
    rows = slice(max(0, round(float(place[0]) - AROUND_PX)), round(float(place[0]) + AROUND_PX) + 1)
    cols = slice(max(0, round(float(place[1]) - AROUND_PX)), round(float(place[1]) + AROUND_PX) + 1)
    window = probability[rows, cols]
    counting = window[window >= level_of(threshold)]
    return float(counting.mean()) / 255.0 if counting.size else threshold
