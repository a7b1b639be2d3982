"""The ring in one process: views, batches, losses, and sizes that make no ring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from camera.base import CameraError, Frame, Lost
from camera.ring import Batch, Policy, RingReader
from camera.ring_memory import MAX_SLOTS
from camera.ring_writer import RingWriter
from tests.camera.rings import SHAPE, descriptors_open, drain, frame


@pytest.fixture
def reader() -> Iterator[RingReader]:
    ring = RingReader("top", 4, *SHAPE)
    yield ring
    ring.close()


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
