"""Writing an album's files."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runtime.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn what goes wrong while files are written into an error that a person can act on.

    Raises:
        ConfigError: The folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"output {out}: {error.strerror}, expected a folder that can be written. Give another one."
        ) from error


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture; the folder is made if it does not exist.

    Args:
        path: Where it goes.
        picture: (H, W) uint8 grey, or (H, W, 3) uint8 in the order blue, green, red.

    Raises:
        OSError: It cannot be written.
    """
    import cv2

    done, data = cv2.imencode(".png", picture)
    if not done:
        raise RuntimeError(f"picture {path}: OpenCV could not encode {picture.shape}, expected a picture.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def picture_place(folder: Path, name: Path, suffix: str = ".png", ending: str = "") -> Path:
    """Where what belongs to a picture goes: its own path below the folder, with another suffix.

    >>> from pathlib import Path
    >>> picture_place(Path("out/reports"), Path("coil/7.jpg"), ".pdf", "_report").as_posix()
    'out/reports/coil/7_report.pdf'
    """
    return folder / name.parent / f"{name.stem}{ending}{suffix}"


def is_drawn(message: Any, overlays: str) -> bool:
    """Whether a picture is drawn: `all`, `none`, or `defective`, which leaves out frames without a finding.

    What was scored as a whole is always a finding.
    """
    return overlays == "all" or (overlays == "defective" and bool(getattr(message, "defects", True)))
