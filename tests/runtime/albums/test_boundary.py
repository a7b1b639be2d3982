"""The boundary album: what lies in its folder, and that its lines can be counted again."""

import csv
from pathlib import Path

import numpy as np
import pytest

from camera.images import read_grey
from runtime.albums.boundary import BoundaryAlbum
from runtime.albums.boundary_picture import LINE_BGR, boundary_result, render_overlay, traced
from runtime.facts import Facts
from runtime.heads.boundary import measure
from runtime.scored import CrackResult
from tests.runtime.delivery import wire


def micrograph() -> tuple[np.ndarray, np.ndarray]:
    lines = np.zeros((240, 320), bool)
    lines[8::16] = lines[:, 8::16] = True
    return np.where(lines, 40, 200).astype(np.uint8), lines


def message_of(lines: np.ndarray):
    facts = Facts(specimen="316L", mm_per_px=0.001)
    return wire.scored(1).model_copy(update={"result": measure(lines, 0.001), "facts": facts, "verdict": "accepted"})


def test_lines_and_sizes_are_left_for_people_and_programs(tmp_path: Path):
    pixels, lines = micrograph()
    album = BoundaryAlbum(tmp_path)
    album.add(pixels, Path("coil/316l.jpg"), message_of(lines))
    album.close()
    assert np.array_equal(read_grey(tmp_path / "lines/coil/316l.png") > 127, lines)
    assert (tmp_path / "overlays/coil/316l.png").is_file()
    with (tmp_path / "grain_sizes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["procedure"] for row in rows] == ["planimetric", "lines", "circles"]
    assert all(float(row["grain_number"]) > 5 for row in rows)
    assert set(album.places) == {"grain sizes", "overlays", "lines"}


def test_none_are_drawn_where_none_are_asked_for(tmp_path: Path):
    pixels, lines = micrograph()
    album = BoundaryAlbum(tmp_path, "none")
    album.add(pixels, Path("316l.png"), message_of(lines))
    album.close()
    assert not (tmp_path / "overlays").exists()


def test_a_line_is_drawn_where_it_was_traced():
    pixels, lines = micrograph()
    assert (traced(pixels, lines)[lines] == LINE_BGR).all()
    overlay = render_overlay(pixels, message_of(lines), "316L")
    assert overlay.shape == (34 + 480, 640, 3)


def test_a_message_of_another_task_is_refused():
    other = wire.scored(1).model_copy(update={"result": CrackResult(cracks=(), rle="")})
    with pytest.raises(TypeError, match="expected 'boundary'"):
        boundary_result(other)
