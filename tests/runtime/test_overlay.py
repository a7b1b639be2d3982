from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from runtime.heads.stitch import DefectTracker, FramePlace
from runtime.heads.strip import StripSettings, find_parts
from runtime.messages import Defect
from runtime.overlay import HEADER_PX, LEAST_WIDTH_PX, MOST_LABELS, draw_overlay, render_overlay
from runtime.strip_map import CLASS_COLOURS

SETTINGS = StripSettings(class_names=("pit", "scratch"), pixel_thresholds=(0.5, 0.5), min_size_px=(1, 1))


def defects_of(planes: np.ndarray) -> tuple[Defect, ...]:
    probability = np.where(planes, 200, 0).astype(np.uint8)
    return DefectTracker(SETTINGS).add(FramePlace(0, *planes.shape[1:]), find_parts(probability, 1.0, SETTINGS)).defects


def colour_of(class_id: int) -> np.ndarray:
    text = CLASS_COLOURS[class_id - 1]
    return np.array([int(text[at : at + 2], 16) for at in (5, 3, 1)])


def test_defects_are_tinted_and_outlined_and_the_rest_is_left_alone() -> None:
    grey = np.full((200, 1000), 100, np.uint8)
    planes = np.zeros((2, 200, 1000), bool)
    planes[0, 60:160, 300:420] = True
    planes[1, 60:160, 600:720] = True
    picture = render_overlay(grey, defects_of(planes), heading="frame 7")
    assert picture.shape == (HEADER_PX + 200, 1000, 3)
    frame = picture[HEADER_PX:].astype(int)
    for class_id, col in ((1, 360), (2, 660)):
        tint = frame[110, col]
        assert np.abs(tint - (0.72 * 100 + 0.28 * colour_of(class_id))).max() <= 1
        edge = frame[110, col - 60]
        assert np.abs(edge - colour_of(class_id)).max() < 40
    assert (frame[180, ::10] == 100).all()
    assert (frame[:30] == 100).all()


def test_labels_and_legend_are_drawn_and_stay_in_the_picture() -> None:
    planes = np.zeros((2, 256, 1600), bool)
    planes[0, :20, :30] = planes[1, -20:, -30:] = True
    grey = np.full((256, 1600), 100, np.uint8)
    picture = render_overlay(grey, defects_of(planes), heading="x")
    bare = render_overlay(grey, (), heading="x")
    for class_id, where in ((1, np.s_[:80, :160]), (2, np.s_[-80:, -160:])):
        label = (picture[HEADER_PX:][where] == colour_of(class_id)).all(axis=2)
        assert label.sum() > 300
    assert not np.array_equal(picture[:HEADER_PX, 1200:], bare[:HEADER_PX, 1200:])
    assert np.array_equal(picture[:HEADER_PX, :200], bare[:HEADER_PX, :200])


def test_a_narrow_frame_is_enlarged_by_a_whole_factor() -> None:
    planes = np.zeros((2, 30, 50), bool)
    planes[0, 10:20, 10:20] = True
    picture = render_overlay(np.full((30, 50), 90, np.uint8), defects_of(planes))
    assert picture.shape == (HEADER_PX + 16 * 30, LEAST_WIDTH_PX, 3)


def test_many_defects_and_a_long_heading_are_legible_as_far_as_there_is_room() -> None:
    planes = np.zeros((2, 256, 1600), bool)
    planes[0, 5:250:10, 5:1590:10] = True
    defects = defects_of(planes)
    assert len(defects) > MOST_LABELS
    picture = render_overlay(np.full((256, 1600), 90, np.uint8), defects, heading="ünïcode/" * 60)
    labels = (picture[HEADER_PX:] == colour_of(1)).all(axis=2).sum()
    assert 0 < labels < picture[:, :, 0].size / 2


def test_the_file_is_what_was_rendered(tmp_path: Path) -> None:
    grey = np.arange(256 * 900, dtype=np.uint32).reshape(256, 900).astype(np.uint8)
    draw_overlay(grey, (), tmp_path / "deep/er.png", heading="nothing found")
    assert np.array_equal(cv2.imread(str(tmp_path / "deep/er.png")), render_overlay(grey, (), heading="nothing found"))
