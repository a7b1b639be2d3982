"""The strip cascade over two engines: a gate for every frame, a segmenter for those that pass it.

After Section 3 of the paper: if the gate says clean, the segmenter is skipped and the masks are empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from runtime.backends.contract import frame_size
from runtime.engine import Engine, Ticket
from runtime.errors import EngineError
from runtime.serving import take_over_all

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

Wanted = Callable[["NDArray[np.float32]"], "NDArray[np.bool_]"]
"""From the gate's probabilities (n,), which frames the segmenter must see."""


@dataclass(frozen=True, slots=True)
class FrameOutput:
    """What the cascade gives for one frame.

    Attributes:
        gate_probability: 0 to 1.
        class_probability: (C, H, W) uint8, 255 = 1.0, valid until the batch is released; None where the
            segmenter did not see the frame.
    """

    gate_probability: float
    class_probability: NDArray[np.uint8] | None


@dataclass(slots=True)
class CascadePending:
    """One batch on its way.

    Attributes:
        frames: The caller's frames, borrowed.
        gate: Its ticket at the gate, until `advance`.
        probabilities: The gate's figures, (n,), after `advance`.
        chosen: The frames that the segmenter sees, in order.
        segmenter: Its ticket at the segmenter, if any frame passed.
        packed: The buffer that holds the chosen frames, where they had to be packed.
    """

    frames: NDArray[np.uint8]
    gate: Ticket | None
    probabilities: NDArray[np.float32] | None = None
    chosen: tuple[int, ...] = ()
    segmenter: Ticket | None = None
    packed: NDArray[np.uint8] | None = None

    @property
    def done(self) -> bool:
        """The gate let no frame pass: there is nothing to wait for."""
        return self.gate is None and self.segmenter is None


class Cascade:
    """Gate and segmenter as one pipeline; see `runtime.pipeline.Pipeline`.

    While one batch is segmented the gate may already be given the next. Frames that pass are packed into one of
    the cascade's own buffers, unless all of them pass: then the segmenter reads the caller's memory too.

    Args:
        gate: Gives `defect_probability`; the cascade closes it.
        segmenter: Gives `class_probability`; likewise.
        wanted: Which frames pass.
    """

    def __init__(self, gate: Engine, segmenter: Engine, wanted: Wanted) -> None:
        self._gate = gate
        self._segmenter = segmenter
        self._wanted = wanted
        settings = segmenter.settings
        shape = (settings.max_batch, 1, *frame_size("cascade", segmenter.graph, settings))
        # One more than there are slots: the segmenter says itself when all are taken.
        self._buffers = [np.full(shape, 0, dtype=np.uint8) for _ in range(settings.slots + 1)]

    def start(self, frames: NDArray[np.uint8]) -> CascadePending:
        """Submit the gate; see `runtime.pipeline.Pipeline`."""
        return CascadePending(frames, self._gate.submit(frames))

    def advance(self, pending: CascadePending) -> None:
        """Collect the gate and submit the segmenter; see `runtime.pipeline.Pipeline`."""
        ticket, pending.gate = _held(pending.gate, "start"), None
        probabilities = self._gate.collect(ticket)["defect_probability"].copy()
        self._gate.release(ticket)
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise EngineError(
                f"gate on {self._gate.backend}: found probabilities {probabilities.tolist()}, expected 0 to 1. "
                "Check the parity of the bundle on this machine."
            )
        pending.probabilities = probabilities
        pending.chosen = tuple(np.flatnonzero(self._wanted(probabilities)).tolist())
        if not pending.chosen:
            return
        chosen = pending.frames
        if len(pending.chosen) < len(chosen):
            chosen = self._pack(pending)
        try:
            pending.segmenter = self._segmenter.submit(chosen)
        except EngineError:
            self._unpack(pending)
            raise

    def finish(self, pending: CascadePending) -> list[FrameOutput]:
        """Collect the segmenter; see `runtime.pipeline.Pipeline`."""
        probabilities = _held(pending.probabilities, "advance")
        outputs = [FrameOutput(probability, None) for probability in probabilities.tolist()]
        if pending.segmenter is None:
            return outputs
        try:
            masks = self._segmenter.collect(pending.segmenter)["class_probability"]
        except EngineError:
            pending.segmenter = None
            raise
        finally:
            self._unpack(pending)
        for frame, mask in zip(pending.chosen, masks, strict=True):
            outputs[frame] = FrameOutput(outputs[frame].gate_probability, mask)
        return outputs

    def release(self, pending: CascadePending) -> None:
        """Give the segmenter's buffers back; see `runtime.pipeline.Pipeline`."""
        ticket, pending.segmenter = pending.segmenter, None
        if ticket is not None:
            self._segmenter.release(ticket)

    def keep_awake(self) -> None:
        """Keep both engines' devices awake."""
        self._gate.keep_awake()
        self._segmenter.keep_awake()

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Tell both engines where frames will come from; the segmenter's come from the packing buffers, too."""
        self._gate.register(memory)
        for each in (memory, *self._buffers):
            self._segmenter.register(each)

    def hand_over(self) -> None:
        """Give both engines up; see `runtime.pipeline.Pipeline`."""
        self._gate.hand_over()
        self._segmenter.hand_over()

    def take_over(self) -> None:
        """Become the owner of both engines; see `runtime.pipeline.Pipeline`."""
        take_over_all((self._gate, self._segmenter))

    def close(self) -> None:
        """Wait for what is on its way and free both engines; calling it again does nothing."""
        self._gate.close()
        self._segmenter.close()

    def __enter__(self) -> Cascade:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pack(self, pending: CascadePending) -> NDArray[np.uint8]:
        """Copy the chosen frames side by side into a buffer of the cascade."""
        pending.packed = self._buffers.pop()
        packed = pending.packed[: len(pending.chosen)]
        # The indices are right; 'clip' only keeps NumPy from going through a buffer of its own.
        np.take(pending.frames, pending.chosen, axis=0, out=packed, mode="clip")
        return packed

    def _unpack(self, pending: CascadePending) -> None:
        buffer, pending.packed = pending.packed, None
        if buffer is not None:
            self._buffers.append(buffer)


def _held(value: T | None, stage: str) -> T:
    if value is None:
        raise RuntimeError(f"cascade: found a batch that has not been through '{stage}', expected one that has.")
    return value
