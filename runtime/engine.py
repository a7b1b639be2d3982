"""What an inference engine promises, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from runtime.cuda import CudaApi
    from runtime.spec import Arithmetic, GraphSpec


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine is opened; the same for every backend.

    Attributes:
        max_batch: The largest batch that is ever submitted; buffers are made for it once.
        slots: Batches that may be in flight at a time, each with output buffers of its own.
        height_px: Rows of the frames, where the graph leaves them open.
        width_px: Columns of the frames, where the graph leaves them open.
        threads: CPU threads an engine may use; None leaves it to the backend.
        arithmetic: In what a CPU computes a half file; None takes what the graph's contract says. An FP32 file is
            always computed in FP32.
        cuda_api: By which library a GPU is driven, a key of `runtime.cuda.CUDA_APIS`.
        cache: Folder for kernels that are compiled on this machine; None takes the user's cache folder.
    """

    max_batch: int
    slots: int = 2
    height_px: int | None = None
    width_px: int | None = None
    threads: int | None = None
    arithmetic: Arithmetic | None = None
    cuda_api: CudaApi = "cuda_bindings"
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """One submitted batch: which slot it lies in, and how many frames it has."""

    slot: int
    serial: int
    batch: int


class Engine(Protocol):
    """One graph, opened once, run many times.

    A batch passes through a slot: `submit` takes a free one, `collect` waits for its outputs, `release` gives
    it back. Slots and output buffers are allocated when the engine opens; nothing is allocated per batch.
    An engine belongs to one thread, at first to the one that opened it; see `hand_over`.

    ```
    free --submit--> in flight --collect--> collected --release--> free
    ```
    """

    @property
    def graph(self) -> GraphSpec:
        """The contract of the graph: its inputs and outputs."""
        ...

    @property
    def backend(self) -> str:
        """The key of this backend in `runtime.backends.BACKENDS`."""
        ...

    @property
    def precision(self) -> str:
        """The arithmetic of the graph: `fp32`, `fp16`, `int8`, `fp8`."""
        ...

    @property
    def settings(self) -> EngineSettings:
        """How the engine was opened."""
        ...

    def submit(self, frames: NDArray[np.uint8]) -> Ticket:
        """Start a batch and return at once.

        Args:
            frames: (n, 1, H, W) uint8, C-contiguous, 1 <= n <= max_batch. Borrowed: the caller leaves the
                memory alone until `collect` has returned for this ticket.

        Raises:
            EngineError: Wrong shape or type, no free slot, or the device refused the batch.
        """
        ...

    def collect(self, ticket: Ticket) -> Mapping[str, NDArray[Any]]:
        """Wait for a batch and give its outputs by name.

        Returns:
            Views of the engine's own buffers, first axis n, valid until `release` of the same ticket.

        Raises:
            EngineError: The inference failed (the slot is free again), or the ticket is not in flight.
        """
        ...

    def release(self, ticket: Ticket) -> None:
        """Give the slot back; the views that `collect` gave are dead.

        Raises:
            EngineError: The ticket was not collected.
        """
        ...

    def keep_awake(self) -> None:
        """Called now and then while the line stands still, so that the first batch after it is as fast as any.

        A GPU that has idled for seconds answers the next batch tens of milliseconds late.
        """
        ...

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Tell where frames will come from, such as a camera's ring, so that a device can read them where they lie.

        Frames from elsewhere are taken as well, and cost a copy more where the device is not the CPU.

        Args:
            memory: C-contiguous; it must stay where it is until `close`.
        """
        ...

    def hand_over(self) -> None:
        """Give the engine up: the next call is another thread's `take_over`.

        Memory that was registered is let go; the next owner registers it again.

        Raises:
            EngineError: A batch is in flight or not released, or the device refuses.
        """
        ...

    def take_over(self) -> None:
        """Become the thread that owns the engine, after its last owner's `hand_over`.

        Raises:
            EngineError: It was not handed over, or the device refuses.
        """
        ...

    def close(self) -> None:
        """Wait for what is in flight and free the device; calling it again does nothing."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class OpenEngine(Protocol):
    """How a backend opens a graph: the callable that each backend module names in the table."""

    def __call__(self, model: Path, graph: GraphSpec, settings: EngineSettings) -> Engine:
        """Open one graph.

        Args:
            model: The ONNX file, or a plan where the backend takes plans. Its digest has been checked.
            graph: What the file must take and give.
            settings: Batch, slots and geometry.

        Raises:
            EngineError: The file does not fit the contract, or the device cannot take it.
        """
        ...
