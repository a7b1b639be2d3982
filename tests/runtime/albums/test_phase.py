import csv
from pathlib import Path

import numpy as np
import pytest

from camera.base import Frame
from camera.images import read_grey
from runtime.albums.phase import PhaseAlbum
from runtime.albums.phase_picture import FOOTER_PX, HEADER_PX, marked, phase_result, render_overlay, round_length
from runtime.errors import ConfigError
from runtime.facts import Facts
from runtime.heads.phase import answerer
from runtime.messages import ModelIdentity, Scored
from runtime.scored import CrackResult
from runtime.spec import read_spec
from tests.phase_bundles import make_phase_bundle

ENVELOPE = {
    "line": "lab",
    "station": "microscope",
    "run": "C45",
    "sequence": 1,
    "captured_at": "2026-03-01T12:30:00.000000+00:00",
}


def labels() -> np.ndarray:
    grown = np.zeros((70, 90), np.uint8)
    grown[20:50, 30:60] = 1
    return grown


@pytest.fixture
def message(tmp_path: Path) -> Scored:
    spec = read_spec(make_phase_bundle(tmp_path / "bundle"))
    model = ModelIdentity(bundle="phase", digest="0" * 64, backend="openvino", precision="fp16")
    own = answerer(spec, {}, model, Facts(mm_per_px=0.0005))
    frame = Frame("files", 0, 0, np.full((70, 90), 200, np.uint8))
    return own.answer(frame, {"phase": labels()}).message(ENVELOPE, {})


def test_the_matrix_stays_as_it_was_and_the_other_phase_is_tinted() -> None:
    pixels = np.full((70, 90), 200, np.uint8)
    picture = marked(pixels, labels())
    assert (picture[:18] == 200).all()
    inside = picture[25:45, 35:55]
    assert (inside[..., 2] > inside[..., 0]).all()


def test_a_picture_is_a_function_of_pixels_and_message(message: Scored) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90), dtype=np.uint8)
    before = pixels.copy()
    one, two = (render_overlay(pixels, message, "c45.png") for _ in range(2))
    assert np.array_equal(one, two)
    assert np.array_equal(pixels, before)
    factor = -(-640 // 90)
    assert one.shape == (HEADER_PX + factor * 70 + FOOTER_PX, factor * 90, 3)


def test_the_scale_bar_has_the_length_that_it_says(message: Scored) -> None:
    pixels = np.full((70, 90), 200, np.uint8)
    footer = render_overlay(pixels, message, "c45.png")[-FOOTER_PX:]
    ink = (footer[-12] < 60).all(axis=1)
    # 0.5 um/px enlarged 8 times is 1/16 um/px; a sixth of 720 px is 7.5 um, so the bar is 5 um.
    assert ink.sum() == pytest.approx(5 * 16, abs=1)
    assert round_length(7.5) == 5.0


def test_without_a_scale_there_is_no_bar(message: Scored) -> None:
    pixels = np.full((70, 90), 200, np.uint8)
    unknown = message.model_copy(update={"facts": Facts()})
    assert not np.array_equal(render_overlay(pixels, message, ""), render_overlay(pixels, unknown, ""))


def test_an_album_holds_figures_labels_and_pictures(tmp_path: Path, message: Scored) -> None:
    out = tmp_path / "out"
    out.mkdir()
    album = PhaseAlbum(out, "all")
    album.add(np.full((70, 90), 200, np.uint8), Path("lot 3/c45.png"), message)
    album.close()
    album.close()
    rows = list(csv.DictReader((out / "fractions.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["phase"] for row in rows] == ["ferrite", "pearlite"]
    assert float(rows[1]["fraction_percent"]) == pytest.approx(100 * 900 / 6300, abs=1e-3)
    assert np.array_equal(read_grey(out / "labels" / "lot 3" / "c45.png"), labels())
    assert (out / "overlays" / "lot 3" / "c45.png").is_file()
    assert set(album.places) == {"fractions", "overlays", "labels"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        PhaseAlbum(tmp_path / "nowhere")


def test_a_result_of_another_task_is_refused(message: Scored) -> None:
    assert phase_result(message).fields > 1
    other = message.model_copy(update={"result": CrackResult(cracks=(), rle="")})
    with pytest.raises(TypeError, match="'crack', expected 'phase'"):
        phase_result(other)
