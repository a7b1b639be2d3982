"""What goes over the wire: frozen pydantic models, versioned, one a kind.

A message is multipart `[topic, json, blobs...]` with the topic `station/kind`. `sequence` rises by one a
station and counts every journaled message; a heartbeat is not journaled and repeats the last one, so that a
subscriber sees when it lost the end of a burst. `docs/wire.md` shows each kind and the replay protocol.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, field_validator, model_validator

from runtime.delivery.wire import Box, Digest, Wire
from runtime.facts import Facts
from runtime.scored import Result, Score

MAX_SEQUENCE = 2**63 - 1
"""The largest sequence number: what SQLite holds in an integer."""

StationName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""A name without a slash, because the topic is `station/kind`."""

UtcText = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$")]
"""Wall time as `utc_text` writes it: of one width, so that texts sort as the moments do."""


def utc_text(moment: datetime) -> str:
    """Wall time as the wire writes it: UTC, ISO 8601, always with microseconds.

    >>> utc_text(datetime(2026, 3, 1, 12, 30, tzinfo=timezone.utc))
    '2026-03-01T12:30:00.000000+00:00'
    """
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")


class ModelIdentity(Wire):
    """Which model said it."""

    bundle: str = Field(description="name of the bundle")
    digest: str = Field(description="SHA-256 of its spec.json")
    backend: str
    precision: str


class StripBox(Wire):
    """A rectangle on the strip, in millimetres from its start and from the image's left side."""

    along_first_mm: float
    along_stop_mm: float
    across_first_mm: float
    across_stop_mm: float


class Defect(Wire):
    """One defect as this frame shows it, and as a whole so far.

    A defect that crosses a frame border is one defect: each frame reports its part under the same id, with
    the figures of the whole up to that frame in `total_area_px` and `strip_box`.
    """

    defect_id: int = Field(description="unique in a run, rising")
    class_id: int = Field(ge=1)
    class_name: str
    probability: float = Field(ge=0, le=1, description="mean class probability over the pixels in this frame")
    area_px: int = Field(ge=1, description="pixels in this frame")
    area_mm2: float | None = Field(description="area in this frame; null without a scale")
    total_area_px: int = Field(ge=1, description="pixels of the whole defect so far")
    box: Box
    strip_box: StripBox | None = Field(description="the whole defect so far; null without scale and position")
    continues_above: bool = Field(description="it began in an earlier frame")
    reaches_bottom: bool = Field(description="it touches the last row and may go on in the next frame")
    joined_ids: tuple[int, ...] = Field(default=(), description="earlier ids that turned out to be this defect")
    rle: str = Field(description="mask in this frame: Severstal run lengths, 1-based, column-major")


class Coverage(Wire):
    """What became of a run's frames; `complete` only if each was inspected or is named as missed."""

    frames_expected: int = Field(ge=0, description="span of the camera's own counter")
    frames_inspected: int = Field(ge=0)
    frames_missed: int = Field(ge=0)
    complete: bool

    @model_validator(mode="after")
    def _complete_books_add_up(self) -> Coverage:
        answered = self.frames_inspected + self.frames_missed
        if self.complete and answered != self.frames_expected:
            raise ValueError(f"complete, but {answered} frames are answered for of {self.frames_expected}")
        return self


class Envelope(Wire):
    """What every message carries."""

    line: str = Field(min_length=1)
    station: StationName
    run: str = Field(description="coil or specimen; empty only in a heartbeat before the first run")
    sequence: int = Field(ge=0, le=MAX_SEQUENCE, description="rises by one a station")
    captured_at: UtcText = Field(description="wall time, UTC, ISO 8601 with microseconds")

    def frame_range(self) -> tuple[int, int] | None:
        """Frames [first, stop) that this message answers for; None where it answers for none."""
        return None

    def image_digest(self) -> str | None:
        """SHA-256 of the picture's file that this message answers for; None where it answers for none."""
        return None


class RunStarted(Envelope):
    """A run begins: from here on, every frame of the camera's counter is answered for."""

    kind: Literal["run_started"] = "run_started"
    schema_version: Literal["ferrosight.run_started/1"] = Field(default="ferrosight.run_started/1", alias="schema")
    model: ModelIdentity
    camera: str
    mm_per_px: float | None


