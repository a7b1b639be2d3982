from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from camera.images import write_png
from export.calibration import open_calibration
from export.tasks.crack import draw_frames as draw_cracks
from export.tasks.strip import draw_frames as draw_strip
from runtime.errors import ConfigError, DataError

SIZE = (64, 96)


def test_synthetic_frames_are_those_of_their_seed() -> None:
    one, same, other = (
        open_calibration(f"synthetic={seed}", 2, SIZE, draw_strip, free_size=False) for seed in (5, 5, 6)
    )
    assert [frame.shape for frame in one.frames] == [(1, *SIZE)] * 2
    assert one.digest == same.digest != other.digest
    assert one.source == "synthetic=5, 2 frames"


def test_each_fourth_pipe_is_sound() -> None:
    assert draw_cracks(11, 4, SIZE).shape == (4, 1, *SIZE)


def test_a_folder_is_taken_evenly_and_cut_to_size(tmp_path: Path) -> None:
    for number in range(5):
        write_png(tmp_path / f"{number}.png", np.full((70, 100), number * 10, np.uint8))
    found = open_calibration(str(tmp_path), 3, SIZE, None, free_size=False)
    assert [int(frame[0, 0, 0]) for frame in found.frames] == [0, 20, 40]
    assert {frame.shape for frame in found.frames} == {(1, *SIZE)}
    whole = open_calibration(str(tmp_path), 9, SIZE, None, free_size=True)
    assert [frame.shape for frame in whole.frames] == [(1, 70, 100)] * 5


def test_what_cannot_be_calibrated_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no picture"):
        open_calibration(str(tmp_path), 3, SIZE, None, free_size=False)
    write_png(tmp_path / "small.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"found small.png of 8x8 px, expected at least 64x96"):
        open_calibration(str(tmp_path), 3, SIZE, None, free_size=False)
    with pytest.raises(ConfigError, match="expected synthetic=SEED"):
        open_calibration("synthetic=seven", 3, SIZE, draw_strip, free_size=False)
    with pytest.raises(ConfigError, match="a task that draws none"):
        open_calibration("synthetic=7", 3, SIZE, None, free_size=False)
