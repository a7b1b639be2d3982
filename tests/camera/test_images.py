"""Pictures become grey frames by stated settings only, and half a picture is an error."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from camera.base import CameraError
from camera.images import PixelSettings, Window, find_images, natural_order, read_grey, to_grey, write_png

RNG = np.random.default_rng(5)
GREY = cv2.GaussianBlur(RNG.integers(0, 256, (48, 64), dtype=np.uint8), (5, 5), 0)
COLOUR = cv2.GaussianBlur(RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8), (5, 5), 0)


def written(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16], *options: int) -> Path:
    assert cv2.imwrite(str(path), picture, options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".pgm"])
def test_a_grey_picture_comes_back_as_it_was(tmp_path: Path, suffix: str) -> None:
    assert np.array_equal(read_grey(written(tmp_path / f"a{suffix}", GREY)), GREY)


def test_write_png_is_read_back(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", GREY)
    assert np.array_equal(read_grey(tmp_path / "a.png"), GREY)
    with pytest.raises(CameraError, match="cannot be written"):
        write_png(tmp_path / "absent" / "a.png", GREY)


@pytest.mark.parametrize(
    ("grey", "expected"),
    [
        ("luma", np.rint(COLOUR @ np.array([0.114, 0.587, 0.299]))),
        ("blue", COLOUR[:, :, 0]),
        ("green", COLOUR[:, :, 1]),
        ("red", COLOUR[:, :, 2]),
        ("mean", np.rint(COLOUR.mean(axis=2))),
    ],
)
def test_colour_becomes_grey_as_said(tmp_path: Path, grey: str, expected: NDArray[np.float64]) -> None:
    path = written(tmp_path / "a.png", COLOUR)
    found = read_grey(path, pixels=PixelSettings.model_validate({"grey": grey}))
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_require_grey_takes_equal_channels_only(tmp_path: Path) -> None:
    required = PixelSettings(grey="require_grey")
    same = written(tmp_path / "same.png", np.repeat(GREY[:, :, None], 3, axis=2))
    assert np.array_equal(read_grey(same, pixels=required), GREY)
    with pytest.raises(CameraError, match=r"found colour.*require_grey"):
        read_grey(written(tmp_path / "other.png", COLOUR), pixels=required)


def test_transparency_is_ignored(tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", np.dstack([GREY, GREY, GREY, RNG.integers(0, 256, GREY.shape, dtype=np.uint8)]))
    assert np.array_equal(read_grey(path, pixels=PixelSettings(grey="require_grey")), GREY)


def test_sixteen_bits_need_a_word(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (16, 16), dtype=np.uint16)
    path = written(tmp_path / "a.png", deep)
    with pytest.raises(CameraError, match=r"found 16 bits.*'high_byte'.*window"):
        read_grey(path)
    assert np.array_equal(read_grey(path, pixels=PixelSettings(depth="high_byte")), deep >> 8)


@given(st.integers(0, 65534), st.integers(1, 65535), st.integers(0, 65535))
def test_a_window_is_linear_and_clipped(low: int, high: int, level: int) -> None:
    if low >= high:
        with pytest.raises(ValidationError):
            Window(low=low, high=high)
        return
    settings = PixelSettings(depth=Window(low=low, high=high))
    found = to_grey(np.array([[level, low, high]], np.uint16), settings, "test")
    assert found[0, 0] == np.clip(np.rint((level - low) * (255.0 / (high - low))), 0, 255)
    assert found[0, 1:].tolist() == [0, 255]


def test_a_window_spreads_eight_bits_too() -> None:
    found = to_grey(np.array([[10, 20, 30]], np.uint8), PixelSettings(depth=Window(low=10, high=30)), "test")
    assert found.tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"rotate_deg": 90}, [[4, 1], [5, 2], [6, 3]]),
        ({"rotate_deg": 180}, [[6, 5, 4], [3, 2, 1]]),
        ({"rotate_deg": 270}, [[3, 6], [2, 5], [1, 4]]),
        ({"flip_horizontal": True}, [[3, 2, 1], [6, 5, 4]]),
        ({"flip_vertical": True}, [[4, 5, 6], [1, 2, 3]]),
        ({"rotate_deg": 90, "flip_horizontal": True}, [[1, 4], [2, 5], [3, 6]]),
    ],
)
def test_orientation(values: dict[str, object], expected: list[list[int]]) -> None:
    picture = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    found = to_grey(picture, PixelSettings.model_validate(values), "test")
    assert found.tolist() == expected
    assert found.flags.c_contiguous


def test_an_orientation_tag_is_not_obeyed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jpg", GREY, cv2.IMWRITE_JPEG_QUALITY, 100)
    data = path.read_bytes()
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: a quarter turn
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + data[2:])
    assert cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).shape == GREY.T.shape
    assert read_grey(path).shape == GREY.shape


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".pgm"])
@pytest.mark.parametrize("kept_ratio", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_a_truncated_picture_is_an_error(tmp_path: Path, suffix: str, kept_ratio: float) -> None:
    path = written(tmp_path / f"a{suffix}", COLOUR if suffix != ".pgm" else GREY)
    data = path.read_bytes()
    read_grey(path)
    path.write_bytes(data[: int(len(data) * kept_ratio)])
    with pytest.raises(CameraError, match=f"picture {path}: .*expected"):
        read_grey(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_whose_end_was_never_written_is_an_error(tmp_path: Path, suffix: str) -> None:
    """A file of the full size, the second half still zero: copied over a network that broke."""
    path = written(tmp_path / f"a{suffix}", COLOUR)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    with pytest.raises(CameraError, match="expected a whole picture"):
        read_grey(path)


def test_a_progressive_jpeg_with_trailing_bytes_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jpg", COLOUR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    path.write_bytes(path.read_bytes() + b"\0\0camera maker's notes")
    assert read_grey(path).shape == GREY.shape


def test_a_changed_byte_in_a_png_is_seen(tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", GREY)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CameraError, match="wrong checksum"):
        read_grey(path)


def test_what_is_no_picture_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(CameraError, match="no whole picture"):
        read_grey(tmp_path / "a.png")
    with pytest.raises(CameraError, match="No such file"):
        read_grey(tmp_path / "b.png")
    with pytest.raises(CameraError, match="Is a directory"):
        read_grey(tmp_path)
    with pytest.raises(CameraError, match=r"shape \(4, 4\) of float32"):
        to_grey(np.zeros((4, 4), np.float32), PixelSettings(), "test")


def test_find_images_looks_at_any_depth_in_natural_order(tmp_path: Path) -> None:
    for name in ["coil2/f10.PNG", "coil2/f9.png", "coil10/f1.jpg", "f1.tif", ".hidden/a.png", "notes.txt", "b/.a.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)]
    assert found == ["coil2/f9.png", "coil2/f10.PNG", "coil10/f1.jpg", "f1.tif"]
    with pytest.raises(CameraError, match="no such folder"):
        find_images(tmp_path / "absent")


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_counts(numbers: list[int]) -> None:
    names = [path.name for path in natural_order(Path(f"frame_{number}.png") for number in numbers)]
    assert names == [f"frame_{number}.png" for number in sorted(numbers)]