class Inspected(Envelope):
    """One frame that the models saw, and what they found on it."""

    kind: Literal["inspected"] = "inspected"
    schema_version: Literal["ferrosight.inspected/1"] = Field(default="ferrosight.inspected/1", alias="schema")
    model: ModelIdentity
    frame_index: int = Field(ge=0)
    source: str = Field(default="", description="path of the picture where it came from a file")
    position_m: float | None
    verdict: Literal["clean", "defective"]
    defect_probability: float = Field(ge=0, le=1, description="the gate's figure")
    segmented: bool = Field(description="whether the segmenter saw the frame")
    defects: tuple[Defect, ...]
    latency_ms: dict[str, float] = Field(description="by stage, and 'total' since end of exposure")

    def frame_range(self) -> tuple[int, int]:
        """The one frame that was inspected."""
        return self.frame_index, self.frame_index + 1


class Scored(Envelope):
    """One picture that was judged as a whole, and what is to be said of it."""

    kind: Literal["scored"] = "scored"
    schema_version: Literal["ferrosight.scored/2"] = Field(default="ferrosight.scored/2", alias="schema")
    model: ModelIdentity
    frame_index: int = Field(ge=0)
    source: str = Field(default="", description="path of the picture where it came from a file")
    image_sha256: Digest | None = Field(default=None, description="of the file's bytes; null where there was no file")
    facts: Facts = Field(description="what was known of the picture")
    verdict: Score
    result: Result
    latency_ms: dict[str, float] = Field(description="by stage, and 'total' since end of exposure")

    @field_validator("schema_version", mode="before")
    @classmethod
    def _the_first_version_is_the_same_with_fewer_tasks(cls, found: object) -> object:
        # Journals keep what was published; every result of version 1 is one of version 2.
        return "ferrosight.scored/2" if found == "ferrosight.scored/1" else found

    def frame_range(self) -> tuple[int, int]:
        """The one picture that was scored."""
        return self.frame_index, self.frame_index + 1

    def image_digest(self) -> str | None:
        """Of the picture that was scored."""
        return self.image_sha256


class Overridden(Envelope):
    """An operator's word on a scored picture; of several, the last one holds. `captured_at` is when it was given."""

    kind: Literal["overridden"] = "overridden"
    schema_version: Literal["ferrosight.overridden/1"] = Field(default="ferrosight.overridden/1", alias="schema")
    scored_sequence: int = Field(ge=0, le=MAX_SEQUENCE, description="of the station's message that is overridden")
    image_sha256: Digest | None = Field(description="of the picture, as the scored message has it")
    specimen: str = Field(description="as the scored message has it")
    verdict_before: Score = Field(description="what the station said")
    verdict: Literal["accepted", "rejected"]
    name: str = Field(min_length=1, max_length=200, description="who says so")
    reason: str = Field(min_length=1, max_length=2000, description="why")


class Swapped(Envelope):
    """Another bundle serves from here on: messages before this one are the old bundle's, those after it the new one's.

    `captured_at` is when it took over, between two batches of frames or two pictures.
    """

    kind: Literal["swapped"] = "swapped"
    schema_version: Literal["ferrosight.swapped/1"] = Field(default="ferrosight.swapped/1", alias="schema")
    before: ModelIdentity = Field(description="what served until now")
    model: ModelIdentity = Field(description="what serves from now on")
    next_index: int | None = Field(
        ge=0,
        description="the first frame_index that it answers for: of the camera's counter, or of the pictures that a "
        "triggered station counts; null before the run's first",
    )
    name: str = Field(min_length=1, max_length=200, description="who asked for it")
    reason: str = Field(max_length=2000, description="why")


class SwapRefused(Envelope):
    """A bundle was to take over and could not: the old one serves on, and no frame was touched."""

    kind: Literal["swap_refused"] = "swap_refused"
    schema_version: Literal["ferrosight.swap_refused/1"] = Field(default="ferrosight.swap_refused/1", alias="schema")
    model: ModelIdentity = Field(description="what serves on")
    bundle: str = Field(description="path of the bundle that was asked for")
    name: str = Field(min_length=1, max_length=200, description="who asked for it")
    reason: str = Field(max_length=2000, description="why they did")
    detail: str = Field(min_length=1, description="what is wrong with the bundle, and what to do")


