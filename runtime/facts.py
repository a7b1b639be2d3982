"""What is known of a picture beside its pixels: from the station's configuration, or from a file beside the picture."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from runtime.delivery.wire import Wire
from runtime.errors import DataError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports] - Python 3.10 alone has it

SIDECAR_SUFFIX = ".toml"
"""`specimen-7.toml` beside `specimen-7.png` holds the facts of that picture alone."""

Side = Literal["top", "bottom", "left", "right"]


class Facts(Wire):
    """Scale and specimen; what nobody knows is null, and whatever needs it is then not said."""

    specimen: str = Field(default="", max_length=200, description="name of the specimen or sample")
    mm_per_px: float | None = Field(default=None, gt=0, le=100, description="scale of the picture")
    thickness_mm: float | None = Field(default=None, gt=0, le=200, description="of the specimen")
    notch_side: Side | None = Field(
        default=None, description="side of the picture on which the notch root lies; the hammer struck the other"
    )


def sidecar_of(picture: Path) -> Path:
    """Where the facts of a picture lie, if anywhere."""
    return picture.with_suffix(SIDECAR_SUFFIX)


def read_facts(picture: Path, usual: Facts) -> Facts:
    """The facts of a picture: those of its sidecar, and the usual ones for what it does not say.

    Args:
        picture: The picture's file.
        usual: What holds for every picture of the station.

    Raises:
        DataError: There is a sidecar, and it cannot be read, is not TOML, or a value is absurd. The text names the
            file, the key and what was found.
    """
    path = sidecar_of(picture)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return usual
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}), expected the facts of {picture.name}. Mend it.") from error
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: is not valid TOML: {error}. Mend that line.") from error
    return with_facts(usual, found, str(path))


def with_facts(usual: Facts, found: Mapping[str, Any], who: str) -> Facts:
    """The usual facts, with those that are said of one picture in their place.

    Args:
        usual: What holds for every picture of the station.
        found: What is said of this one, as its sidecar or a request has it.
        who: Named at the start of an error.

    Raises:
        DataError: An unknown key, or an absurd value.
    """
    try:
        return Facts.model_validate({**usual.model_dump(), **found})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{who}: {key}: found {first['input']!r}, but {first['msg'].lower()}. "
            f"Known keys: {', '.join(Facts.model_fields)}."
        ) from error
