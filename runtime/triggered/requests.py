"""What is asked of a triggered station, and how it refuses; see docs/wire.md."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from runtime.delivery.wire import Digest, Wire
from runtime.messages import MAX_SEQUENCE, StationName

HEADER_BYTES = 64 << 10
"""The largest JSON of a request."""

NEW, KNOWN, ERROR = b"new", b"known", b"error"
"""The first part of an answer: a message that this request brought about, one that there was before, or none."""


class ScoreRequest(Wire):
    """Asks for a score; the bytes of the picture's file are the second part of the request."""

    schema_version: Literal["ferrosight.score/1"] = Field(default="ferrosight.score/1", alias="schema")
    station: StationName | None = Field(default=None, description="null asks whoever is there")
    source: str = Field(
        default="",
        max_length=1000,
        pattern=r"^[^\x00-\x1f]*$",
        description="what the message calls the picture, such as its file's name",
    )
    facts: dict[str, str | float | None] = Field(
        default_factory=dict, description="what is known of this picture; the station's own facts hold for the rest"
    )


class OverrideRequest(Wire):
    """An operator's word on a scored picture."""

    schema_version: Literal["ferrosight.override/1"] = Field(default="ferrosight.override/1", alias="schema")
    station: StationName | None = Field(default=None, description="null asks whoever is there")
    scored_sequence: int = Field(ge=0, le=MAX_SEQUENCE, description="of the scored message")
    verdict: Literal["accepted", "rejected"]
    name: str = Field(min_length=1, max_length=200, pattern=r"\S", description="who says so")
    reason: str = Field(min_length=1, max_length=2000, pattern=r"\S", description="why")


RequestReason = Literal[
    "bad_request", "unknown_station", "no_pictures", "too_large", "unknown_sequence", "deleted", "unavailable"
]
"""Why a request is not met: it is malformed, for another station, brings a picture where none is taken or one that
is too large, or overrides what was never scored; or the picture was scored long ago and retention has deleted the
message; or the station is about to stop or cannot keep the picture, and only then is it worth asking again."""


class RequestError(Wire):
    """The answer to a request that is not met."""

    schema_version: Literal["ferrosight.request_error/1"] = Field(default="ferrosight.request_error/1", alias="schema")
    reason: RequestReason
    error: str
    image_sha256: Digest | None = Field(description="of the picture that came with it; null without one")


class RefusedError(Exception):
    """A request that is not met."""

    def __init__(self, reason: RequestReason, text: str, image_sha256: str | None = None) -> None:
        super().__init__(text)
        self.reason: RequestReason = reason
        self.image_sha256 = image_sha256

    def answer(self) -> RequestError:
        """What the peer is told."""
        return RequestError(reason=self.reason, error=f"request: {self}", image_sha256=self.image_sha256)


_REQUEST: TypeAdapter[ScoreRequest | OverrideRequest] = TypeAdapter(
    Annotated[ScoreRequest | OverrideRequest, Field(discriminator="schema_version")]
)


def parse_request(parts: list[bytes], station: str) -> tuple[ScoreRequest, bytes] | OverrideRequest:
    """Read and check a request.

    Args:
        parts: JSON, and for a score the bytes of the picture's file.
        station: Whose requests are taken.

    Raises:
        RefusedError: It is malformed, or for another station.
    """
    if not parts or len(parts[0]) > HEADER_BYTES:
        found = "no part" if not parts else f"a first part of {len(parts[0])} bytes"
        raise RefusedError("bad_request", f"found {found}, expected JSON of at most {HEADER_BYTES} bytes.")
    try:
        request: Any = _REQUEST.validate_json(parts[0], strict=True)
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
    expected = ("the JSON", "the picture's file") if isinstance(request, ScoreRequest) else ("the JSON",)
    if len(parts) != len(expected):
        raise RefusedError(
            "bad_request", f"found {len(parts)} parts, expected {len(expected)}: {' and '.join(expected)}."
        )
    return (request, parts[1]) if isinstance(request, ScoreRequest) else request
