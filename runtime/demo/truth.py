"""What a synthetic strip truly had on it, held against what the line reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from runtime import rle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from camera.steel.strip import PlantedDefect, SyntheticStrip
    from runtime.messages import Defect, Inspected

FOUND_SHARE = 0.25
"""A planted defect counts as found when reported masks cover this share of its true pixels."""

REACH_PX = 12
"""A reported defect counts as a false alarm when no true pixel lies within this distance of its mask's box."""


@dataclass(slots=True)
class _Whole:
    """One reported defect over all its frames."""

    first: Defect
    parts: list[tuple[int, Defect]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The books of a demo strip.

    Attributes:
        planted: Every planted defect with pixels in an inspected frame.
        found: Ids of the planted defects that were found.
        right_class: Ids of those that were found under their own class.
        false_alarms: Reported defects (the last part of each) that lie on clean steel.
        false_alarms_on_clean: How many of them lie on a frame without a true pixel.
        frames_clean: Inspected frames without a true pixel.
    """

    planted: tuple[PlantedDefect, ...]
    found: frozenset[int]
    right_class: frozenset[int]
    false_alarms: tuple[tuple[int, Defect], ...]
    false_alarms_on_clean: int
    frames_clean: int


def compare(strip: SyntheticStrip, inspected: Sequence[Inspected], height_px: int) -> Comparison:
    """Hold the reported masks against the true ones, pixel by pixel.

    Args:
        strip: The strip as it was made.
        inspected: The messages of its frames, any order; the frame's index is its place on the strip.
        height_px: Rows of a frame.

    Returns:
        Found, missed and false alarms. A defect is found by the pixels that any report covers, whatever its
        class; how often the class was right is counted apart.
    """
    frames = {message.frame_index: message for message in inspected}
    planted = tuple(p for p in _planted(strip, frames) if _rows_seen(p, frames, height_px))
    covered: dict[int, int] = defaultdict(int)
    covered_class: dict[int, int] = defaultdict(int)
    visible: dict[int, int] = defaultdict(int)
    wholes: dict[int, _Whole] = {}
    touching: set[int] = set()
    clean: set[int] = set()
    for index in sorted(frames):
        here = [p for p in planted if _touches(p, index, height_px)]
        message = frames[index]
        if not here:
            clean.add(index)
        if not here and not message.defects:
            continue
        truth = strip.frame(index).truth
        shape = truth.shape[1:]
        reported = np.zeros(truth.shape, dtype=bool)
        for defect in message.defects:
            mask = rle.decode(defect.rle, shape)
            reported[defect.class_id - 1] |= mask
            wholes.setdefault(defect.defect_id, _Whole(defect)).parts.append((index, defect))
            if truth[_around(defect, shape)].any():
                touching.add(defect.defect_id)
        any_class = reported.any(axis=0)
        for p in here:
            own = _own_pixels(truth, p, index, height_px)
            visible[p.defect_id] += int(own.sum())
            covered[p.defect_id] += int((own & any_class).sum())
            covered_class[p.defect_id] += int((own & reported[p.class_id - 1]).sum())
    counted = tuple(p for p in planted if visible[p.defect_id] > 0)
    false_alarms = tuple(w.parts[-1] for key, w in sorted(wholes.items()) if key not in touching)
    return Comparison(
        planted=counted,
        found=_at_least(covered, visible),
        right_class=_at_least(covered_class, visible),
        false_alarms=false_alarms,
        false_alarms_on_clean=sum(index in clean for index, _ in false_alarms),
        frames_clean=len(clean),
    )


def _at_least(covered: dict[int, int], visible: dict[int, int]) -> frozenset[int]:
    return frozenset(key for key, seen in visible.items() if seen and covered[key] >= FOUND_SHARE * seen)


def _planted(strip: SyntheticStrip, frames: dict[int, Inspected]) -> tuple[PlantedDefect, ...]:
    return strip.planted(min(frames), max(frames) + 1) if frames else ()


def _rows_seen(planted: PlantedDefect, frames: dict[int, Inspected], height_px: int) -> bool:
    return any(index in frames for index in range(planted.first_row // height_px, -(-planted.stop_row // height_px)))


def _touches(planted: PlantedDefect, index: int, height_px: int) -> bool:
    return planted.first_row < (index + 1) * height_px and planted.stop_row > index * height_px


def _own_pixels(truth: NDArray[np.bool_], planted: PlantedDefect, index: int, height_px: int) -> NDArray[np.bool_]:
    """(H, W) bool: the true pixels of one planted defect in one frame, by its class and its box."""
    own = np.zeros(truth.shape[1:], dtype=bool)
    first = max(0, planted.first_row - index * height_px)
    stop = min(height_px, planted.stop_row - index * height_px)
    box = np.s_[first:stop, planted.first_col : planted.stop_col]
    own[box] = truth[planted.class_id - 1][box]
    return own


def _around(defect: Defect, shape: tuple[int, int]) -> tuple[slice, slice, slice]:
    """The defect's box, widened by `REACH_PX`, over all classes."""
    box = defect.box
    rows = slice(max(0, box.first_row - REACH_PX), min(shape[0], box.stop_row + REACH_PX))
    return (
        slice(None),
        rows,
        slice(max(0, box.first_col - REACH_PX), min(shape[1], box.stop_col + REACH_PX)),
    )
