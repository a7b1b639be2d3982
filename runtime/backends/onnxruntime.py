"""ONNX Runtime, on the CPU: the second opinion."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from runtime.backends.contract import check_first_outputs, check_input, frame_size, precision_of
from runtime.backends.cpu_turns import CpuWorker
from runtime.backends.slots import SlottedEngine, first_line, output_buffers
from runtime.engine import EngineSettings
from runtime.errors import EngineError
from runtime.spec import GraphSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DISABLED = ["WeightBiasQuantization", "ReluQuantRewrite"]
"""The first gives a quantised convolution's bias the product of both other scales as its scale, which vanishes where
these are half: an INT8 gate was off by 0.4 of probability on single frames. The second takes a ReLU away in front of a
quantiser whatever its type, and FP8 does not clip at zero: a gate was off by 0.96."""

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def open_onnxruntime(model: Path, graph: GraphSpec, settings: EngineSettings) -> SlottedEngine:
    """Open a graph on ONNX Runtime; see `runtime.engine.OpenEngine`."""
    owner = f"engine onnxruntime ({model.name})"
    size = frame_size(owner, graph, settings)
    precision = precision_of(owner, model, graph)
    try:
        session = ort.InferenceSession(
            model, _options(settings), providers=["CPUExecutionProvider"], disabled_optimizers=_DISABLED
        )
        check_input(owner, graph, {port.name: _dtype_of(port.type) for port in session.get_inputs()})
        names = [port.name for port in session.get_outputs()]
        first = session.run(names, {graph.input.name: np.zeros((1, 1, *size), dtype=np.uint8)})
    except EngineError:
        raise
    except Exception as error:  # the library's errors have no common base
        raise EngineError(
            f"{owner}: found a file that ONNX Runtime cannot run ({first_line(error)}), expected an ONNX "
            "graph. Export the bundle again."
        ) from error
    outputs: dict[str, NDArray[Any]] = {name: np.asarray(value) for name, value in zip(names, first, strict=True)}
    buffers = output_buffers(graph, check_first_outputs(owner, graph, size, outputs), settings)
    return SlottedEngine(
        owner=owner,
        backend="onnxruntime",
        precision=precision,
        graph=graph,
        settings=settings,
        size=size,
        buffers=buffers,
        device=_Bindings(session, graph.input.name, buffers, CpuWorker("onnxruntime", settings.threads)),
    )


def _dtype_of(kind: str | None) -> str:
    return _DTYPES.get(kind or "", str(kind))


def _options(settings: EngineSettings) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what it would log as an error comes as an exception
    if settings.threads is not None:
        options.intra_op_num_threads = settings.threads
    return options


class _Bindings:
    """One IO binding a slot over the slot's buffers, run by a worker in turn."""

    def __init__(
        self,
        session: ort.InferenceSession,
        input_name: str,
        buffers: tuple[dict[str, NDArray[Any]], ...],
        worker: CpuWorker,
    ) -> None:
        self._session = session
        self._input_name = input_name
        self._buffers = buffers
        self._bindings = [session.io_binding() for _ in buffers]
        self._counts = [0 for _ in buffers]
        self._runs: list[Future[None] | None] = [None for _ in buffers]
        self._worker = worker

    def start(self, slot: int, frames: NDArray[np.uint8]) -> None:
        binding, count = self._bindings[slot], len(frames)
        binding.bind_input(self._input_name, "cpu", 0, np.uint8, frames.shape, frames.ctypes.data)
        if self._counts[slot] != count:
            for name, buffer in self._buffers[slot].items():
                shape = (count, *buffer.shape[1:])
                binding.bind_output(name, "cpu", 0, buffer.dtype.type, shape, buffer.ctypes.data)
            self._counts[slot] = count
        self._runs[slot] = self._worker.submit(partial(self._session.run_with_iobinding, binding))

    def wait(self, slot: int) -> None:
        run, self._runs[slot] = self._runs[slot], None
        if run is not None:
            run.result()

    def keep_awake(self) -> None:
        """A CPU wakes by itself."""

    def register(self, memory: NDArray[np.uint8]) -> None:
        """A CPU reads all memory where it lies."""

    def hand_over(self) -> None:
        """A CPU belongs to no thread."""

    def take_over(self) -> None:
        """A CPU belongs to no thread."""

    def close(self) -> None:
        self._worker.close()
        self._bindings.clear()
        del self._session
