"""A small station over real sockets: journal, publisher and replay on loopback, and messages to send."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import zmq

from runtime.delivery.client import Received, Subscriber
from runtime.delivery.journal import Journal, Retention, record_of
from runtime.delivery.publisher import Publisher
from runtime.delivery.replay import ReplayServer
from runtime.delivery.wire import Box, Raster
from runtime.facts import Facts
from runtime.messages import (
    Coverage,
    Defect,
    Heartbeat,
    Inspected,
    Message,
    Missed,
    ModelIdentity,
    Overridden,
    RunEnded,
    RunStarted,
    Scored,
    StripBox,
    Swapped,
    SwapRefused,
    json_of,
    topic_of,
    utc_text,
)
from runtime.scored import FractureResult

LINE = "mill-2"
STATION = "strip-1"
ANY_PORT = "tcp://127.0.0.1:*"
EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)

MODEL = ModelIdentity(bundle="strip", digest="5e" * 32, backend="openvino", precision="fp16")


def moment(sequence: int) -> str:
    """Wall time of a message: one second each."""
    return utc_text(EPOCH + timedelta(seconds=sequence))


def run_started(sequence: int, run: str = "coil-7", station: str = STATION) -> RunStarted:
    return RunStarted(
        line=LINE,
        station=station,
        run=run,
        sequence=sequence,
        captured_at=moment(sequence),
        model=MODEL,
        camera="top",
        mm_per_px=0.5,
    )


def inspected(
    sequence: int,
    frame_index: int | None = None,
    run: str = "coil-7",
    station: str = STATION,
    defects: tuple[Defect, ...] = (),
) -> Inspected:
    return Inspected(
        line=LINE,
        station=station,
        run=run,
        sequence=sequence,
        captured_at=moment(sequence),
        model=MODEL,
        frame_index=sequence if frame_index is None else frame_index,
        position_m=12.5,
        verdict="defective" if defects else "clean",
        defect_probability=0.98 if defects else 0.02,
        segmented=bool(defects),
        defects=defects,
        latency_ms={"grab": 0.1, "gate": 2.5, "total": 3.2},
    )


def scored(sequence: int, frame_index: int | None = None, run: str = "coil-7", **fields: Any) -> Scored:
    """One fracture surface, accepted."""
    return Scored(
        line=LINE,
        station=STATION,
        run=run,
        sequence=sequence,
        captured_at=moment(sequence),
        model=MODEL,
        frame_index=sequence if frame_index is None else frame_index,
        facts=Facts(specimen="S7", mm_per_px=0.1, thickness_mm=19.0, notch_side="left"),
        verdict="accepted",
        result=FractureResult(
            brittle_ratio=0.08,
            rated_region=Box(first_row=0, first_col=190, stop_row=300, stop_col=510),
            rated_brittle_ratio=0.06,
            shear_percent=94.0,
            uncertainty_percent=2.5,
            min_shear_percent=85.0,
            decided_by="figure",
            activation=Raster.of(np.arange(12, dtype=np.uint8).reshape(3, 4)),
        ),
        latency_ms={"read": 4.0, "model": 31.0, "total": 36.2},
        **fields,
    )


def missed(sequence: int, first_index: int, stop_index: int, run: str = "coil-7") -> Missed:
    return Missed(
        line=LINE,
        station=STATION,
        run=run,
        sequence=sequence,
        captured_at=moment(sequence),
        first_index=first_index,
        stop_index=stop_index,
        reason="ring_full",
    )


def missed_picture(sequence: int, image_sha256: str) -> Missed:
    return Missed(
        line=LINE,
        station=STATION,
        run="coil-7",
        sequence=sequence,
        captured_at=moment(sequence),
        first_index=sequence,
        stop_index=sequence + 1,
        reason="unreadable",
        detail="picture specimens/a7-2.png: found a truncated PNG (812 bytes), expected a whole picture.",
        source="specimens/a7-2.png",
        image_sha256=image_sha256,
    )


def overridden(
    sequence: int, scored_sequence: int, verdict: Literal["accepted", "rejected"] = "rejected"
) -> Overridden:
    return Overridden(
        line=LINE,
        station=STATION,
        run="coil-7",
        sequence=sequence,
        captured_at=moment(sequence),
        scored_sequence=scored_sequence,
        image_sha256="a" * 64,
        specimen="A7-1",
        verdict_before="accepted",
        verdict=verdict,
        name="M. Hadfield",
        reason="inverse fracture at the hammer side",
    )


def swapped(sequence: int, next_index: int | None = 7) -> Swapped:
    return Swapped(
        line=LINE,
        station=STATION,
        run="coil-7",
        sequence=sequence,
        captured_at=moment(sequence),
        before=MODEL,
        model=MODEL.model_copy(update={"digest": "7b" * 32}),
        next_index=next_index,
        name="M. Hadfield",
        reason="trained on the new grade",
    )


def swap_refused(sequence: int) -> SwapRefused:
    return SwapRefused(
        line=LINE,
        station=STATION,
        run="coil-7",
        sequence=sequence,
        captured_at=moment(sequence),
        model=MODEL,
        bundle="bundles/strip-8",
        name="M. Hadfield",
        reason="trained on the new grade",
        detail="bundle bundles/strip-8: gate.fp16.onnx is missing. Copy the whole folder again.",
    )


def run_ended(sequence: int, coverage: Coverage | None = None, run: str = "coil-7") -> RunEnded:
    return RunEnded(
        line=LINE,
        station=STATION,
        run=run,
        sequence=sequence,
        captured_at=moment(sequence),
        reason="finished",
        coverage=coverage or Coverage(frames_expected=0, frames_inspected=0, frames_missed=0, complete=True),
        defects={"scratch": 1},
    )


def defect(defect_id: int = 0) -> Defect:
    return Defect(
        defect_id=defect_id,
        class_id=3,
        class_name="scratch",
        probability=0.91,
        area_px=116,
        area_mm2=29.0,
        total_area_px=236,
        box=Box(first_row=0, first_col=310, stop_row=58, stop_col=312),
        strip_box=StripBox(
            along_first_mm=12_471.0, along_stop_mm=12_529.0, across_first_mm=155.0, across_stop_mm=156.0
        ),
        continues_above=True,
        reaches_bottom=False,
        rle="79361 58 79617 58",
    )


class Clock:
    """A monotonic clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Station:
    """Journal, publisher and replay, as a station process has them.

    Args:
        folder: Where the journal lies.
        publish: Endpoint of the publisher; one that was used before, to be found again after a restart.
        replay: Endpoint of the replay; None runs without.
    """

    def __init__(
        self,
        folder: Path,
        publish: str = ANY_PORT,
        replay: str | None = ANY_PORT,
        *,
        send_queue: int = 10_000,
        retention: Retention | None = None,
        boot_id: str | None = None,
    ) -> None:
        self.clock = Clock()
        self.context = zmq.Context()
        self.journal = Journal(folder / "journal.sqlite", LINE, retention=retention, boot_id=boot_id)
        self.publisher = Publisher(
            publish,
            self.journal,
            station=STATION,
            context=self.context,
            clock_ns=self.clock,
            wall=lambda: EPOCH,
            send_queue=send_queue,
        )
        self.replay = None if replay is None else self.open_replay(replay)

    def open_replay(self, endpoint: str = ANY_PORT) -> ReplayServer:
        self.replay = ReplayServer(endpoint, self.journal.path, context=self.context)
        return self.replay

    def publish(self, count: int, make: Callable[[int], Message] = inspected) -> range:
        """Publish so many messages in batches of 8; gives their sequences."""
        first = self.publisher.next_sequence
        for batch in range(first, first + count, 8):
            self.publisher.publish([make(s) for s in range(batch, min(batch + 8, first + count))])
        return range(first, first + count)

    def beat(self) -> None:
        """Send a heartbeat now."""
        self.clock.now_ns += 2_000_000_000
        assert self.publisher.beat("running")

    def subscribe(self, after: int | None = -1, cursor: Path | None = None) -> Subscriber:
        assert self.replay is not None
        return Subscriber(self.publisher.endpoint, self.replay.endpoint, station=STATION, after=after, cursor=cursor)

    def close(self) -> None:
        if self.replay is not None:
            self.replay.close()
        self.publisher.close()
        self.journal.close()
        self.context.term()

    def __enter__(self) -> Station:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def take(subscriber: Subscriber, count: int, within_s: float = 20.0) -> list[Received]:
    """The next so many messages; fewer only if they do not come."""
    got: list[Received] = []
    give_up = time.monotonic() + within_s
    while len(got) < count and time.monotonic() < give_up:
        received = subscriber.receive(timeout_s=0.2)
        if received is not None:
            got.append(received)
    return got


