"""The ring against a plain model, between two processes, and with writers killed at any moment."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera.base import CameraError, Frame, Lost, LostReason
from camera.ring import Batch, Policy, RingReader, WriterGone
from camera.ring_memory import MAX_SLOTS
from camera.ring_writer import RING_FULL, RingWriter

PEER = Path(__file__).with_name("ring_peer.py")
ROOT = Path(__file__).resolve().parents[2]
SHAPE = (2, 3)


@pytest.fixture
def reader() -> Iterator[RingReader]:
    ring = RingReader("top", 4, *SHAPE)
    yield ring
    ring.close()


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def frame(index: int, fill: int | None = None) -> Frame:
    pixels = np.full(SHAPE, (index if fill is None else fill) % 251, np.uint8)
    return Frame("top", index, 1000 + index, pixels, index / 4, f"picture {index}" if index % 3 else "")


def drain(reader: RingReader, max_frames: int = 8) -> list[Batch | Lost | WriterGone]:
    events = []
    while (event := reader.take(max_frames)) is not None:
        events.append(event)
    return events


def test_a_frame_comes_out_as_it_went_in(reader: RingReader) -> None:
    writer = RingWriter("top", reader.handles, Policy.WAIT)
    sent = [frame(7), frame(8)]
    assert all(writer.put(each) for each in sent)
    batch = reader.take(8)
    assert isinstance(batch, Batch)
    assert (len(batch), batch.first_index, batch.camera) == (2, 7, "top")
    for got, expected in zip(batch.frames(), sent, strict=True):
        assert np.array_equal(got.pixels, expected.pixels)
        assert (got.index, got.captured_ns, got.position_m, got.source, got.camera) == (
            expected.index,
            expected.captured_ns,
            expected.position_m,
            expected.source,
            "top",
        )
    assert reader.take(8) is None


def test_a_batch_is_a_view_of_the_ring(reader: RingReader) -> None:
    writer = RingWriter("top", reader.handles, Policy.WAIT)
    for index in range(3):
        writer.put(frame(index))
    batch = reader.take(8)
    assert isinstance(batch, Batch)
    assert batch.pixels.shape == (3, 1, *SHAPE)
    assert batch.pixels.flags.c_contiguous
    assert np.shares_memory(batch.pixels, reader.pixels)
    assert reader.pixels.ctypes.data % 4096 == 0


def test_a_batch_ends_at_the_end_of_the_ring(reader: RingReader) -> None:
    writer = RingWriter("top", reader.handles, Policy.WAIT)
    for index in range(3):
        writer.put(frame(index))
    for each in drain(reader):
        assert isinstance(each, Batch)
        each.release()
    for index in range(3, 7):
        writer.put(frame(index))
    assert reader.ready(8) == (1, True)  # waiting longer would not make this batch larger
    sizes = [len(each) for each in drain(reader) if isinstance(each, Batch)]
    assert sizes == [1, 3]


def test_a_frame_made_in_the_slot_it_was_lent_stays_there(reader: RingReader) -> None:
    writer = RingWriter("top", reader.handles, Policy.DROP_NEWEST)
    for index in range(4):
        slot = writer.lend()
        assert slot is not None
        assert slot.shape == SHAPE
        slot[:] = 10 + index
        assert (reader.pixels[index] == 10 + index).all()  # two mappings of one memory
        assert writer.put(replace(frame(index), pixels=slot))
    assert writer.lend() is None
    batch = reader.take(8)
    assert isinstance(batch, Batch)
    assert batch.pixels[:, 0, 1, 2].tolist() == [10, 11, 12, 13]
    batch.release()
    lent = writer.lend()
    assert lent is not None
    lent[:] = 255  # nothing came of it
    assert writer.put(frame(4))
    assert [each.pixels.max() for each in drain(reader) if isinstance(each, Batch)] == [4]


def test_batches_may_be_released_in_any_order_and_twice(reader: RingReader) -> None:
    writer = RingWriter("top", reader.handles, Policy.WAIT)
    for index in range(4):
        writer.put(frame(index))
    first, second = reader.take(2), reader.take(2)
    assert isinstance(first, Batch)
    assert isinstance(second, Batch)
    assert not writer.put(frame(4))
    second.release()
    second.release()
    assert writer.put(frame(4))
    assert writer.put(frame(5))
    third = reader.take(2)
    assert isinstance(third, Batch)
    assert (third.first_index, len(third)) == (4, 2)
    second.release()
    assert not writer.put(frame(6))
    assert first.pixels[:, 0, 0, 0].tolist() == [0, 1]
    first.release()
    assert writer.put(frame(6))
    assert sum(len(each) for each in drain(reader) if isinstance(each, Batch)) == 1


def test_a_jump_of_the_counter_is_told_even_if_the_writer_did_not(reader: RingReader) -> None:
    writer = RingWriter("top", reader.handles, Policy.WAIT)
    writer.put(frame(0))
    writer.put(frame(3))
    before, gap, after = drain(reader)
    assert gap == Lost("top", 1, 3, "camera_lost", "the counter jumped")
    assert isinstance(before, Batch)
    assert isinstance(after, Batch)


def test_a_long_text_keeps_its_beginning_and_its_end(reader: RingReader) -> None:
    writer = RingWriter("top", reader.handles, Policy.WAIT)
    text = "ä" * 5000 + "/the_end.png"
    writer.lose(Lost("top", 0, 1, "unreadable", text))
    writer.flush()
    lost = reader.take(1)
    assert isinstance(lost, Lost)
    assert lost.detail.startswith("ää")
    assert lost.detail.endswith("ää/the_end.png")
    assert len(lost.detail.encode()) < 1024


def test_a_frame_of_another_size_is_refused(reader: RingReader) -> None:
    writer = RingWriter("top", reader.handles, Policy.WAIT)
    with pytest.raises(CameraError, match=r"found a frame \(2, 4\) of uint8, expected \(2, 3\)"):
        writer.put(Frame("top", 0, 0, np.zeros((2, 4), np.uint8)))
    with pytest.raises(CameraError, match="float32"):
        writer.put(Frame("top", 0, 0, np.zeros(SHAPE, np.float32)))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("size", [(0, 2, 2), (MAX_SLOTS + 1, 2, 2), (2, 0, 2), (2, 2, 0)])
def test_a_size_that_makes_no_ring_is_refused(size: tuple[int, int, int]) -> None:
    with pytest.raises(CameraError, match="expected 1 to 1024 slots"):
        RingReader("top", *size)


def test_a_ring_that_does_not_fit_is_refused_and_leaves_nothing() -> None:
    before = descriptors_open()
    with pytest.raises(CameraError, match=r"MB of shared memory. Use fewer slots"):
        RingReader("top", 1024, 1 << 24, 1 << 24)
    assert descriptors_open() == before


@pytest.mark.parametrize("policy", list(Policy))
def test_a_reader_that_stands_still_under_a_flood_of_losses(policy: Policy) -> None:
    """Far more losses than the ring's table of events holds; each frame is still answered for, in order."""
    count = 20_000
    reader = RingReader("top", 4, *SHAPE)
    writer = RingWriter("top", reader.handles, policy)
    accepted = 0
    for index in range(count):
        lost = Lost("top", index, index + 1, "unreadable", f"picture {index}")
        event_taken = writer.put(frame(index)) if index % 2 else writer.lose(lost)
        if not event_taken:
            assert policy is Policy.WAIT
            break
        accepted = index + 1
    assert (accepted == count) == (policy is not Policy.WAIT)
    covered: list[int] = []
    while not writer.flush() or reader.pending:
        event = reader.take(8)
        if isinstance(event, Batch):
            covered.extend(range(event.first_index, event.first_index + len(event)))
            event.release()
        elif isinstance(event, Lost):
            covered.extend(range(event.first_index, event.stop_index))
    assert covered == list(range(accepted))
    reader.close()


