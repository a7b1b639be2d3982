"""The synthetic strip is one strip however it is asked for, and its truth is where the marks are."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera.base import CameraError
from camera.steel.planted import DEFECTS, LOOK_ALIKES
from camera.steel.strip import GENERATOR, StripFrame, SyntheticStrip
from camera.steel.surface import Surface

LEAST_AREA_PX = {1: 600, 2: 600, 3: 1000, 4: 2000}


@pytest.fixture(scope="module")
def strip() -> SyntheticStrip:
    return SyntheticStrip(11)


@pytest.fixture(scope="module")
def small() -> SyntheticStrip:
    return SyntheticStrip(5, height_px=64, width_px=256)


def digest(frame: StripFrame) -> str:
    return hashlib.sha256(frame.pixels.tobytes() + frame.truth.tobytes()).hexdigest()


def test_frames_have_the_promised_shapes(strip: SyntheticStrip) -> None:
    frame = strip.frame(0)
    assert (frame.pixels.shape, frame.pixels.dtype) == ((256, 1600), np.uint8)
    assert (frame.truth.shape, frame.truth.dtype) == ((4, 256, 1600), np.bool_)


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(6)))
def test_the_order_of_asking_changes_nothing(small: SyntheticStrip, order: list[int]) -> None:
    fresh = SyntheticStrip(5, height_px=64, width_px=256)
    got = {index: digest(fresh.frame(index)) for index in order}
    assert got == {index: digest(small.frame(index)) for index in range(6)}


def test_another_process_draws_the_same_strip(small: SyntheticStrip) -> None:
    code = (
        "import hashlib; from camera.steel.strip import SyntheticStrip;"
        "frame = SyntheticStrip(5, height_px=64, width_px=256).frame(17);"
        "print(hashlib.sha256(frame.pixels.tobytes() + frame.truth.tobytes()).hexdigest())"
    )
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest(small.frame(17))


def test_another_seed_is_another_strip(small: SyntheticStrip) -> None:
    other = SyntheticStrip(6, height_px=64, width_px=256)
    assert not np.array_equal(other.pixels(0), small.pixels(0))


def test_pixels_fill_the_array_that_is_given(small: SyntheticStrip) -> None:
    out = np.zeros((64, 256), np.uint8)
    assert small.pixels(3, out) is out
    assert np.array_equal(out, small.frame(3).pixels)


def test_frames_join_without_a_seam(strip: SyntheticStrip) -> None:
    pictures = [strip.pixels(index).astype(np.int16) for index in range(20, 32)]
    inside = np.concatenate([np.abs(np.diff(picture, axis=0)).mean(axis=1) for picture in pictures])
    across = [np.abs(b[0] - a[-1]).mean() for a, b in pairwise(pictures)]
    assert max(across) < inside.max()
    assert np.mean(across) == pytest.approx(inside.mean(), rel=0.1)


def test_texture_does_not_repeat(strip: SyntheticStrip) -> None:
    surface = Surface(11, 1600, 1.0)
    spectra = []
    for index in range(8):
        rows = surface.rows(index * 256, index * 256 + 256)
        grain = rows[:, 1:] - rows[:, :-1]
        spectra.append(np.fft.rfft2((grain - grain.mean()) / grain.std()))
    for i, a in enumerate(spectra):
        for b in spectra[i + 1 :]:
            # The highest correlation at any shift: 1 for a copy, about 0.01 for independent grain.
            match = np.fft.irfft2(a * np.conj(b), s=(256, 1599)) / (256 * 1599)
            assert match.max() < 0.5


def test_truth_is_where_the_picture_differs(strip: SyntheticStrip) -> None:
    clean = SyntheticStrip(11, defects_per_frame=0.0)
    inside, outside = [], []
    for index in range(24):
        frame = strip.frame(index)
        assert not clean.frame(index).truth.any()
        change = np.abs(frame.pixels.astype(np.int16) - clean.pixels(index))
        truth = frame.truth.any(axis=0)
        inside.append(change[truth])
        outside.append(change[~truth])
    assert np.concatenate(inside).mean() > 5.0
    assert np.concatenate(outside).mean() < 0.1


def test_planted_defects_are_those_of_the_truth(strip: SyntheticStrip) -> None:
    first, stop = 30, 50
    rebuilt = np.concatenate([strip.frame(index).truth for index in range(first, stop)], axis=1)
    boxes = np.zeros_like(rebuilt)
    for defect in strip.planted(first, stop):
        rows = slice(max(0, defect.first_row - first * 256), max(0, defect.stop_row - first * 256))
        cols = slice(defect.first_col, defect.stop_col)
        boxes[defect.class_id - 1, rows, cols] = True
        region = rebuilt[defect.class_id - 1, rows, cols]
        assert region[0].any()
        assert region[-1].any()
        assert region[:, 0].any()
        assert region[:, -1].any()
        if first * 256 <= defect.first_row and defect.stop_row <= stop * 256:
            assert np.count_nonzero(region) >= defect.area_px
    assert not (rebuilt & ~boxes).any()


def test_a_defect_across_a_border_keeps_its_id(strip: SyntheticStrip) -> None:
    whole = strip.planted(0, 40)
    assert [defect.defect_id for defect in whole] == sorted({defect.defect_id for defect in whole})
    crossing = [d for d in whole if d.first_row // 256 != (d.stop_row - 1) // 256]
    assert crossing
    for defect in crossing:
        frames = range(defect.first_row // 256, (defect.stop_row - 1) // 256 + 1)
        assert all(defect in strip.planted(index, index + 1) for index in frames)
        assert all(strip.frame(index).truth[defect.class_id - 1].any() for index in frames)
        assert defect not in strip.planted(frames[0] - 1, frames[0])
        assert defect not in strip.planted(frames[-1] + 1, frames[-1] + 2)


def test_nothing_is_planted_beyond_the_edges() -> None:
    seen = 0
    for seed in range(3):
        strip = SyntheticStrip(seed, height_px=64, width_px=256, defects_per_frame=3.0)
        surface = Surface(seed, 256, 0.25)
        for index in range(0, 240, 6):
            frame = strip.frame(index)
            left, right = surface.edges(index * 64, index * 64 + 64)
            columns = np.arange(256)
            dark = (columns < left[:, None] - 1.0) | (columns > right[:, None] + 1.0)
            seen += int(dark.sum())
            assert not frame.truth[:, dark].any()
            assert frame.pixels[dark].max(initial=0) < 20
    assert seen > 0


def test_all_classes_come_and_are_large_enough_to_count(strip: SyntheticStrip) -> None:
    planted = strip.planted(0, 150)
    count = Counter(defect.class_id for defect in planted)
    assert set(count) == set(DEFECTS)
    assert count.most_common(1)[0][0] == 3
    large = [defect.area_px >= LEAST_AREA_PX[defect.class_id] for defect in planted]
    assert np.mean(large) > 0.95
    assert len(planted) / 150 == pytest.approx(0.7, abs=0.25)


def test_about_half_of_the_frames_are_defective() -> None:
    hit = np.zeros(600, bool)
    for defect in SyntheticStrip(1).planted(0, 600):
        hit[defect.first_row // 256 : (defect.stop_row - 1) // 256 + 1] = True
    assert 0.4 < hit.mean() < 0.62


def test_grey_values_are_those_of_real_strip() -> None:
    means, textures = [], []
    for seed in range(4):
        strip = SyntheticStrip(seed)
        for index in range(0, 200, 40):
            steel = strip.pixels(index).astype(np.float32)
            # Real frames: 50 to 210 on steel, neighbours along a row 1 to 6 grey levels apart at the median.
            means.append(float(steel[steel > 20].mean()))
            textures.append(float(np.median(np.abs(np.diff(steel, axis=1)))))
    assert min(means) > 30
    assert max(means) < 180
    assert 60 < np.mean(means) < 115
    assert min(textures) >= 1
    assert max(textures) <= 8


@pytest.mark.parametrize("size", [(64, 64), (64, 256), (256, 256), (96, 2048), (512, 640)])
def test_other_sizes_work(size: tuple[int, int]) -> None:
    strip = SyntheticStrip(2, height_px=size[0], width_px=size[1], defects_per_frame=4.0, look_alikes_per_frame=4.0)
    frame = strip.frame(5)
    assert frame.pixels.shape == size
    assert frame.truth.any()
    assert strip.planted(5, 6)
    assert strip.planted(5, 5) == ()


@pytest.mark.parametrize("scale", [0.25, 0.6, 1.0])
def test_no_shape_outgrows_the_height_that_it_was_told(scale: float) -> None:
    surface = Surface(1, 256, scale)
    rng = np.random.default_rng(3)
    for shape in (*DEFECTS.values(), *LOOK_ALIKES):
        for _ in range(6):
            height = shape.height_px(rng, scale)
            patch = shape.draw(rng, surface, scale, height)
            assert patch.gain.shape[0] <= height
            assert np.isfinite(patch.gain).all()
            assert patch.gain.min() > 0.0
            assert (patch.truth is not None) == (shape in DEFECTS.values())
            if patch.truth is not None:
                assert patch.truth.shape == patch.gain.shape
                assert patch.truth.any()


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 0, "width_px": 32}, "64 px"),
        ({"seed": 0, "defects_per_frame": -1.0}, "defects"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, float], word: str) -> None:
    with pytest.raises(CameraError, match=word):
        SyntheticStrip(**wrong)  # type: ignore[arg-type]


def test_there_is_nothing_before_the_strip(small: SyntheticStrip) -> None:
    with pytest.raises(CameraError, match="frame -1"):
        small.frame(-1)


DRAWN_BY = 1
"""The version of the generator that drew what follows."""
TRUTH_PX = [[0, 222, 951, 0], [0, 0, 1296, 890], [1032, 159, 726, 0]]
GREY = [
    [83.3, 86.4, 70.2, 114.3, 104.4, 84.0, 23.9, 3.5],
    [77.9, 78.5, 83.7, 112.7, 123.8, 104.1, 26.8, 3.5],
    [76.5, 72.6, 79.0, 115.0, 125.1, 126.8, 26.2, 3.5],
]
CONTRAST = [40.4, 44.8, 47.3]


def test_a_generator_that_draws_otherwise_has_another_version() -> None:
    """Rendered strips are kept by version: raise `GENERATOR`, and write here what it draws now.

    Means over areas, with room for the last digit of another CPU's arithmetic.
    """
    strip = SyntheticStrip(7, height_px=64, width_px=256, defects_per_frame=4.0, look_alikes_per_frame=4.0)
    frames = [strip.frame(index) for index in (1, 2, 4)]
    assert [frame.truth.sum((1, 2)).tolist() for frame in frames] == [pytest.approx(each, abs=4) for each in TRUTH_PX]
    assert [frame.pixels.reshape(64, 8, 32).mean((0, 2)).tolist() for frame in frames] == [
        pytest.approx(each, abs=0.3) for each in GREY
    ]
    assert [frame.pixels.std() for frame in frames] == pytest.approx(CONTRAST, abs=0.3)
    assert GENERATOR == DRAWN_BY
