"""Settings are checked whole, and the table of drivers knows every kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from camera.base import CameraError
from camera.config import CameraSettings, FolderSettings, OpenCvSettings, RingSettings, camera_settings
from camera.folder import FolderCamera
from camera.open import DRIVERS, Driver, driver_of, load_camera, open_camera, settings_class
from camera.ring import Policy
from camera.synthetic import SyntheticCamera

ROOT = Path(__file__).resolve().parents[2]


def test_the_kind_says_which_settings() -> None:
    found = camera_settings({"kind": "folder", "path": "pictures", "pixels": {"depth": {"low": 1, "high": 9}}})
    assert isinstance(found, FolderSettings)
    assert found.path == Path("pictures")
    assert RingSettings(policy="drop_oldest").policy is Policy.DROP_OLDEST  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"kind": "folder"}, "folder.path"),
        ({"kind": "foldr", "path": "x"}, "'foldr'|foldr"),
        ({"path": "x"}, "the whole table"),
        ({"kind": "folder", "path": "x", "colour": True}, "folder.colour"),
        ({"kind": "folder", "path": "x", "height_px": 5}, "give both height_px and width_px"),
        ({"kind": "opencv"}, "give exactly one of device, path and url"),
        ({"kind": "opencv", "device": "/dev/video0", "url": "tcp://x"}, "give exactly one of device, path and url"),
        ({"kind": "opencv", "path": "x", "width_px": 5}, "give both height_px and width_px"),
        ({"kind": "opencv", "path": "x", "read_timeout_s": float("nan")}, "opencv.read_timeout_s"),
        ({"kind": "opencv", "path": "x", "pixels": {"depth": {"low": 9, "high": 9}}}, "must lie below"),
        ({"kind": "synthetic", "speed_mps": -1}, "synthetic.speed_mps"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], match: str) -> None:
    with pytest.raises(CameraError, match=f"camera settings: .*({match})"):
        camera_settings(values)


def test_settings_are_frozen() -> None:
    settings = OpenCvSettings(url="tcp://127.0.0.1:1")
    with pytest.raises(ValidationError):
        settings.url = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_table_and_the_union_have_the_same_kinds() -> None:
    union = get_args(get_args(CameraSettings)[0])
    assert {settings.model_fields["kind"].default: settings for settings in union} == {
        kind: settings_class(driver) for kind, driver in DRIVERS.items()
    }


def test_a_driver_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CameraError, match="no driver 'genicam', expected one of folder, opencv, synthetic"):
        driver_of("genicam")
    with pytest.raises(CameraError, match=r"cannot be imported \(No module named 'camera.absent'\)"):
        load_camera("camera.absent", "AbsentCamera")


def test_open_camera_opens_by_kind(tmp_path: Path) -> None:
    settings = camera_settings({"kind": "synthetic", "name": "top", "height_px": 64, "width_px": 256})
    with open_camera(settings) as camera:
        assert isinstance(camera, SyntheticCamera)
        assert (camera.name, camera.height_px, camera.width_px) == ("top", 64, 256)
    mine = {"folder": Driver("camera.folder", "FolderCamera", "camera.config:FolderSettings", bool, counts=True)}
    with pytest.raises(CameraError, match="no driver 'synthetic', expected one of folder"):
        open_camera(settings, drivers=mine)
    with pytest.raises(CameraError, match="no picture"):
        open_camera(FolderSettings(path=tmp_path), drivers=mine)
    assert load_camera("camera.folder", "FolderCamera") is FolderCamera


def test_settings_load_no_picture_library() -> None:
    code = "import camera.config, camera.open, sys; sys.exit(bool({'cv2', 'scipy', 'runtime'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
