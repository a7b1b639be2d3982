"""Read one picture or mask file, or say which file is at fault."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from camera.base import CameraError
from camera.images import DEFAULT_PIXELS, PixelSettings, read_grey
from runtime.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def read_picture(
    path: Path, shape: tuple[int, int] | None = None, pixels: PixelSettings = DEFAULT_PIXELS
) -> NDArray[np.uint8]:
    """A grey picture, (H, W) uint8.

    Args:
        path: Any format that a folder camera reads.
        shape: The rows and columns that it must have.
        pixels: How colour becomes grey.

    Raises:
        DataError: The file is missing, corrupt or of another size.
    """
    try:
        grey = read_grey(path, pixels=pixels)
    except CameraError as error:
        raise DataError(str(error)) from error
    if shape is not None and grey.shape != shape:
        raise DataError(
            f"picture {path}: found {grey.shape[0]}x{grey.shape[1]} px, expected {shape[0]}x{shape[1]}. "
            "Put the picture of the right size there, or leave it out."
        )
    return grey


def digest_files(paths: Iterable[Path], root: Path) -> str:
    """SHA-256, in hex, of the files' names below `root` and their bytes, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def split_ratio(name: str) -> float:
    """Where a name falls between 0 and 1, evenly spread and the same for ever; for splits by name.

    >>> round(split_ratio("exp1_num_108719"), 3) == round(split_ratio("exp1_num_108719"), 3)
    True
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
