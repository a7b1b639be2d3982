"""Specimen reports from a journal: what was scored, and what an operator said of it since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from camera.base import CameraError
from camera.images import read_grey
from runtime.albums.fracture_report import write_report
from runtime.delivery.journal_reader import JournalReader
from runtime.errors import JournalError
from runtime.messages import MESSAGE, Overridden, Scored
from runtime.scored import FractureResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROWS = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which specimens get a report.

    Attributes:
        station: Its name; None where the journal has only one.
        specimen: Name of the specimen; None takes all.
        sequence: Of the scored message; None takes all.
        pictures: Folder with the pictures, by their file names; None looks where they lay when they were scored.
    """

    station: str | None = None
    specimen: str | None = None
    sequence: int | None = None
    pictures: Path | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one specimen's report.

    Attributes:
        message: What was scored.
        path: The PDF, with a PNG beside it; None where there is none.
        fault: Why there is none; empty where there is one.
    """

    message: Scored
    path: Path | None
    fault: str = ""


def write_reports(journal: Path, out: Path, wanted: Wanted) -> Iterator[Written]:
    """Write the reports of a journal's specimens, one after the other; a picture that is gone stops no other.

    Args:
        journal: The station's journal, which may be in use.
        out: Folder of the reports.
        wanted: Which specimens.

    Raises:
        JournalError: It cannot be read, or has no such station.
        ConfigError: The folder cannot be written.
    """
    with JournalReader(journal) as reader:
        station = _station(reader, wanted.station)
        for message in _scored(reader, station, wanted):
            try:
                pixels = _picture(message, wanted.pictures)
            except CameraError as error:
                yield Written(message, None, str(error))
                continue
            path = out / f"{message.sequence:06d}-{_file_name(message.facts.specimen)}.pdf"
            write_report(pixels, message, path, _override(reader, message))
            yield Written(message, path)


def _station(reader: JournalReader, name: str | None) -> str:
    stations = reader.stations()
    if name is None and len(stations) == 1:
        return stations[0]
    if name not in stations:
        raise JournalError(
            f"journal {reader.path}: found the stations {', '.join(stations) or 'none'}, expected "
            f"{name or 'one alone'}. Give --station."
        )
    return name


def _scored(reader: JournalReader, station: str, wanted: Wanted) -> Iterator[Scored]:
    """The wanted specimens in order."""
    first = 0 if wanted.sequence is None else wanted.sequence
    stop = reader.last_sequence(station) + 1 if wanted.sequence is None else wanted.sequence + 1
    while records := reader.read(station, first, stop, _ROWS):
        for record in records:
            if record.kind != "scored":
                continue
            message = MESSAGE.validate_json(record.json)
            if (
                isinstance(message, Scored)
                and isinstance(message.result, FractureResult)
                and wanted.specimen in (None, message.facts.specimen)
            ):
                yield message
        first = records[-1].sequence + 1


def _override(reader: JournalReader, message: Scored) -> Overridden | None:
    record = reader.override_of(message.station, message.sequence)
    return None if record is None else Overridden.model_validate_json(record.json)


def _picture(message: Scored, folder: Path | None) -> NDArray[np.uint8]:
    """The very picture that was scored: another one under its name is refused.

    Raises:
        CameraError: It is gone, unreadable, or another one.
    """
    if not message.source:
        raise CameraError(
            "found no file that was scored, expected one. Pictures that were sent are kept by the sender."
        )
    path = Path(message.source) if folder is None else folder / Path(message.source).name
    pixels = read_grey(path)
    if message.image_sha256 is not None and hashlib.sha256(path.read_bytes()).hexdigest() != message.image_sha256:
        raise CameraError(
            f"picture {path}: found another picture than the one that was scored, expected SHA-256 "
            f"{message.image_sha256[:12]}. Give --pictures with the folder where the scored one lies."
        )
    return pixels


def _file_name(specimen: str) -> str:
    """A specimen's name as part of a file's.

    >>> _file_name("X70 / 12-A")
    'X70___12-A'
    """
    return "".join(each if each.isalnum() or each in "-." else "_" for each in specimen) or "specimen"
