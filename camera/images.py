"""Pictures from files and from colour cameras to grey frames, by stated settings and nothing guessed."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from natsort import natsorted, ns
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from camera.base import CameraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff"})
"""What counts as a picture when a folder is searched, in lower case."""


class Window(BaseModel):
    """A linear map of grey levels: `low` becomes 0, `high` becomes 255, what lies beyond is clipped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: int = Field(ge=0, le=65534)
    high: int = Field(ge=1, le=65535)

    @model_validator(mode="after")
    def _in_order(self) -> Window:
        if self.low >= self.high:
            raise ValueError(f"a window's low ({self.low}) must lie below its high ({self.high})")
        return self


class PixelSettings(BaseModel):
    """How a camera's or file's pixels become grey frames of 8 bit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grey: Literal["luma", "red", "green", "blue", "mean", "require_grey"] = Field(
        default="luma",
        description="how colour becomes grey: luma is 0.299 R + 0.587 G + 0.114 B; require_grey takes a "
        "colour picture only if its three channels are equal. Transparency is ignored",
    )
    depth: Annotated[
        Annotated[Literal["eight", "high_byte"], Tag("word")] | Annotated[Window, Tag("window")],
        Discriminator(lambda value: "window" if isinstance(value, (dict, Window)) else "word"),
    ] = Field(
        default="eight",
        description="eight: 16-bit pictures are an error; high_byte: they lose their low byte; "
        "{ low = L, high = H }: grey levels L..H of any picture are spread over 0..255",
    )
    rotate_deg: Literal[0, 90, 180, 270] = Field(default=0, description="clockwise, before the flips")
    flip_horizontal: bool = Field(default=False, description="left becomes right")
    flip_vertical: bool = Field(default=False, description="top becomes bottom")


DEFAULT_PIXELS = PixelSettings()


def read_grey(path: Path, *, pixels: PixelSettings = DEFAULT_PIXELS) -> NDArray[np.uint8]:
    """Read a picture as (H, W) uint8, C-contiguous; orientation tags inside the file are not obeyed.

    Raises:
        CameraError: The file cannot be read, is not a whole picture, or does not fit the settings.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CameraError(
            f"picture {path}: {error.strerror or error}, expected a readable picture. Check the path."
        ) from error
    return decode_grey(data, str(path), pixels=pixels)


def decode_grey(data: bytes, name: str, *, pixels: PixelSettings = DEFAULT_PIXELS) -> NDArray[np.uint8]:
    """Decode the bytes of a picture file as (H, W) uint8, C-contiguous; see `read_grey`.

    Args:
        data: The whole file.
        name: What an error calls the picture.
        pixels: How colour, depth and orientation are handled.

    Raises:
        CameraError: The bytes are not a whole picture, or do not fit the settings.
    """
    import cv2
    import numpy as np

    # The decoders of some OpenCV versions fill what is missing with grey and say nothing, so look first.
    for signature, fault_of in _FAULTS.items():
        if data.startswith(signature) and (fault := fault_of(data)):
            raise CameraError(
                f"picture {name}: found {fault} ({len(data)} bytes), expected a whole picture. Copy it again."
            )
    picture = None
    if data:
        try:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            raise CameraError(
                f"picture {name}: OpenCV refused {len(data)} bytes ({error.err}), expected a whole picture. "
                "Copy it again."
            ) from error
    if picture is None:
        raise CameraError(
            f"picture {name}: found {len(data)} bytes that are no whole picture, "
            f"expected one of {', '.join(sorted(SUFFIXES))}. Copy it again."
        )
    return to_grey(picture, pixels, f"picture {name}")


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a grey frame, (H, W) uint8, as PNG.

    Raises:
        CameraError: The file cannot be written.
    """
    import cv2

    _, data = cv2.imencode(".png", pixels)
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise CameraError(
            f"picture {path}: cannot be written ({error.strerror}), expected a folder with room. Check it."
        ) from error


def to_grey(picture: NDArray[Any], pixels: PixelSettings, who: str) -> NDArray[np.uint8]:
    """Apply the settings to one picture.

    Args:
        picture: (H, W) or (H, W, 1, 3 or 4) in the order blue, green, red, alpha; uint8 or uint16.
        pixels: How colour, depth and orientation are handled.
        who: Named at the start of an error.

    Returns:
        (H, W) uint8, C-contiguous; the picture itself where nothing had to be done.

    Raises:
        CameraError: The picture does not fit the settings.
    """
    import numpy as np

    grey = _grey(picture, pixels, who)
    grey = _eight_bit(grey, pixels, who)
    if pixels.rotate_deg:
        grey = np.rot90(grey, k=-pixels.rotate_deg // 90)
    if pixels.flip_horizontal:
        grey = grey[:, ::-1]
    if pixels.flip_vertical:
        grey = grey[::-1]
    return np.ascontiguousarray(grey)


def find_images(folder: Path) -> list[Path]:
    """All pictures below `folder`, at any depth, in natural order; hidden files and folders are passed over.

    Raises:
        CameraError: No such folder.
    """
    if not folder.is_dir():
        raise CameraError(f"folder {folder}: found no such folder, expected one with pictures. Check the path.")
    return natural_order(path for path in folder.rglob("*") if is_picture(path, folder) and path.is_file())


def is_picture(path: Path, folder: Path) -> bool:
    """Whether `path` below `folder` is named as a picture and is not hidden."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.suffix.lower() in SUFFIXES


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Sort as a person would: `frame2` before `frame10`, a folder's files together.

    >>> [path.name for path in natural_order([Path("frame10.png"), Path("frame2.png")])]
    ['frame2.png', 'frame10.png']
    """
    return natsorted(paths, alg=ns.PATH)


def _grey(picture: NDArray[Any], pixels: PixelSettings, who: str) -> NDArray[Any]:
    """Three channels to one, in the picture's own depth."""
    import cv2
    import numpy as np

    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    if picture.dtype not in (np.uint8, np.uint16) or not (
        picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (3, 4))
    ):
        raise CameraError(
            f"{who}: found shape {picture.shape} of {picture.dtype}, expected 1, 3 or 4 channels of uint8 or "
            "uint16. Convert it first."
        )
    if picture.ndim == 2:
        return picture
    if pixels.grey in _CHANNELS:
        return picture[:, :, _CHANNELS[pixels.grey]]
    if pixels.grey == "luma":
        return cv2.cvtColor(picture[:, :, :3], cv2.COLOR_BGR2GRAY)
    if pixels.grey == "mean":
        return cv2.transform(picture[:, :, :3], np.full((1, 3), 1 / 3))
    blue, green, red = (picture[:, :, channel] for channel in range(3))
    if not (np.array_equal(blue, green) and np.array_equal(green, red)):
        raise CameraError(
            f"{who}: found colour, expected three equal channels because grey is 'require_grey'. "
            "Choose how colour becomes grey: luma, red, green, blue or mean."
        )
    return green