MissedReason = Literal[
    "camera_lost",
    "ring_full",
    "camera_outage",
    "engine_failed",
    "unreadable",
    "wrong_size",
    "bad_facts",
    "no_facts",
    "not_settled",
    "stopped",
]
"""Why nobody inspected a frame: the camera's counter jumped, the ring had no room, the camera was away, a
model failed, a file could not be read or had another size, what was said beside it was wrong or did not come, it
never stopped changing, or the run was stopped before the frame's turn."""


class Missed(Envelope):
    """Frames [first_index, stop_index) that nobody inspected, and why."""

    kind: Literal["missed"] = "missed"
    schema_version: Literal["ferrosight.missed/2"] = Field(default="ferrosight.missed/2", alias="schema")
    first_index: int = Field(ge=0)
    stop_index: int = Field(ge=1)
    reason: MissedReason
    detail: str = ""
    source: str = Field(default="", description="path of the picture where it came from a file")
    image_sha256: Digest | None = Field(default=None, description="of the file's bytes; null where they were not read")

    @field_validator("schema_version", mode="before")
    @classmethod
    def _the_first_version_is_the_same_without_a_source(cls, found: object) -> object:
        # Journals keep what was published; a message of version 1 reads as one that names no picture.
        return "ferrosight.missed/2" if found == "ferrosight.missed/1" else found

    @model_validator(mode="after")
    def _names_at_least_one_frame(self) -> Missed:
        if self.stop_index <= self.first_index:
            raise ValueError(f"frames [{self.first_index}, {self.stop_index}) are none")
        return self

    def frame_range(self) -> tuple[int, int]:
        """The frames that nobody inspected."""
        return self.first_index, self.stop_index

    def image_digest(self) -> str | None:
        """Of the picture that could not be used."""
        return self.image_sha256


class RunEnded(Envelope):
    """A run is over, and its books."""

    kind: Literal["run_ended"] = "run_ended"
    schema_version: Literal["ferrosight.run_ended/1"] = Field(default="ferrosight.run_ended/1", alias="schema")
    reason: Literal["finished", "stopped", "failed", "interrupted"]
    detail: str = ""
    coverage: Coverage
    defects: dict[str, int] = Field(description="defects of the run by class name")


StationState = Literal["ready", "running", "ended"]
"""What a station does: waits for its first run, is in a run, or has ended one."""


class Heartbeat(Envelope):
    """The station lives. Not journaled; `sequence` is the last journaled one, -1 before the first."""

    kind: Literal["heartbeat"] = "heartbeat"
    schema_version: Literal["ferrosight.heartbeat/1"] = Field(default="ferrosight.heartbeat/1", alias="schema")
    sequence: int = Field(ge=-1, le=MAX_SEQUENCE, description="of the station's last journaled message")
    state: StationState
    frames_inspected: int = Field(ge=0)
    frames_missed: int = Field(ge=0)


Message = Annotated[
    RunStarted | Inspected | Scored | Overridden | Swapped | SwapRefused | Missed | RunEnded | Heartbeat,
    Field(discriminator="kind"),
]

MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
"""Reads any message: `MESSAGE.validate_json(text)`."""

KINDS: dict[str, type[Envelope]] = {
    "run_started": RunStarted,
    "inspected": Inspected,
    "scored": Scored,
    "overridden": Overridden,
    "swapped": Swapped,
    "swap_refused": SwapRefused,
    "missed": Missed,
    "run_ended": RunEnded,
    "heartbeat": Heartbeat,
}


def topic_of(message: Message) -> str:
    """The topic of a message: `station/kind`."""
    return f"{message.station}/{message.kind}"


def json_of(message: Wire) -> bytes:
    """The JSON part of a message, as it goes over the wire and into the journal."""
    return message.__pydantic_serializer__.to_json(message, by_alias=True)
