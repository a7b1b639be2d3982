"""Where a consumer stands, in a file, so that after a restart it goes on exactly there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from runtime.delivery.wire import Wire
from runtime.errors import ConfigError
from runtime.messages import MAX_SEQUENCE, StationName, json_of


class Cursor(Wire):
    """The last message that a consumer has dealt with.

    Attributes:
        journal: Identity of the journal that numbered it: the same number of another journal is another
            message.
    """

    schema_version: Literal["ferrosight.cursor/1"] = Field(default="ferrosight.cursor/1", alias="schema")
    station: StationName
    journal: str
    sequence: int = Field(ge=-1, le=MAX_SEQUENCE)


def read_cursor(path: Path, station: str) -> Cursor | None:
    """The cursor in a file; None if there is no file yet.

    Raises:
        ConfigError: The file is not a cursor, or one of another station.
    """
    try:
        cursor = Cursor.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"cursor {path}: found no readable cursor ({type(error).__name__}), expected what 'ack' wrote. "
            "Delete it to begin at the journal's start."
        ) from error
    if cursor.station != station:
        raise ConfigError(
            f"cursor {path}: found station {cursor.station!r}, expected {station!r}. "
            "Give each subscription a cursor of its own."
        )
    return cursor


def write_cursor(path: Path, cursor: Cursor) -> None:
    """Write the file as a whole: a reader, or a power cut, finds the old cursor or the new one.

    Raises:
        ConfigError: The file cannot be written.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("wb") as file:
            file.write(json_of(cursor))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise ConfigError(
            f"cursor {path}: cannot be written ({error.strerror}), expected a folder with room that may be "
            "written. Name another path."
        ) from error