def _eight_bit(grey: NDArray[Any], pixels: PixelSettings, who: str) -> NDArray[np.uint8]:
    """Any depth to 8 bit."""
    import numpy as np

    if isinstance(pixels.depth, Window):
        low, high = pixels.depth.low, pixels.depth.high
        levels = np.iinfo(grey.dtype).max + 1
        table = np.rint((np.arange(levels, dtype=np.float64) - low) * (255.0 / (high - low)))
        return np.clip(table, 0, 255).astype(np.uint8)[grey]
    if grey.dtype == np.uint8:
        return grey
    if pixels.depth == "high_byte":
        return (grey >> 8).astype(np.uint8)
    raise CameraError(
        f"{who}: found 16 bits a pixel, expected 8 because depth is 'eight'. "
        "Set depth to 'high_byte' or to a window { low = L, high = H }."
    )


# Everything but a stuffed byte, a restart mark and a fill byte ends a JPEG's entropy-coded data.
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_START_OF_SCAN, _JPEG_END = 0xDA, 0xD9


def _jpeg_fault(data: bytes) -> str:
    """What a JPEG lacks; empty if its segments lead to the end mark (a thumbnail's does not count)."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return f"no JPEG segment at byte {place}"
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker == _JPEG_END:
            return ""
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == _JPEG_START_OF_SCAN:
            following = _JPEG_MARKER.search(data, place)
            if following is None:
                break
            place = following.start()
    return "" if data[place : place + 2] == b"\xff\xd9" else "a truncated JPEG"


def _png_fault(data: bytes) -> str:
    """What a PNG lacks; empty if every chunk's checksum holds up to the end chunk."""
    place = 8
    while place + 12 <= len(data):
        body = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if body + 4 > len(data):
            break
        if zlib.crc32(data[place + 4 : body]) != int.from_bytes(data[body : body + 4], "big"):
            return f"a PNG whose chunk at byte {place} has a wrong checksum"
        if data[place + 4 : place + 8] == b"IEND":
            return ""
        place = body + 4
    return "a truncated PNG"


_CHANNELS: dict[str, int] = {"blue": 0, "green": 1, "red": 2}
_FAULTS: dict[bytes, Callable[[bytes], str]] = {
    b"\xff\xd8": _jpeg_fault,
    b"\x89PNG\r\n\x1a\n": _png_fault,
}
