"""The ring against a plain model: every step against what a list of outcomes says must happen."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from camera.base import Lost, LostReason
from camera.ring import Batch, Policy, RingReader, WriterGone
from camera.ring_writer import RING_FULL, RingWriter
from tests.camera.rings import SHAPE, frame


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
