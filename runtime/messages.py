"""What goes over the wire: frozen pydantic models, versioned, one a kind.

A message is multipart `[topic, json, blobs...]` with the topic `station/kind`. `sequence` rises by one a
station and counts every journaled message; a heartbeat is not journaled and repeats the last one, so that a
subscriber sees when it lost the end of a burst.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Wire(BaseModel):
    """Frozen, and a key that does not exist is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), validate_by_name=True, validate_by_alias=True
    )


class ModelIdentity(Wire):
    """Which model said it."""

    bundle: str = Field(description="name of the bundle")
    digest: str = Field(description="SHA-256 of its spec.json")
    backend: str
    precision: str


class Box(Wire):
    """A rectangle in a frame, half-open, in pixels."""

    first_row: int
    first_col: int
    stop_row: int
    stop_col: int


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
    joined_ids: tuple[int, ...] = Field(
        default=(), description="earlier ids that turned out to be this defect"
    )
    rle: str = Field(description="mask in this frame: Severstal run lengths, 1-based, column-major")


class Coverage(Wire):
    """What became of a run's frames; `complete` only if each was inspected or is named as missed."""

    frames_expected: int = Field(description="span of the camera's own counter")
    frames_inspected: int
    frames_missed: int
    complete: bool


class Envelope(Wire):
    """What every message carries."""

    line: str
    station: str
    run: str = Field(description="coil or specimen")
    sequence: int = Field(ge=0, description="rises by one a station")
    captured_at: str = Field(description="wall time, UTC, ISO 8601 with microseconds")


class RunStarted(Envelope):
    """A run begins: from here on, every frame of the camera's counter is answered for."""

    kind: Literal["run_started"] = "run_started"
    schema_version: Literal["ferrosight.run_started/1"] = Field("ferrosight.run_started/1", alias="schema")
    model: ModelIdentity
    camera: str
    mm_per_px: float | None


class Inspected(Envelope):
    """One frame that the models saw, and what they found on it."""

    kind: Literal["inspected"] = "inspected"
    schema_version: Literal["ferrosight.inspected/1"] = Field("ferrosight.inspected/1", alias="schema")
    model: ModelIdentity
    frame_index: int = Field(ge=0)
    source: str = Field("", description="path of the picture where it came from a file")
    position_m: float | None
    verdict: Literal["clean", "defective"]
    defect_probability: float = Field(ge=0, le=1, description="the gate's figure")
    segmented: bool = Field(description="whether the segmenter saw the frame")
    defects: tuple[Defect, ...]
    latency_ms: dict[str, float] = Field(description="by stage, and 'total' since end of exposure")


MissedReason = Literal[
    "camera_lost", "ring_full", "camera_outage", "engine_failed", "unreadable", "wrong_size", "stopped"
]
"""Why nobody inspected a frame: the camera's counter jumped, the ring had no room, the camera was away, a
model failed, a file could not be read or had another size, or the run was stopped before the frame's turn."""


class Missed(Envelope):
    """Frames [first_index, stop_index) that nobody inspected, and why."""

    kind: Literal["missed"] = "missed"
    schema_version: Literal["ferrosight.missed/1"] = Field("ferrosight.missed/1", alias="schema")
    first_index: int = Field(ge=0)
    stop_index: int = Field(ge=1)
    reason: Literal[
        "camera_lost", "ring_full", "camera_outage", "engine_failed", "unreadable", "wrong_size", "stopped"
    ]
    detail: str = ""


class RunEnded(Envelope):
    """A run is over, and its books."""

    kind: Literal["run_ended"] = "run_ended"
    schema_version: Literal["ferrosight.run_ended/1"] = Field("ferrosight.run_ended/1", alias="schema")
    reason: Literal["finished", "stopped", "failed", "interrupted"]
    detail: str = ""
    coverage: Coverage
    defects: dict[str, int] = Field(description="defects of the run by class name")


class Heartbeat(Envelope):
    """The station lives. Not journaled; `sequence` is that of the last journaled message."""

    kind: Literal["heartbeat"] = "heartbeat"
    schema_version: Literal["ferrosight.heartbeat/1"] = Field("ferrosight.heartbeat/1", alias="schema")
    state: Literal["ready", "running", "ended"]
    frames_inspected: int
    frames_missed: int


Message = Annotated[RunStarted | Inspected | Missed | RunEnded | Heartbeat, Field(discriminator="kind")]

MESSAGE: TypeAdapter[Any] = TypeAdapter(Message)
"""Reads any message: `MESSAGE.validate_json(text)`."""

KINDS: dict[str, type[Envelope]] = {
    "run_started": RunStarted,
    "inspected": Inspected,
    "missed": Missed,
    "run_ended": RunEnded,
    "heartbeat": Heartbeat,
}


def topic_of(message: Envelope) -> str:
    """The topic of a message: `station/kind`."""
    return f"{message.station}/{message.kind}"  # pyright: ignore[reportAttributeAccessIssue]


def json_of(message: Envelope) -> bytes:
    """The JSON part of a message, as it goes over the wire and into the journal."""
    return message.__pydantic_serializer__.to_json(message, by_alias=True)
