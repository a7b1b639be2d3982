from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import ndimage

from runtime.heads.components import Part
from runtime.heads.stitch import DefectTracker, FramePlace, Tracked
from runtime.heads.strip import StripSettings, find_parts
from runtime.messages import Defect
from runtime.rle import decode

ANY_TOUCH = np.ones((3, 3))


def settings(minimum: int = 1, rule: str = "component", classes: int = 1) -> StripSettings:
    return StripSettings(
        class_names=tuple(f"class {number}" for number in range(1, classes + 1)),
        pixel_thresholds=(0.5,) * classes,
        min_size_px=(minimum,) * classes,
        min_size_rule=rule,
    )


def parts_of(mask: np.ndarray, using: StripSettings) -> list[Part]:
    planes = mask if mask.ndim == 3 else mask[None]
    return find_parts(np.where(planes, 255, 0).astype(np.uint8), 1.0, using)


def track(tall: np.ndarray, height: int, using: StripSettings, mm_per_px: float = 1.0) -> list[Tracked]:
    """Cut a tall (C, rows, cols) mask into frames and follow its defects; a row lies at its number in mm."""
    tracker = DefectTracker(using, mm_per_px)
    frames = []
    for index in range(tall.shape[-2] // height):
        mask = tall[..., index * height : (index + 1) * height, :]
        place = FramePlace(index, height, tall.shape[-1], index * height * mm_per_px / 1e3)
        frames.append(tracker.add(place, parts_of(mask, using)))
    return frames


def last_words(frames: list[Tracked]) -> dict[int, Defect]:
    """The last record of each defect that did not turn out to be another one."""
    last = {defect.defect_id: defect for frame in frames for defect in frame.defects}
    gone = {number for defect in last.values() for number in defect.joined_ids}
    return {number: defect for number, defect in last.items() if number not in gone}


def picture(text: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in line] for line in text.split()])