def sequences(received: list[Received]) -> list[int]:
    return [item.message.sequence for item in received]


def hear(station: Station, subscriber: Subscriber) -> None:
    """Wait until the subscriber hears the publisher live."""
    before = subscriber.heartbeat
    give_up = time.monotonic() + 20
    while subscriber.heartbeat is before and time.monotonic() < give_up:
        station.beat()
        assert subscriber.receive(timeout_s=0.02) is None
    assert subscriber.heartbeat is not before


def hear_until(station: Station, subscriber: Subscriber, received: list[Received], total: int) -> None:
    """Receive with the station's heart beating, until so many messages are there."""
    give_up = time.monotonic() + 20
    while len(received) < total and time.monotonic() < give_up:
        station.beat()
        received += take(subscriber, 1, within_s=0.05)


class LossyPublisher:
    """A PUB socket in the station's place that loses exactly the messages it is told to."""

    def __init__(self, station: Station) -> None:
        self._journal = station.journal
        self._socket = station.context.socket(zmq.PUB)
        self._socket.bind(ANY_PORT)
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT)
        self._journal.next_sequence(STATION)

    def __call__(self, heard: list[bool]) -> None:
        """Journal a message for each flag, and send those whose flag is set."""
        first = self._journal.next_sequence(STATION)
        records = [record_of(inspected(first + i)) for i in range(len(heard))]
        self._journal.append(records)
        for record, is_heard in zip(records, heard, strict=True):
            if is_heard:
                self._socket.send_multipart((record.topic.encode(), record.json))

    def beat(self) -> None:
        """Send a heartbeat."""
        heartbeat = Heartbeat(
            line=LINE,
            station=STATION,
            run="",
            sequence=self._journal.last_sequence(STATION),
            captured_at=moment(0),
            state="running",
            frames_inspected=0,
            frames_missed=0,
        )
        self._socket.send_multipart((topic_of(heartbeat).encode(), json_of(heartbeat)))

    def close(self) -> None:
        self._socket.close(linger=0)


@contextmanager
def lossy(station: Station) -> Iterator[tuple[Subscriber, LossyPublisher]]:
    """A subscriber that hears a lossy publisher, and the station's replay."""
    assert station.replay is not None
    publisher = LossyPublisher(station)
    try:
        with Subscriber(publisher.endpoint, station.replay.endpoint, station=STATION) as subscriber:
            give_up = time.monotonic() + 20
            while subscriber.heartbeat is None and time.monotonic() < give_up:
                publisher.beat()
                assert subscriber.receive(timeout_s=0.02) is None
            yield subscriber, publisher
    finally:
        publisher.close()