class RingModel:
    """Every step against what a plain list of outcomes says must happen."""

    def __init__(self, policy: Policy, slots: int) -> None:
        self.policy, self.slots = policy, slots
        self.reader = RingReader("top", slots, *SHAPE)
        self.writer = RingWriter("top", self.reader.handles, policy)
        self.expected: deque[list[LostReason | None]] = deque([[]])  # by writer and index; None is a frame
        self.received: list[LostReason | None] = []  # of the oldest writer that is not done
        self.held: list[tuple[Batch, int]] = []  # batches with the number of their writer
        self.writers = 1
        self.told = 0  # indexes of the present writer that can come out of the ring
        self.stored = 0  # frames in slots: put, and neither dropped nor released
        self.next_index = 0
        self.waits = False  # a frame stands before the full ring

    def fill(self, writer: int, index: int) -> int:
        return (writer * 31 + index) % 251

    def put(self, count: int) -> None:
        for _ in range(count):
            self.put_one()

    def put_one(self) -> None:
        now = self.expected[-1]
        unread_from = self.reader._ledger.next_index or 0
        unread = [index for index in range(unread_from, len(now)) if now[index] is None]
        room = self.stored < self.slots
        made = frame(self.next_index, self.fill(self.writers, self.next_index))
        if self.next_index % 3:
            slot = self.writer.lend()
            assert (slot is not None) == room
            if slot is not None:
                slot[:] = made.pixels
                made = replace(made, pixels=slot)
        answered = self.writer.put(made)
        if not room and self.policy is Policy.WAIT:
            assert not answered
            self.waits = True
            return
        assert answered
        if not room and self.policy is Policy.DROP_OLDEST and unread:
            now[unread[0]] = "ring_full"
            self.stored -= 1
            room = True
        now.append(None if room else "ring_full")
        self.next_index += 1
        self.waits = False
        if room:
            self.stored += 1
            self.told = self.next_index

    def lose(self, count: int) -> None:
        if self.waits:
            return
        first, stop = self.next_index, self.next_index + count
        assert self.writer.lose(Lost("top", first, stop, "unreadable", "a picture"))
        self.expected[-1].extend(["unreadable"] * count)
        self.told, self.next_index = first, stop

    def flush(self, _: int) -> None:
        assert self.writer.flush()
        self.told = self.next_index

    def take(self, max_frames: int) -> None:
        event = self.reader.take(max_frames)
        number = self.writers - len(self.expected) + 1
        place = len(self.received)
        if isinstance(event, Batch):
            assert 1 <= len(event) <= max_frames
            assert event.first_index == place
            self.received.extend([None] * len(event))
            self.held.append((event, number))
            self.check(event, number)
        elif isinstance(event, Lost):
            assert event.first_index == place
            self.received.extend([event.reason] * (event.stop_index - place))
            assert event.detail == {"ring_full": RING_FULL, "unreadable": "a picture"}[event.reason]
        elif isinstance(event, WriterGone):
            assert event.fault == f"end of {number}"
            whole = self.expected.popleft()
            assert self.received == whole[: len(whole) - event.frames_lost]
            self.received = []
        assert self.received == self.expected[0][: len(self.received)]

    def check(self, batch: Batch, number: int) -> None:
        for each in batch.frames():
            assert (each.pixels == self.fill(number, each.index)).all()

    def release(self, place: int) -> None:
        if not self.held:
            return
        batch, number = self.held.pop(place % len(self.held))
        self.check(batch, number)  # nobody wrote into it while it was held
        self.stored -= len(batch)
        batch.release()

    def next_writer(self, _: int) -> None:
        """The writer dies, with what it has not told yet, and another takes over."""
        self.reader.writer_gone(f"end of {self.writers}")
        grabbed = self.next_index + self.waits
        self.expected[-1] = self.expected[-1][: self.told] + ["camera_outage"] * (grabbed - self.told)
        self.expected.append([])
        self.writers += 1
        self.told = self.next_index = 0
        self.waits = False
        self.writer = RingWriter("top", self.reader.handles, self.policy)

    def finish(self) -> None:
        assert self.writer.flush()
        while self.reader.pending:
            self.take(8)
        assert list(self.expected) == [self.received]
        while self.held:
            self.release(0)
        assert self.stored == 0
        for index in range(self.slots):  # every slot can be used again
            assert self.writer.put(frame(self.next_index + index))


