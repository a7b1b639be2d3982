"""Defects that cross frame borders: one defect, one id, whatever the camera cut."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from runtime.delivery.wire import Box
from runtime.heads.components import Part
from runtime.messages import Defect, StripBox
from runtime.rle import encode_crop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.heads.strip import StripSettings


@dataclass(frozen=True, slots=True)
class FramePlace:
    """Where a frame lies.

    Attributes:
        index: The camera's counter.
        height_px: Rows.
        width_px: Columns.
        position_m: Place along the strip of its first row, in metres; NaN where nobody measures it.
    """

    index: int
    height_px: int
    width_px: int
    position_m: float = math.nan


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a frame shows.

    Attributes:
        defects: One record a defect, by class and place.
        new_defects: By class name, how many more defects the run has than before; less than none where two
            turned out to be one.
    """

    defects: tuple[Defect, ...]
    new_defects: Mapping[str, int]


_NOTHING = Tracked((), MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class _Whole:
    """A defect so far; it is open while it touches the last row of the latest frame.

    Attributes:
        ids: Ids under which it was published, the lowest first, which is its own; none yet for a candidate.
        along_mm: First and stop along the strip; None without scale or position.
    """

    ids: tuple[int, ...]
    area_px: int
    first_col: int
    stop_col: int
    along_mm: tuple[float, float] | None


@dataclass(slots=True)
class _Group:
    """One defect in the frame at hand: its parts there, and the open defects that they go on from."""

    class_id: int
    parts: list[Part] = field(default_factory=list)
    earlier: list[_Whole] = field(default_factory=list)

    @property
    def box(self) -> Box:
        """The parts' box in the frame."""
        return Box(
            first_row=min(part.first_row for part in self.parts),
            first_col=min(part.first_col for part in self.parts),
            stop_row=max(part.stop_row for part in self.parts),
            stop_col=max(part.stop_col for part in self.parts),
        )

    @property
    def fused(self) -> int:
        """How many published defects are gone because they turned out to be one with another."""
        return max(0, sum(1 for whole in self.earlier if whole.ids) - 1)


class DefectTracker:
    """Follows defects through the consecutive frames of one run.

    Parts of a class that touch across a frame border, corners included, are one defect. Only what lies in the
    last row of a frame can go on in the next, so this row is all that is remembered; what has nothing below it
    there is closed, and a missed frame closes everything.

    The minimum size is asked of the whole defect so far: a part below it that reaches the last row is kept
    unpublished, and the defect is reported in the frame where it has grown to the minimum.

    Args:
        settings: Class names and minimum sizes.
        mm_per_px: Scale; None where nobody knows it.
    """

    def __init__(self, settings: StripSettings, mm_per_px: float | None = None) -> None:
        self._settings = settings
        self._mm_per_px = mm_per_px
        self._next_id = 1
        self._last: FramePlace | None = None
        self._open: list[_Whole] = []
        self._bottom: dict[int, NDArray[np.int32]] = {}

    def gap(self) -> None:
        """Close every open defect: the next frame does not continue the last one."""
        self._last = None
        self._open = []
        self._bottom = {}

    def follow(self, before: DefectTracker) -> None:
        """Go on where another bundle's tracker ends: ids count on, and so does a defect that the swap cuts.

        A defect that lies across the border is one defect where both bundles have the same classes: its part below is
        of the same class, and so has the same id. Where the classes differ, nobody can say that it is the same, and
        every defect ends at the swap, as at a missed frame.
        """
        self._next_id = before._next_id
        if before._settings.class_names == self._settings.class_names:
            self._last = before._last
            self._open = before._open
            self._bottom = before._bottom

    def add(self, place: FramePlace, parts: Sequence[Part]) -> Tracked:
        """Enter the next frame.

        Args:
            place: Where it lies; anything but the index after the last one is a gap.
            parts: What was found on it, of any class.
        """
        if not parts:  # most frames: nothing begins, nothing goes on
            self._last, self._open, self._bottom = place, [], {}
            return _NOTHING
        last = self._last
        if last is not None and (place.index, place.width_px) != (last.index + 1, last.width_px):
            self.gap()
        boxes = [(group, group.box) for group in self._grouped(parts)]
        boxes.sort(key=lambda pair: (pair[0].class_id, pair[1].first_row, pair[1].first_col))
        wholes = [self._whole(group, box, place) for group, box in boxes]
        totals: Counter[int] = Counter()
        for (group, _), whole in zip(boxes, wholes, strict=True):
            totals[group.class_id] += whole.area_px
        change: Counter[str] = Counter()
        defects: list[Defect] = []
        for number, (group, box) in enumerate(boxes):
            whole = wholes[number]
            name = self._settings.class_names[group.class_id - 1]
            change[name] -= group.fused
            if not whole.ids:
                if not self._large_enough(group.class_id, whole.area_px, totals[group.class_id]):
                    continue
                whole = wholes[number] = replace(whole, ids=(self._next_id,))
                self._next_id += 1
                change[name] += 1
            defects.append(self._record(group, box, whole, name, place))
        self._remember([group for group, _ in boxes], wholes, place)
        return Tracked(tuple(defects), {name: count for name, count in change.items() if count})

    def _grouped(self, parts: Sequence[Part]) -> list[_Group]:
        """The parts by defect; what one part joins, above it or beside it, is one."""
        group_of = list(range(len(self._open)))  # open defects that a part joins share the lowest number
        numbers: list[int | None] = []
        for part in parts:
            touched = sorted({group_of[key] for key in self._keys_above(part)})
            if len(touched) > 1:
                group_of = [touched[0] if number in touched else number for number in group_of]
            numbers.append(touched[0] if touched else None)
        joined: dict[int, _Group] = {}
        alone: list[_Group] = []
        for part, number in zip(parts, numbers, strict=True):
            if number is None:
                alone.append(_Group(part.class_id, [part]))
            else:
                joined.setdefault(group_of[number], _Group(part.class_id)).parts.append(part)
        for key, number in enumerate(group_of):
            if number in joined:
                joined[number].earlier.append(self._open[key])
        return [*joined.values(), *alone]

    def _keys_above(self, part: Part) -> list[int]:
        """Which open defects of its class the part's first row touches, corners included."""
        bottom = self._bottom.get(part.class_id)
        if bottom is None or part.first_row != 0:
            return []
        cols = np.flatnonzero(part.mask[0]) + part.first_col
        # `bottom` has an empty column at either side, so that column c of the frame lies at c + 1.
        touched = np.concatenate((bottom[cols], bottom[cols + 1], bottom[cols + 2]))
        return np.unique(touched[touched >= 0]).tolist()

    def _whole(self, group: _Group, box: Box, place: FramePlace) -> _Whole:
        """The defect with the frame's parts in it."""
        spans = [whole.along_mm for whole in group.earlier]
        if self._mm_per_px is None or math.isnan(place.position_m):
            spans.append(None)
        else:
            first_mm = place.position_m * 1e3
            spans.append((first_mm + box.first_row * self._mm_per_px, first_mm + box.stop_row * self._mm_per_px))
        known = [span for span in spans if span is not None]
        whole_known = len(known) == len(spans)
        return _Whole(
            ids=tuple(sorted(number for whole in group.earlier for number in whole.ids)),
            area_px=sum(part.area_px for part in group.parts) + sum(whole.area_px for whole in group.earlier),
            first_col=min([box.first_col, *(whole.first_col for whole in group.earlier)]),
            stop_col=max([box.stop_col, *(whole.stop_col for whole in group.earlier)]),
            along_mm=(min(a for a, _ in known), max(b for _, b in known)) if whole_known else None,
        )

    def _large_enough(self, class_id: int, area_px: int, class_total_px: int) -> bool:
        measured = {"component": area_px, "class_total": class_total_px}[self._settings.min_size_rule]
        return measured >= self._settings.min_size_px[class_id - 1]

    def _record(self, group: _Group, box: Box, whole: _Whole, name: str, place: FramePlace) -> Defect:
        scale = self._mm_per_px
        area_px = sum(part.area_px for part in group.parts)
        probability = sum(part.probability_sum for part in group.parts) / (255 * area_px)
        return Defect(
            defect_id=whole.ids[0],
            class_id=group.class_id,
            class_name=name,
            probability=min(1.0, probability),
            area_px=area_px,
            area_mm2=None if scale is None else area_px * scale * scale,
            total_area_px=whole.area_px,
            box=box,
            strip_box=None
            if scale is None or whole.along_mm is None
            else StripBox(
                along_first_mm=whole.along_mm[0],
                along_stop_mm=whole.along_mm[1],
                across_first_mm=whole.first_col * scale,
                across_stop_mm=whole.stop_col * scale,
            ),
            continues_above=bool(group.earlier),
            reaches_bottom=box.stop_row == place.height_px,
            joined_ids=whole.ids[1:],
            rle=encode_crop(_mask(group.parts, box), box.first_row, box.first_col, place.height_px),
        )

    def _remember(self, groups: Sequence[_Group], wholes: Sequence[_Whole], place: FramePlace) -> None:
        """Keep what touches the last row, and where."""
        self._last = place
        self._open = []
        self._bottom = {}
        for group, whole in zip(groups, wholes, strict=True):
            lowest = [part for part in group.parts if part.stop_row == place.height_px]
            if not lowest:
                continue
            if group.class_id not in self._bottom:
                self._bottom[group.class_id] = np.full(place.width_px + 2, -1, dtype=np.int32)
            for part in lowest:
                row = self._bottom[group.class_id][part.first_col + 1 : part.stop_col + 1]
                row[part.mask[-1]] = len(self._open)
            self._open.append(whole)


def _mask(parts: Sequence[Part], box: Box) -> NDArray[np.bool_]:
    """The pixels of all parts inside their common box."""
    if len(parts) == 1:
        return parts[0].mask
    mask = np.zeros((box.stop_row - box.first_row, box.stop_col - box.first_col), dtype=bool)
    for part in parts:
        rows = slice(part.first_row - box.first_row, part.stop_row - box.first_row)
        cols = slice(part.first_col - box.first_col, part.stop_col - box.first_col)
        mask[rows, cols] |= part.mask
    return mask
