"""An endless strip of synthetic steel whose defects are known.

The strip is a pure function of its seed and settings: any frame can be made first, again or in another
process, and comes out the same. Defects are drawn for each stretch of one frame's height by a generator of
its own, so a frame needs only the few stretches above it.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from camera.base import CameraError
from camera.steel.planted import DEFECTS, LOOK_ALIKES, Patch, Shape
from camera.steel.surface import Floats, Surface

GENERATOR = 1
"""Version of what is drawn. A change that moves pixels or truth raises it: rendered strips are kept under it."""

LEAST_SIZE_PX = 64
_STREAM_DEFECT, _STREAM_LOOK_ALIKE, _STREAM_SENSOR = 11, 12, 13
_IDS_PER_STRETCH = 1000  # far above what a stretch can hold, so ids rise along the strip
_CLASS_SHARE = {1: 0.18, 2: 0.16, 3: 0.44, 4: 0.22}  # scratches are the commonest, as on real strip
# Defects come in company, which leaves about half of the frames clean at the usual rate.
_GROUP_SHARE = {1: 0.5, 2: 0.24, 3: 0.16, 4: 0.1}
_GROUP_MEAN = sum(size * share for size, share in _GROUP_SHARE.items())
_EDGE_MARGIN_PX = 6.0
_CACHED_MARKS = 48


@dataclass(frozen=True, slots=True)
class PlantedDefect:
    """One defect of the strip.

    Attributes:
        defect_id: Unique along the strip, rising with the stretch in which the defect starts.
        class_id: 1 pitting, 2 inclusion, 3 scratch, 4 corrosion.
        first_row: First strip row with a truth pixel; row 0 is the start of the strip.
        stop_row: One past the last strip row.
        first_col: First column with a truth pixel.
        stop_col: One past the last column.
        area_px: Truth pixels.
    """

    defect_id: int
    class_id: int
    first_row: int
    stop_row: int
    first_col: int
    stop_col: int
    area_px: int


@dataclass(frozen=True, slots=True)
class StripFrame:
    """One frame with its truth.

    Attributes:
        pixels: (H, W) uint8.
        truth: (4, H, W) bool, channels 0..3 are classes 1..4.
    """

    pixels: NDArray[np.uint8]
    truth: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Mark:
    """A patch in its place on the strip; `planted` is None for a harmless one."""

    first_row: int
    first_col: int
    gain: Floats
    truth: NDArray[np.bool_] | None
    planted: PlantedDefect | None


@dataclass(frozen=True, slots=True)
class _Sowing:
    """Where a mark starts and what draws it, before the costly drawing."""

    mark_id: int
    class_id: int  # 0 for a harmless mark
    shape: Shape
    first_row: int
    height_px: int
    place_ratio: float  # across the visible strip
    seed: int


def _pick(rng: np.random.Generator, shares: dict[int, float]) -> int:
    """One of the keys, by its share; many times faster than `Generator.choice`."""
    return tuple(shares)[bisect(tuple(accumulate(shares.values())), float(rng.random()), hi=len(shares) - 1)]


class SyntheticStrip:
    """Frames of an endless strip, with the truth of every planted defect.

    Args:
        seed: 0 or more; the strip's identity.
        height_px: Rows of a frame, along the travel.
        width_px: Columns of a frame, across the strip.
        defects_per_frame: Mean number of defects that start in a frame; 0 gives a clean strip.
        look_alikes_per_frame: Mean number of harmless marks that start in a frame.

    Raises:
        CameraError: A setting is out of range.
    """

    def __init__(
        self,
        seed: int,
        *,
        height_px: int = 256,
        width_px: int = 1600,
        defects_per_frame: float = 0.7,
        look_alikes_per_frame: float = 1.0,
    ) -> None:
        if seed < 0:
            raise CameraError(f"synthetic strip: seed is {seed}, expected 0 or more. Choose another seed.")
        if min(height_px, width_px) < LEAST_SIZE_PX:
            raise CameraError(
                f"synthetic strip: frames of {height_px}x{width_px} px, expected {LEAST_SIZE_PX} px or more "
                "each way. Set a larger height_px or width_px."
            )
        if not (0.0 <= defects_per_frame <= 50.0 and 0.0 <= look_alikes_per_frame <= 50.0):
            raise CameraError(
                f"synthetic strip: {defects_per_frame} defects and {look_alikes_per_frame} look-alikes per "
                "frame, expected 0 to 50 of each. Set them within that."
            )
        self.height_px = height_px
        self.width_px = width_px
        self._seed = seed
        self._scale = min(1.0, max(height_px / 256.0, width_px / 1600.0))
        self._rates = {_STREAM_DEFECT: defects_per_frame, _STREAM_LOOK_ALIKE: look_alikes_per_frame}
        longest = max(shape.rows[1] for shape in (*DEFECTS.values(), *LOOK_ALIKES))
        self._reach = math.ceil((longest * self._scale + 1.0) / height_px)
        self._surface = Surface(seed, width_px, self._scale)
        self._drawn: OrderedDict[tuple[int, int], _Mark | None] = OrderedDict()

    def frame(self, index: int) -> StripFrame:
        """Frame `index` (0 or more) with its truth, in arrays of its own."""
        truth = np.zeros((4, self.height_px, self.width_px), np.bool_)
        pixels = np.empty((self.height_px, self.width_px), np.uint8)
        self._draw(index, pixels, truth)
        return StripFrame(pixels, truth)

    def pixels(self, index: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The picture of frame `index` alone, (H, W) uint8, written to `out` where one is given."""
        if out is None:
            out = np.empty((self.height_px, self.width_px), np.uint8)
        self._draw(index, out, None)
        return out

    def planted(self, first: int, stop: int) -> tuple[PlantedDefect, ...]:
        """The defects with a truth pixel in frames [first, stop), each at its whole extent, by rising id."""
        if stop <= first:
            return ()
        rows = range(first * self.height_px, stop * self.height_px)
        return tuple(
            mark.planted
            for mark in self._marks(first, stop, _STREAM_DEFECT)
            if mark.planted is not None and mark.planted.first_row < rows.stop and mark.planted.stop_row > rows.start
        )

    def _draw(self, index: int, out: NDArray[np.uint8], truth: NDArray[np.bool_] | None) -> None:
        if index < 0:
            raise CameraError(f"synthetic strip: frame {index} was asked for, expected 0 or more.")
        first = index * self.height_px
        stop = first + self.height_px
        steel = self._surface.rows(first, stop)
        for stream in (_STREAM_LOOK_ALIKE, _STREAM_DEFECT):
            for mark in self._marks(index, index + 1, stream):
                height, width = mark.gain.shape
                begin, end = max(first, mark.first_row), min(stop, mark.first_row + height)
                if begin >= end:
                    continue
                there = (slice(begin - first, end - first), slice(mark.first_col, mark.first_col + width))
                here = slice(begin - mark.first_row, end - mark.first_row)
                steel[there] *= mark.gain[here]
                if truth is not None and mark.truth is not None and mark.planted is not None:
                    truth[mark.planted.class_id - 1][there] |= mark.truth[here]
        self._add_background(index, first, stop, steel)
        np.clip(steel, 0.0, 255.0, out=steel)
        np.copyto(out, steel, casting="unsafe")

    def _add_background(self, index: int, first: int, stop: int, steel: Floats) -> None:
        """Blacken what lies beyond the strip's edges, in place."""
        left, right = self._surface.edges(first, stop)
        rng = np.random.default_rng((self._seed, _STREAM_SENSOR, index))
        shade_px = 40.0 * self._scale
        columns = np.arange(self.width_px, dtype=np.float32)
        for edge, outward, span in (
            (left, -1.0, slice(0, max(0, math.ceil(float(left.max()) + shade_px)))),
            (right, 1.0, slice(max(0, math.floor(float(right.min()) - shade_px)), self.width_px)),
        ):
            beyond = outward * (columns[None, span] - edge[:, None])
            if beyond.size == 0 or float(beyond.max()) < -shade_px / 2:
                continue
            # The light falls off towards the edge, which is rounded.
            steel[:, span] *= 1.0 - 0.3 * np.exp(np.minimum(beyond / (9.0 * self._scale), 0.0))
            dark = np.clip(0.5 + 0.7 * beyond, 0.0, 1.0)
            night = 4.0 + 1.3 * rng.standard_normal(dark.shape, dtype=np.float32)
            steel[:, span] += dark * (night - steel[:, span])

    def _marks(self, first: int, stop: int, stream: int) -> Iterator[_Mark]:
        """The marks that may reach into frames [first, stop), in the order in which they are laid."""
        for stretch in range(max(0, first - self._reach), stop):
            for sowing in self._sow(stretch, stream):
                if sowing.first_row + sowing.height_px > first * self.height_px:
                    mark = self._render(sowing, stream)
                    if mark is not None:
                        yield mark

    def _sow(self, stretch: int, stream: int) -> Iterator[_Sowing]:
        """What starts in one frame's height of strip."""
        rng = np.random.default_rng((self._seed, stream, stretch))
        defects = stream == _STREAM_DEFECT
        number = 0
        for _ in range(int(rng.poisson(self._rates[stream] / (_GROUP_MEAN if defects else 1.0)))):
            size = _pick(rng, _GROUP_SHARE) if defects else 1
            class_id = _pick(rng, _CLASS_SHARE) if defects else 0
            shape = DEFECTS[class_id] if defects else LOOK_ALIKES[int(rng.integers(len(LOOK_ALIKES)))]
            for _ in range(size):
                yield _Sowing(
                    mark_id=stretch * _IDS_PER_STRETCH + number,
                    class_id=class_id,
                    shape=shape,
                    first_row=stretch * self.height_px + int(rng.integers(self.height_px)),
                    height_px=shape.height_px(rng, self._scale),
                    place_ratio=float(rng.random()),
                    seed=int(rng.integers(2**62)),
                )
                number += 1

    def _render(self, sowing: _Sowing, stream: int) -> _Mark | None:
        """Draw a mark and put it on the steel; None where no truth pixel fits between the edges."""
        key = (stream, sowing.mark_id)
        if key in self._drawn:
            self._drawn.move_to_end(key)
            return self._drawn[key]
        rng = np.random.default_rng(sowing.seed)
        patch = sowing.shape.draw(rng, self._surface, self._scale, sowing.height_px)
        mark = self._place(sowing, patch)
        self._drawn[key] = mark
        if len(self._drawn) > _CACHED_MARKS:
            self._drawn.popitem(last=False)
        return mark

    def _place(self, sowing: _Sowing, patch: Patch) -> _Mark | None:
        height, width = patch.gain.shape
        left, right = self._surface.edges(sowing.first_row, sowing.first_row + height)
        low = math.ceil(max(0.0, float(left.max()) + _EDGE_MARGIN_PX))
        high = math.floor(min(float(self.width_px), float(right.min()) - _EDGE_MARGIN_PX))
        if high <= low:
            return None
        first_col = low + round(sowing.place_ratio * max(0, high - low - width))
        width = min(width, high - first_col)
        gain = patch.gain[:, :width]
        if patch.truth is None:
            return _Mark(sowing.first_row, first_col, gain, None, None)
        truth = patch.truth[:, :width]
        rows, cols = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
        if rows.size == 0:
            return None
        planted = PlantedDefect(
            defect_id=sowing.mark_id,
            class_id=sowing.class_id,
            first_row=sowing.first_row + int(rows[0]),
            stop_row=sowing.first_row + int(rows[-1]) + 1,
            first_col=first_col + int(cols[0]),
            stop_col=first_col + int(cols[-1]) + 1,
            area_px=int(np.count_nonzero(truth)),
        )
        return _Mark(sowing.first_row, first_col, gain, truth, planted)
