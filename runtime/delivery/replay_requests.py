"""How the journal's messages are asked for again, and what surrounds the answer; see docs/wire.md."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runtime.delivery.wire import Wire
from runtime.messages import MAX_SEQUENCE, StationName


class ReplayRequest(Wire):
    """A consumer asks for the journaled messages [first, stop) of a station."""

    schema_version: Literal["ferrosight.replay/1"] = Field(default="ferrosight.replay/1", alias="schema")
    station: StationName
    journal: str | None = Field(
        default=None, description="identity of the journal that the consumer knows; another one is refused"
    )
    first: int = Field(ge=0, le=MAX_SEQUENCE)
    stop: int = Field(ge=0, le=MAX_SEQUENCE, description="may lie past the end; ask on from the answer's 'stop'")


class ReplayBegin(Wire):
    """The first part of an answer: whose history follows."""

    schema_version: Literal["ferrosight.replay_begin/1"] = Field(default="ferrosight.replay_begin/1", alias="schema")
    station: StationName
    journal: str = Field(description="identity of the journal file; another one means another history")


class ReplayEnd(Wire):
    """The last part of an answer: all that the journal has of [first, stop) was sent before it."""

    schema_version: Literal["ferrosight.replay_end/1"] = Field(default="ferrosight.replay_end/1", alias="schema")
    station: StationName
    first: int = Field(ge=0, le=MAX_SEQUENCE)
    stop: int = Field(ge=0, le=MAX_SEQUENCE)
    last_sequence: int = Field(ge=-1, le=MAX_SEQUENCE, description="newest in the journal; -1 while empty")


ReplayReason = Literal["bad_request", "unknown_station", "other_journal", "unavailable"]
"""Why a request is not met: it is malformed, or asks for a station or a journal that is not here; or the
journal cannot be read at the moment, and only then is it worth asking again."""


class ReplayError(Wire):
    """The answer to a request that cannot be met."""

    schema_version: Literal["ferrosight.replay_error/1"] = Field(default="ferrosight.replay_error/1", alias="schema")
    reason: ReplayReason
    error: str
