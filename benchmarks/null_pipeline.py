"""A cascade that costs nothing: every frame is clean, at once. What is left is the line itself."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from runtime.cascade import FrameOutput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLEAN = FrameOutput(gate_probability=0.0, class_probability=None)


@dataclass(frozen=True, slots=True)
class NullPending:
    """A batch that was answered before it came."""

    outputs: list[FrameOutput]
    done: bool = True


class NullPipeline:
    """Answers clean without looking; see `runtime.pipeline.Pipeline`."""

    def start(self, frames: NDArray[np.uint8]) -> NullPending:
        """Begin a batch, which is done with that."""
        return NullPending([CLEAN] * len(frames))

    def advance(self, pending: NullPending) -> None:
        """Nothing is to be waited for."""

    def finish(self, pending: NullPending) -> list[FrameOutput]:
        """Clean, for each frame."""
        return pending.outputs

    def release(self, pending: NullPending) -> None:
        """Nothing is held."""

    def keep_awake(self) -> None:
        """Nothing sleeps."""

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Nothing is read."""

    def hand_over(self) -> None:
        """Nothing is owned."""

    def take_over(self) -> None:
        """Nothing is owned."""

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> NullPipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
