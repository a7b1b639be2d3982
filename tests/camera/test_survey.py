"""What a camera delivers in figures, and the commands that print it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from camera.base import CameraError
from camera.cli import app
from camera.config import FolderSettings
from camera.images import read_grey, write_png
from camera.survey import survey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index, grey in enumerate([0, 100, 255]):
        write_png(pictures / f"f{index}.png", np.full((4, 8), grey, np.uint8))
    (pictures / "f1.png").write_bytes(b"no picture")
    return pictures


def test_the_figures_are_those_of_the_frames(folder: Path, tmp_path: Path) -> None:
    figures = survey(FolderSettings(path=folder, name="top"), 10, 10.0, tmp_path / "out")
    assert (figures.camera, figures.height_px, figures.width_px) == ("top", 4, 8)
    assert (figures.frames_grabbed, figures.frames_lost) == (2, 1)
    assert [(lost.first_index, lost.reason) for lost in figures.lost] == [(1, "unreadable")]
    assert (figures.grey_mean, figures.grey_deviation) == (127.5, 127.5)
    assert (figures.grey_min, figures.grey_max) == (0, 255)
    assert (figures.dark_ratio, figures.bright_ratio) == (0.5, 0.5)
    assert (read_grey(tmp_path / "out" / "00000002.png") == 255).all()
    assert not (tmp_path / "out" / "00000001.png").exists()


def test_a_camera_that_gives_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=r"found no frame within 0\.2 s"):
        survey(FolderSettings(path=tmp_path, watch=True, height_px=4, width_px=8), 1, 0.2)
    (tmp_path / "f0.png").write_bytes(b"no picture")
    with pytest.raises(CameraError, match=r"found no frame that could be used.*no whole picture"):
        survey(FolderSettings(path=tmp_path, height_px=4, width_px=8), 1, 10.0)


def test_show_reads_a_line_and_a_camera_file(folder: Path, tmp_path: Path) -> None:
    table = f'kind = "folder"\npath = "{folder}"\n'
    files = {
        "bare.toml": table,
        "camera.toml": f"[camera]\n{table}",
        "line.toml": f'line = "l"\n[[stations]]\nname = "a"\n[stations.camera]\n{table}'
        '[[stations]]\nname = "b"\n[stations.camera]\nkind = "synthetic"\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        command = ["show", str(tmp_path / name), "--json", "--set", "name=side", "--set", "pixels.rotate_deg=90"]
        done = CliRunner().invoke(app, command + ["--station", "a"] * (name == "line.toml"))
        assert done.exit_code == 1  # one picture is lost
        figures = json.loads(done.stdout)
        assert (figures["camera"], figures["height_px"], figures["frames_lost"]) == ("side", 8, 1)
    done = CliRunner().invoke(app, ["show", str(tmp_path / "line.toml")])
    assert "found the stations a, b" in str(done.exception)


def test_show_prints_for_people(folder: Path) -> None:
    (folder / "f1.png").unlink()
    done = CliRunner().invoke(app, ["show", "folder", "--set", f"path={folder}"])
    assert done.exit_code == 0
    assert "2 grabbed, 0 lost" in done.stdout
    assert "4 x 8 px" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["absent.toml"], "neither a kind of camera nor a readable file"),
        (["folder", "--set", "path"], "expected KEY=VALUE"),
        (["folder", "--set", "pth=x"], "folder.path"),
    ],
)
def test_show_says_what_is_wrong(arguments: list[str], match: str) -> None:
    done = CliRunner().invoke(app, ["show", *arguments])
    assert isinstance(done.exception, CameraError)
    assert match in str(done.exception)


def test_show_refuses_what_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "line.toml").write_text("kind = folder")
    done = CliRunner().invoke(app, ["show", str(tmp_path / "line.toml")])
    assert "found no valid TOML" in str(done.exception)


def test_list_names_every_kind_and_key() -> None:
    done = CliRunner().invoke(app, ["list", "--json"])
    kinds = json.loads(done.stdout)["kinds"]
    assert set(kinds) == {"folder", "opencv", "synthetic"}
    assert kinds["folder"]["path"] == {"default": None, "required": True, "meaning": "the folder"}
    assert kinds["opencv"]["pixels.grey"]["default"] == "luma"
    assert all(field["meaning"] for keys in kinds.values() for field in keys.values())
    people = CliRunner().invoke(app, ["list"])
    assert people.exit_code == 0
    assert "read_timeout_s" in people.stdout
