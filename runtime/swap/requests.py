"""How a change of the bundle is asked for; see docs/wire.md."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from runtime.delivery.wire import Wire
from runtime.messages import StationName
from runtime.triggered.requests import HEADER_BYTES, RefusedError


class SwapRequest(Wire):
    """Asks a station to go on with another bundle, without a frame being lost."""

    schema_version: Literal["ferrosight.swap/1"] = Field(default="ferrosight.swap/1", alias="schema")
    station: StationName | None = Field(default=None, description="null asks whoever is there")
    bundle: str = Field(
        min_length=1,
        max_length=4096,
        pattern=r"^[^\x00-\x1f]*$",
        description="its folder on the station's machine, from the station's folder of bundles on",
    )
    name: str = Field(min_length=1, max_length=200, pattern=r"\S", description="who asks")
    reason: str = Field(default="", max_length=2000, description="why")


def parse_swap(parts: list[bytes], station: str) -> SwapRequest:
    """Read and check a request.

    Args:
        parts: JSON alone.
        station: Whose requests are taken.

    Raises:
        RefusedError: It is malformed, or for another station.
    """
    if len(parts) != 1 or len(parts[0]) > HEADER_BYTES:
        raise RefusedError("bad_request", f"found {len(parts)} parts, expected JSON alone of {HEADER_BYTES} bytes.")
    try:
        request = SwapRequest.model_validate_json(parts[0], strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise RefusedError(
            "bad_request", f"found JSON that is not valid at {place}: {first['msg']}. See docs/wire.md."
        ) from error
    if request.station not in (None, station):
        raise RefusedError(
            "unknown_station",
            f"found a request for station {request.station!r}, expected {station!r}. Correct the name.",
        )
    return request


def place_of(bundle: str, folder: Path) -> Path:
    """The folder that a request names.

    Args:
        bundle: As the request has it.
        folder: What lies outside of it is never opened: a bundle may hold plans, and a plan is code.

    Raises:
        RefusedError: It lies outside.
    """
    path = folder / bundle
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RefusedError(
            "bad_request",
            f"found the bundle {bundle}, expected one in {folder}. Copy it there, or change 'swap.bundles' in the "
            "station's configuration.",
        )
    return path
