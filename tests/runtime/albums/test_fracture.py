"""The pictures of a specimen, and its report: pure functions of picture and message."""

import numpy as np
import pytest
from typer.testing import CliRunner

from camera.images import read_grey, write_png
from camera.steel.fracture import fracture_surface
from runtime.albums.fracture import FractureAlbum
from runtime.albums.fracture_picture import BRITTLE_RGB, RATED_RGB, fracture_result, marked, render_overlay
from runtime.albums.fracture_report import draw_report, write_report
from runtime.bundle import digest_of
from runtime.cli import app
from runtime.delivery.journal import Journal, record_of
from runtime.errors import ConfigError, JournalError
from runtime.facts import Facts
from runtime.heads.fracture import FractureRules, FractureSettings, judge
from runtime.messages import Scored
from runtime.scored import CrackResult
from runtime.specimen_reports import Wanted, write_reports
from tests.runtime.delivery import wire

SETTINGS = FractureSettings(cell_px=8, uncertainty_floor_percent=1.0, uncertainty_per_soft=0.5)


def specimen(sequence=3, *, notch_side="left", **fields):
    """A small ligament, with the truth as its map, and what is said of it."""
    made = fracture_surface(4, view="ligament", brittle_ratio=0.3, height_px=64, width_px=200)
    pixels, brittle = made.pixels, made.brittle
    if notch_side == "top":
        pixels, brittle = (np.ascontiguousarray(np.rot90(each, -1)) for each in (pixels, brittle))
    height, width = pixels.shape
    padded = np.pad(brittle.astype(np.float32), ((0, -height % 8), (0, -width % 8)), mode="edge")
    activation = padded.reshape(padded.shape[0] // 8, 8, -1, 8).mean(axis=(1, 3))
    known = {"specimen": "A7/2", "mm_per_px": made.mm_per_px, "thickness_mm": made.thickness_mm}
    facts = Facts(**known, notch_side=notch_side) if notch_side else Facts(specimen="A7/2")
    verdict, result = judge(activation, float(brittle.mean()), (height, width), facts, SETTINGS, FractureRules())
    usual = wire.scored(sequence, **fields)
    return pixels, usual.model_copy(update={"facts": facts, "verdict": verdict, "result": result})


def texts(figure):
    axes = [text for axis in figure.axes for text in axis.texts]
    return "\n".join(text.get_text() for text in (*figure.texts, *axes))


@pytest.mark.parametrize("side", ["left", "top"])
def test_the_picture_shows_what_was_counted_and_what_was_rated(side):
    pixels, message = specimen(notch_side=side)
    result = fracture_result(message)
    picture = marked(pixels, result)
    assert picture.shape == (*pixels.shape, 3)
    tinted = (picture[..., 0].astype(int) - picture[..., 2]) > 20
    share = tinted.mean()
    assert share == pytest.approx(result.brittle_ratio, abs=0.12)
    assert (picture == RATED_RGB).all(axis=2).any()
    box = result.rated_region
    assert box is not None
    dimmed = picture[: box.first_row or None, : box.first_col or None]
    grey = pixels[: box.first_row or None, : box.first_col or None]
    assert dimmed[..., 2].mean() < 0.7 * grey.mean()


def test_without_a_region_nothing_is_dimmed():
    pixels, message = specimen(notch_side=None)
    assert message.verdict == "unrated"
    picture = marked(pixels, fracture_result(message))
    assert not (picture == RATED_RGB).all(axis=2).any()
    assert (np.abs(picture.astype(int) - BRITTLE_RGB).max(axis=2) < 60).any()


def test_overlays_and_reports_are_pure():
    pixels, message = specimen()
    before = pixels.copy()
    first, again = (render_overlay(pixels, message, "A7/2") for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(pixels, before)
    assert first.shape[1] == 640


def test_the_album_keeps_overlay_and_report(tmp_path):
    pixels, message = specimen()
    album = FractureAlbum(tmp_path, "defective")
    album.add(pixels, (name := tmp_path.relative_to(tmp_path) / "coil" / "a7.jpg"), message)
    album.close()
    assert read_grey(tmp_path / "overlays" / "coil" / "a7.png").shape[1] == 640
    assert (tmp_path / "reports" / "coil" / "a7.pdf").read_bytes().startswith(b"%PDF")
    assert read_grey(tmp_path / "reports" / "coil" / "a7.png").shape[0] > 1000
    FractureAlbum(tmp_path / "none", "none").add(pixels, name, message)
    assert not (tmp_path / "none").exists()
    assert set(album.places) == {"overlays", "reports"}


def test_the_report_says_all_that_a_metallurgist_asks():
    pixels, message = specimen(image_sha256="ef" * 32, source="specimens/a7.png")
    said = texts(draw_report(pixels, message))
    result = fracture_result(message)
    assert result.shear_percent is not None
    for part in (
        "A7/2",
        message.verdict.upper(),
        f"{result.shear_percent:.1f} \N{PLUS-MINUS SIGN} {result.uncertainty_percent:.1f} %",
        "accepted from 85 %",
        message.model.digest[:32],
        message.model.digest[32:],
        "ef" * 16,
        "specimens/a7.png",
        "notch",
        "hammer",
        "10 mm",
    ):
        assert part in said


def test_an_operators_word_stands_on_the_report():
    pixels, message = specimen()
    override = wire.overridden(9, scored_sequence=3, verdict="accepted").model_copy(
        update={"verdict_before": message.verdict}
    )
    said = texts(draw_report(pixels, message, override))
    for part in ("ACCEPTED\nby operator", override.name, override.captured_at, override.reason[:40], "station said"):
        assert part in said


def test_an_unrated_specimen_says_why():
    said = texts(draw_report(*specimen(notch_side=None)))
    assert "UNRATED" in said
    assert "not rated" in said
    assert "nobody said mm_per_px, thickness_mm, notch_side" in said


def test_the_same_report_is_the_same_file(tmp_path):
    pixels, message = specimen(notch_side="top")
    for name in ("a", "b"):
        write_report(pixels, message, tmp_path / name / "r.pdf")
    for suffix in (".pdf", ".png"):
        first, second = ((tmp_path / name / "r").with_suffix(suffix).read_bytes() for name in ("a", "b"))
        assert first == second


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a folder that can be written"):
        write_report(*specimen(), tmp_path / "file" / "r.pdf")


def test_a_result_of_another_task_is_no_specimen():
    _, message = specimen()
    assert fracture_result(message) is message.result
    with pytest.raises(TypeError, match="found a result of the task 'crack', expected 'fracture'"):
        fracture_result(Scored.model_construct(result=CrackResult(cracks=(), rle="")))


# --- from a journal


@pytest.fixture
def journal(tmp_path):
    """Three specimens: one with an operator's word on it, one with another picture in its place, one with none."""
    messages = [wire.run_started(0)]
    for sequence, name in enumerate(("a.png", "b.png", "gone.png"), start=1):
        pixels, message = specimen(sequence, frame_index=sequence - 1)
        path = tmp_path / "specimens" / name
        path.parent.mkdir(exist_ok=True)
        pixels[0, 0] = sequence  # no picture is scored twice
        write_png(path, pixels)
        update = {"source": str(path), "image_sha256": digest_of(path)}
        facts = message.facts.model_copy(update={"specimen": name})
        messages.append(message.model_copy(update={**update, "facts": facts}))
        if name == "b.png":
            write_png(path, pixels[:, ::-1])
        if name == "gone.png":
            path.rename(path.with_name("moved-away.png"))
    messages.append(wire.overridden(4, scored_sequence=1))
    place = tmp_path / "journal.sqlite"
    with Journal(place, wire.LINE) as opened:
        opened.append([record_of(message) for message in messages])
    return place


def test_a_journal_gives_the_reports_that_it_can(journal, tmp_path):
    found = list(write_reports(journal, tmp_path / "out", Wanted()))
    assert [each.message.facts.specimen for each in found] == ["a.png", "b.png", "gone.png"]
    assert found[0].path == tmp_path / "out" / "000001-a.png.pdf"
    assert found[0].path.is_file()
    assert "found another picture than the one that was scored" in found[1].fault
    assert "gone.png" in found[2].fault
    (tmp_path / "back").mkdir()
    (tmp_path / "specimens" / "moved-away.png").rename(tmp_path / "back" / "gone.png")
    (again,) = write_reports(
        journal, tmp_path / "out", Wanted(wire.STATION, specimen="gone.png", pictures=tmp_path / "back")
    )
    assert again.path is not None


def test_a_station_that_is_not_there_is_named(journal, tmp_path):
    with pytest.raises(JournalError, match="expected elsewhere"):
        list(write_reports(journal, tmp_path / "out", Wanted("elsewhere")))


def test_the_command_says_which_specimens_have_no_report(journal, tmp_path):
    command = ["report", str(journal), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "a.png: " in result.output
    assert "b.png: no report" in result.output
    assert CliRunner().invoke(app, [*command, "--sequence", "1"]).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--specimen", "nobody"]).exit_code == 1
