"""A camera's process for the tests of the ring: writes frames whose pixels tell their index."""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray

from camera.base import Frame
from camera.ring_memory import Policy, RingHandles
from camera.ring_writer import RingWriter


def pixels_of(index: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The one picture that frame `index` may have."""
    return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)


def main(policy: str, first_index: int, frames: int, pause_s: float, handles: RingHandles) -> None:
    """Write frames [first_index, first_index + frames)."""
    writer = RingWriter("top", handles, Policy(policy))
    shape = (handles.height_px, handles.width_px)
    for index in range(first_index, first_index + frames):
        frame = Frame("top", index, time.monotonic_ns(), pixels_of(index, shape), float(index), f"picture {index}")
        while not writer.put(frame, 0.1):
            writer.beat()
        time.sleep(pause_s)
    while not writer.flush(0.1):
        writer.beat()


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[5:]]
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), RingHandles(*numbers))
