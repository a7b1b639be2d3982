"""The ring between two processes, and with writers killed at any moment."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from camera.base import Frame, Lost, LostReason
from camera.ring import Batch, Policy, RingReader, WriterGone
from camera.ring_writer import RingWriter

PEER = Path(__file__).with_name("ring_peer.py")
ROOT = Path(__file__).resolve().parents[2]


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