STEPS = ["put"] * 4 + ["take"] * 3 + ["release"] * 3 + ["lose"] * 2 + ["flush", "next_writer"]


@settings(max_examples=120, deadline=None, report_multiple_bugs=False)
@given(
    policy=st.sampled_from(list(Policy)),
    slots=st.integers(1, 6),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 8)), min_size=20, max_size=80),
)
def test_the_ring_does_what_the_model_says(policy: Policy, slots: int, steps: list[tuple[str, int]]) -> None:
    model = RingModel(policy, slots)
    try:
        for step, number in steps:
            getattr(model, step)(number)
        model.finish()
    finally:
        model.reader.close()


def start_peer(reader: RingReader, policy: Policy, first: int, frames: int, pause_s: float = 0.0) -> subprocess.Popen:
    handles = reader.handles
    numbers = (handles.slots, handles.height_px, handles.width_px, *handles.descriptors)
    return subprocess.Popen(
        [sys.executable, str(PEER), policy.value, str(first), str(frames), str(pause_s), *map(str, numbers)],
        pass_fds=handles.descriptors,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def receive(
    reader: RingReader, process: subprocess.Popen, pictures: dict[int, bytes], rng: random.Random, busy_s: float
) -> dict[int, LostReason | None]:
    """Take and check everything until the process has ended, holding some batches for a while."""
    outcome: dict[int, LostReason | None] = {}
    held: deque[Batch] = deque()
    while process.poll() is None or reader.pending:
        event = reader.take(rng.randint(1, 8)) if reader.wait(0.05) or reader.pending else None
        if isinstance(event, Lost):
            outcome.update(dict.fromkeys(range(event.first_index, event.stop_index), event.reason))
        elif isinstance(event, Batch):
            held.append(event)
            outcome.update(dict.fromkeys(range(event.first_index, event.first_index + len(event))))
        if len(held) > 2 or (held and event is None):
            held.rotate(rng.randint(0, 2))
            batch = held.popleft()
            time.sleep(busy_s)
            for each in batch.frames():
                assert each.pixels.tobytes() == pictures[each.index]
                assert each.source == f"picture {each.index}"
            batch.release()
    while held:
        held.pop().release()
    return outcome


@pytest.fixture(scope="module")
def pictures() -> dict[int, bytes]:
    sys.path.insert(0, str(PEER.parent))
    try:
        from ring_peer import pixels_of
    finally:
        sys.path.pop(0)
    return {index: pixels_of(index, (32, 32)).tobytes() for index in range(3000)}


@pytest.mark.parametrize("policy", list(Policy))
def test_two_processes(policy: Policy, pictures: dict[int, bytes]) -> None:
    """Three thousand frames with a reader that cannot keep up: each whole, or told, and in order."""
    reader = RingReader("top", 16, 32, 32)
    process = start_peer(reader, policy, 0, len(pictures))
    outcome = receive(reader, process, pictures, random.Random(1), 0.001)
    assert process.wait() == 0
    assert list(outcome) == list(range(len(pictures)))
    assert set(outcome.values()) == ({None} if policy is Policy.WAIT else {None, "ring_full"})
    reader.close()


def test_twenty_writers_killed_at_any_moment(pictures: dict[int, bytes]) -> None:
    """What a dead writer had put in comes out whole; the next one has every slot."""
    rng = random.Random(2)
    reader = RingReader("top", 8, 32, 32)
    policies = list(Policy)
    for number in range(20):
        process = start_peer(reader, policies[number % 3], 0, len(pictures))
        assert reader.wait(20.0)
        time.sleep(rng.uniform(0.0, 0.02))
        process.kill()
        process.wait()
        reader.writer_gone("killed")
        covered: list[int] = []
        while not isinstance(event := reader.take(3), WriterGone):
            if isinstance(event, Batch):
                assert [each.pixels.tobytes() for each in event.frames()] == [
                    pictures[index] for index in range(event.first_index, event.first_index + len(event))
                ]
                covered.extend(range(event.first_index, event.first_index + len(event)))
                event.release()
            else:
                assert isinstance(event, Lost)
                covered.extend(range(event.first_index, event.stop_index))
        assert covered == list(range(len(covered)))
        assert event.frames_lost >= 0
    writer = RingWriter("top", reader.handles, Policy.WAIT)
    blank = np.zeros((32, 32), np.uint8)
    assert [writer.put(Frame("top", index, 0, blank)) for index in range(9)] == [True] * 8 + [False]
    reader.close()


def test_closing_gives_the_descriptors_back_and_leaves_views_alive(reader: RingReader) -> None:
    before = descriptors_open()
    ring = RingReader("top", 4, *SHAPE)
    writer = RingWriter("top", ring.handles, Policy.WAIT)
    writer.put(frame(3))
    batch = ring.take(1)
    assert isinstance(batch, Batch)
    ring.close()
    ring.close()
    assert batch.pixels[0, 0, 0, 0] == 3
    batch.release()
    del batch, ring, writer
    assert descriptors_open() == before
