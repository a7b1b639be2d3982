"""One graph as a pipeline: what every task but the strip cascade runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from runtime.backends import open_engine
from runtime.engine import Engine, Ticket

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runtime.bundle import Bundle
    from runtime.engine import EngineSettings
    from runtime.spec import Precision

MODEL = "model"
"""The role of the graph in a bundle that has only one."""


@dataclass(slots=True)
class SinglePending:
    """One batch on its way; the ticket is None once it was released or has failed."""

    frames: int
    ticket: Ticket | None

    @property
    def done(self) -> bool:
        """An engine may work on it until `finish`."""
        return False


class SinglePipeline:
    """One engine as a pipeline; see `runtime.pipeline.Pipeline`.

    `finish` gives one mapping a frame, from the name of an output to the frame's own part of it.

    Args:
        engine: Runs the graph; the pipeline closes it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def start(self, frames: NDArray[np.uint8]) -> SinglePending:
        """Submit a batch; see `runtime.pipeline.Pipeline`."""
        return SinglePending(len(frames), self._engine.submit(frames))

    def advance(self, pending: SinglePending) -> None:
        """There is no second stage."""

    def finish(self, pending: SinglePending) -> list[Mapping[str, NDArray[Any]]]:
        """Collect the batch; see `runtime.pipeline.Pipeline`."""
        ticket, pending.ticket = pending.ticket, None
        if ticket is None:
            raise RuntimeError("pipeline: found a batch that was finished before, expected one on its way.")
        outputs = self._engine.collect(ticket)
        pending.ticket = ticket
        return [{name: array[frame] for name, array in outputs.items()} for frame in range(pending.frames)]

    def release(self, pending: SinglePending) -> None:
        """Give the engine's buffers back; see `runtime.pipeline.Pipeline`."""
        ticket, pending.ticket = pending.ticket, None
        if ticket is not None:
            self._engine.release(ticket)

    def keep_awake(self) -> None:
        """Keep the engine's device awake."""
        self._engine.keep_awake()

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Tell the engine where frames will come from; see `runtime.engine.Engine.register`."""
        self._engine.register(memory)

    def hand_over(self) -> None:
        """Give the engine up; see `runtime.pipeline.Pipeline`."""
        self._engine.hand_over()

    def take_over(self) -> None:
        """Become the engine's owner; see `runtime.pipeline.Pipeline`."""
        self._engine.take_over()

    def close(self) -> None:
        """Wait for what is on its way and free the engine; calling it again does nothing."""
        self._engine.close()

    def __enter__(self) -> SinglePipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_single(
    bundle: Bundle, backend: str, settings: EngineSettings, precision: Precision | None = None
) -> SinglePipeline:
    """Open the one graph of a bundle; see `runtime.pipeline.Head.open_pipeline`."""
    file = bundle.model_file(MODEL, precision)
    return SinglePipeline(open_engine(backend, file, bundle.spec.graphs[MODEL], settings))
