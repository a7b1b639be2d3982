"""The crack album: no tip without a picture to check it by."""

import csv

import numpy as np
import pytest

from camera.base import Frame
from camera.images import read_grey
from runtime.albums.crack import CrackAlbum
from runtime.albums.crack_picture import MAIN_RGB, OUTLINE_RGB, crack_result, marked, render_overlay, tips_in_order
from runtime.errors import ConfigError
from runtime.facts import Facts
from runtime.heads.crack import CrackRules, CrackSettings, answering, open_album
from runtime.messages import ModelIdentity
from tests.crack_bundles import SETTINGS, cracked
from tests.runtime.delivery import wire

MODEL = ModelIdentity(bundle="crack", digest="0" * 64, backend="openvino", precision="fp16")
ENVELOPE = {"line": "l", "station": "s", "run": "r", "sequence": 1, "captured_at": "2026-03-01T12:30:00.000000+00:00"}


def message_of(pixels, facts=None):
    own = answering(CrackSettings.model_validate(SETTINGS), CrackRules(), MODEL, facts or Facts(mm_per_px=0.05))
    raw = {"crack_probability": (255 - pixels)[np.newaxis]}
    return own.answer(Frame("files", 0, 0, pixels), raw).message(ENVELOPE, {})


def sound():
    pixels = np.full((64, 96), 160, np.uint8)
    pixels[::3, ::2] = 120
    return pixels


def test_a_picture_is_a_function_of_pixels_and_message():
    pixels = cracked(60)
    before, message = pixels.copy(), message_of(pixels)
    one, two = (render_overlay(pixels, message, "a.png") for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(pixels, before)


def test_the_outline_lies_on_the_crack_and_the_steel_stays_as_it_was():
    pixels = cracked(60)
    picture = marked(pixels, crack_result(message_of(pixels)))
    outlined = (picture == OUTLINE_RGB).all(axis=2)
    assert outlined.any()
    assert (pixels[outlined] < 50).all()
    np.testing.assert_array_equal(picture[:25, :, 0], pixels[:25])


def test_the_main_tip_is_marked_where_the_message_says():
    pixels = cracked(60)
    picture = render_overlay(pixels, message_of(pixels), "a.png")[..., ::-1]
    rows, cols = np.nonzero((picture[: 32 + 64 * 5, : 96 * 5] == MAIN_RGB).all(axis=2))
    assert (rows.min() + rows.max()) / 2 == pytest.approx(32 + 5 * 32.5, abs=14)  # the number stands above the ring
    assert (cols.min() + cols.max()) / 2 == pytest.approx(5 * 60.9, abs=14)


def test_pictures_are_drawn_with_and_without_cracks_scale_and_room():
    for pixels in (cracked(60), sound(), cracked(60, 700, 900), cracked(20, 9, 40)):
        for facts in (Facts(), Facts(mm_per_px=0.01)):
            picture = render_overlay(pixels, message_of(pixels, facts), "long name " * 20)
            assert picture.dtype == np.uint8
            assert picture.shape[0] > pixels.shape[0]


def test_tips_are_numbered_main_first():
    pixels = cracked(80, height=96)
    pixels[10:13, 30:60] = 10
    assert [tip.main for tip in tips_in_order(crack_result(message_of(pixels)))] == [True, False, False]


def test_another_tasks_message_is_no_crack_message():
    with pytest.raises(TypeError, match="expected 'crack'"):
        crack_result(wire.scored(1))


@pytest.mark.parametrize(("overlays", "drawn"), [("none", ["a"]), ("defective", ["a"]), ("all", ["a", "b"])])
def test_a_picture_with_a_tip_is_always_drawn(tmp_path, overlays, drawn):
    album = open_album(tmp_path, overlays)
    for name, pixels in (("a", cracked(60)), ("b", sound())):
        album.add(pixels, tmp_path.relative_to(tmp_path) / f"{name}.png", message_of(pixels))
    album.close()
    album.close()
    assert sorted(path.stem for path in album.places["overlays"].glob("*.png")) == drawn
    np.testing.assert_array_equal(read_grey(album.places["masks"] / "a.png"), np.where(cracked(60) < 50, 255, 0))
    (row,) = csv.DictReader(album.places["tips"].read_text(encoding="utf-8").splitlines())
    assert (row["picture"], row["verdict"], row["main"]) == ("a.png", "rejected", "1")
    assert float(row["col_px"]) == pytest.approx(60.4, abs=0.6)


def test_a_crack_without_a_tip_has_a_row_too(tmp_path):
    album = CrackAlbum(tmp_path)
    pixels = cracked(95)
    album.add(pixels, tmp_path.relative_to(tmp_path) / "through.png", message_of(pixels))
    album.close()
    (row,) = csv.DictReader((tmp_path / "tips.csv").read_text(encoding="utf-8").splitlines())
    assert row["row_px"] == ""
    assert float(row["length_px"]) == pytest.approx(96, abs=2)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        CrackAlbum(tmp_path / "file")