@st.composite
def tall_masks(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    height = draw(st.integers(1, 6))
    rows, cols = height * draw(st.integers(1, 5)), draw(st.integers(1, 9))
    density = draw(st.sampled_from([0.1, 0.3, 0.5, 0.7]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random((2, rows, cols)) < density, height


@examples(deadline=None)
@given(tall_masks(), st.integers(1, 6))
def test_cutting_a_strip_into_frames_changes_no_defect(tall: tuple[np.ndarray, int], minimum: int) -> None:
    mask, height = tall
    frames = track(mask, height, settings(minimum, classes=2))
    found = sorted(
        (
            defect.class_id,
            defect.strip_box.along_first_mm,
            defect.strip_box.along_stop_mm,
            defect.strip_box.across_first_mm,
            defect.strip_box.across_stop_mm,
            defect.total_area_px,
        )
        for defect in last_words(frames).values()
        if defect.strip_box is not None
    )
    expected = []
    for number, plane in enumerate(mask):
        labels, _ = ndimage.label(plane, ANY_TOUCH)
        for label, (rows, cols) in enumerate(ndimage.find_objects(labels), start=1):
            area = int((labels == label).sum())
            if area >= minimum:
                expected.append((number + 1, rows.start, rows.stop, cols.start, cols.stop, area))
    assert [tuple(map(round, row)) for row in found] == sorted(expected)
    counted = sum(count for frame in frames for count in frame.new_defects.values())
    assert counted == len(expected)


@examples(deadline=None)
@given(tall_masks())
def test_each_frame_reports_every_pixel_once(tall: tuple[np.ndarray, int]) -> None:
    mask, height = tall
    for index, frame in enumerate(track(mask, height, settings(classes=2))):
        shown = np.zeros((2, height, mask.shape[2]), dtype=int)
        for defect in frame.defects:
            part = decode(defect.rle, (height, mask.shape[2]))
            shown[defect.class_id - 1] += part
            assert part.sum() == defect.area_px
            rows, cols = np.nonzero(part)
            box = defect.box
            assert (rows.min(), cols.min()) == (box.first_row, box.first_col)
            assert (rows.max() + 1, cols.max() + 1) == (box.stop_row, box.stop_col)
            assert defect.reaches_bottom == (box.stop_row == height)
        assert np.array_equal(shown, mask[:, index * height : (index + 1) * height].astype(int))
        assert len({defect.defect_id for defect in frame.defects}) == len(frame.defects)


def test_a_defect_over_three_frames_is_one() -> None:
    tall = picture("..... ..#.. ..#.. .##.. ..#.. .....")
    frames = track(tall, 2, settings(), mm_per_px=0.5)
    records = [frame.defects[0] for frame in frames]
    assert [record.defect_id for record in records] == [1, 1, 1]
    assert [record.area_px for record in records] == [1, 3, 1]
    assert [record.total_area_px for record in records] == [1, 4, 5]
    assert [record.continues_above for record in records] == [False, True, True]
    assert [record.reaches_bottom for record in records] == [True, True, False]
    assert records[2].area_mm2 == 0.25
    assert records[2].strip_box is not None
    assert records[2].strip_box.model_dump() == {
        "along_first_mm": 0.5,
        "along_stop_mm": 2.5,
        "across_first_mm": 0.5,
        "across_stop_mm": 1.5,
    }
    assert [dict(frame.new_defects) for frame in frames] == [{"class 1": 1}, {}, {}]


@examples(deadline=None)
@given(tall_masks(), st.integers(1, 6), st.data())
def test_another_bundle_of_the_same_classes_goes_on_with_every_defect(
    tall: tuple[np.ndarray, int], minimum: int, data: st.DataObject
) -> None:
    mask, height = tall
    using = settings(minimum, classes=2)
    swap_at = data.draw(st.integers(0, mask.shape[1] // height))
    tracker, frames = DefectTracker(using, 1.0), []
    for index in range(mask.shape[1] // height):
        if index == swap_at:
            tracker, before = DefectTracker(using, 1.0), tracker
            tracker.follow(before)
        rows = mask[:, index * height : (index + 1) * height]
        frames.append(
            tracker.add(FramePlace(index, height, mask.shape[2], index * height / 1e3), parts_of(rows, using))
        )
    assert frames == track(mask, height, using)


def test_a_bundle_of_other_classes_ends_every_defect_and_counts_the_ids_on() -> None:
    frame = FramePlace(0, 2, 5)
    before = DefectTracker(settings(classes=1))
    assert before.add(frame, parts_of(picture("..#.. ..#.."), settings())).defects[0].defect_id == 1
    after = DefectTracker(settings(classes=2))
    after.follow(before)
    (defect,) = after.add(FramePlace(1, 2, 5), parts_of(picture("..#.. ....."), settings())).defects
    assert (defect.defect_id, defect.continues_above) == (2, False)


def test_corners_touch_across_a_border() -> None:
    frames = track(picture("#.... .#..#"), 1, settings())
    assert [defect.defect_id for defect in frames[1].defects] == [1, 2]


def test_the_sides_of_a_frame_do_not_touch() -> None:
    frames = track(picture("....# #...."), 1, settings())
    assert [defect.defect_id for defect in frames[1].defects] == [2]


def test_a_u_joins_two_ids_and_the_lowest_lives_on() -> None:
    tall = picture("#...#.. #...#.# #####.# ......#")
    frames = track(tall, 1, settings())
    assert [defect.defect_id for defect in frames[1].defects] == [1, 2, 3]
    joined, other = frames[2].defects
    assert (joined.defect_id, joined.joined_ids, joined.total_area_px) == (1, (2,), 9)
    assert (other.defect_id, other.joined_ids) == (3, ())
    assert [dict(frame.new_defects) for frame in frames] == [{"class 1": 2}, {"class 1": 1}, {"class 1": -1}, {}]


def test_parts_beside_each_other_can_join_what_lies_above() -> None:
    """Neither part below touches all three, yet together they are one."""
    tall = picture("#..#..# ##.#### #......")
    apart = picture("##.##.## ..#..#.. ........")
    assert len(track(tall, 1, settings())[1].defects) == 2
    (record,) = track(apart, 1, settings())[1].defects
    assert (record.defect_id, record.joined_ids, record.area_px) == (1, (2, 3), 2)


def test_two_parts_of_one_defect_are_one_record() -> None:
    frames = track(picture("##### #...# #...#"), 1, settings())
    (record,) = frames[1].defects
    assert (record.area_px, record.box.first_col, record.box.stop_col) == (2, 0, 5)
    assert record.rle == "1 1 5 1"
    (record,) = frames[2].defects
    assert (record.defect_id, record.total_area_px) == (1, 9)


def test_classes_do_not_join() -> None:
    tall = np.stack([picture("## .."), picture(".. ##")])
    frames = track(tall, 1, settings(classes=2))
    assert [(defect.defect_id, defect.class_id) for frame in frames for defect in frame.defects] == [(1, 1), (2, 2)]


def test_a_small_part_waits_at_the_border_until_it_has_grown() -> None:
    tall = picture("..#.. ..#.. ####. ..... ..#..")
    frames = track(tall, 1, settings(minimum=5))
    assert [len(frame.defects) for frame in frames] == [0, 0, 1, 0, 0]
    (record,) = frames[2].defects
    assert (record.defect_id, record.area_px, record.total_area_px) == (1, 4, 6)
    assert record.continues_above
    assert record.strip_box is not None
    assert (record.strip_box.along_first_mm, record.strip_box.along_stop_mm) == (0, 3)


def test_once_published_a_defect_is_reported_to_its_end() -> None:
    frames = track(picture("##### ..#.. ....."), 1, settings(minimum=5))
    assert [defect.defect_id for frame in frames for defect in frame.defects] == [1, 1]


def test_a_candidate_that_joins_a_published_one_takes_no_id() -> None:
    frames = track(picture("###.#. ######"), 1, settings(minimum=3))
    (record,) = frames[1].defects
    assert (record.defect_id, record.joined_ids, record.total_area_px) == (1, (), 10)
    assert [dict(frame.new_defects) for frame in frames] == [{"class 1": 1}, {}]


def test_the_class_total_counts_a_class_together() -> None:
    tall = picture("#.#.# ..... #...# .....")
    frames = track(tall, 2, settings(minimum=3, rule="class_total"))
    assert [len(frame.defects) for frame in frames] == [3, 0]


def test_the_class_total_counts_what_came_from_above() -> None:
    frames = track(picture("..... .##.. .##.. ....."), 2, settings(minimum=4, rule="class_total"))
    assert [len(frame.defects) for frame in frames] == [0, 1]


@pytest.mark.parametrize("how", ["gap", "jump", "clean frame"])
def test_a_defect_does_not_go_on_over_a_hole(how: str) -> None:
    using = settings()
    tracker = DefectTracker(using)
    mask = picture("..#..")
    tracker.add(FramePlace(0, 1, 5), parts_of(mask, using))
    index = 1
    if how == "gap":
        tracker.gap()
    elif how == "jump":
        index = 2
    else:
        tracker.add(FramePlace(1, 1, 5), [])
        index = 2
    (record,) = tracker.add(FramePlace(index, 1, 5), parts_of(mask, using)).defects
    assert (record.defect_id, record.continues_above) == (2, False)


def test_without_scale_or_position_there_are_no_millimetres() -> None:
    using = settings()
    for scale, position in ((None, 0.0), (1.0, math.nan)):
        place = FramePlace(0, 1, 5, position)
        (record,) = DefectTracker(using, scale).add(place, parts_of(picture("..#.."), using)).defects
        assert record.strip_box is None
        assert (record.area_mm2 is None) == (scale is None)


def test_the_probability_is_the_mean_over_the_pixels_of_the_frame() -> None:
    using = settings()
    plane = np.array([[0, 255, 153, 0, 0]], np.uint8)
    (record,) = DefectTracker(using).add(FramePlace(0, 1, 5), find_parts(plane[None], 1.0, using)).defects
    assert record.probability == pytest.approx(0.8)
