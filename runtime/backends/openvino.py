"""OpenVINO: the default backend, on the CPU."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from runtime.backends.contract import check_first_outputs, check_input, frame_size, precision_of
from runtime.backends.cpu_turns import CpuWorker
from runtime.backends.openvino_unsigned import hold_unsigned
from runtime.backends.slots import SlottedEngine, first_line, output_buffers
from runtime.engine import EngineSettings
from runtime.errors import EngineError
from runtime.spec import GraphSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray


_CORE = ov.Core()
"""One for the process, which keeps the CPU plugin loaded for as long as it runs.

The plugin gives the thread that loads it a stack for signals of its own, and frees that memory when it is unloaded, in
whichever thread the last engine is closed. The first thread's next signal, such as SIGTERM, would then be its end.
"""


def open_openvino(model: Path, graph: GraphSpec, settings: EngineSettings) -> SlottedEngine:
    """Open a graph on OpenVINO; see `runtime.engine.OpenEngine`.

    By itself OpenVINO computes in bfloat16 where the CPU has it, whatever type the file states. An FP32 file is held to
    FP32; for a half file `arithmetic` decides.
    """
    owner = f"engine openvino ({model.name})"
    size = frame_size(owner, graph, settings)
    precision = precision_of(owner, model, graph)
    if precision == "fp8":
        raise EngineError(
            f"{owner}: found an FP8 file, expected INT8, half or FP32: no CPU computes in FP8. Serve it with tensorrt "
            "or tensorrt_rtx on a GPU of compute capability 8.9 and up, or give the half bundle that it was made of; "
            "onnxruntime emulates it, slowly, as a second opinion."
        )
    try:
        network = _CORE.read_model(model)
        check_input(
            owner,
            graph,
            {port.get_any_name(): port.get_element_type().to_dtype().name for port in network.inputs},
        )
        if precision == "int8":
            hold_unsigned(network)
        # A batch with bounds lets OpenVINO size its memory once.
        network.reshape(ov.PartialShape([ov.Dimension(1, settings.max_batch), 1, *size]))
        compile_network = partial(_CORE.compile_model, network, "CPU", properties(graph, precision, settings))
        compiled = compile_network()
        first = compiled(np.zeros((1, 1, *size), dtype=np.uint8))
    except EngineError:
        raise
    except RuntimeError as error:
        raise EngineError(
            f"{owner}: found a file that OpenVINO cannot run ({first_line(error)}), expected an ONNX graph. "
            "Export the bundle again."
        ) from error
    # A tensor can have several names once OpenVINO has merged nodes; one of them is the contract's.
    outputs = {name: first[port] for port in compiled.outputs for name in port.get_names()}
    buffers = output_buffers(graph, check_first_outputs(owner, graph, size, outputs), settings)
    return SlottedEngine(
        owner=owner,
        backend="openvino",
        precision=precision,
        graph=graph,
        settings=settings,
        size=size,
        buffers=buffers,
        device=_Requests(compile_network, compiled, buffers, CpuWorker("openvino", settings.threads)),
    )


def properties(graph: GraphSpec, precision: str, settings: EngineSettings) -> dict[str, Any]:
    """How a file is compiled for the CPU."""
    # One stream over all threads gives as many frames a second as several streams of fewer threads on few
    # cores, at half the latency of a batch.
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if "fp32" in (precision, settings.arithmetic or graph.arithmetic):
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    if settings.threads is not None:
        properties["INFERENCE_NUM_THREADS"] = settings.threads
    return properties


class _Requests:
    """One request a slot, each with output tensors over the slot's buffers, run by a worker in turn.

    After a run that failed, OpenVINO may compute later batches of the same size with shapes that it had only
    half updated. So a failure takes with it all that is in flight, and the network is compiled again.
    """

    def __init__(
        self,
        compile_network: Callable[[], ov.CompiledModel],
        compiled: ov.CompiledModel,
        buffers: tuple[dict[str, NDArray[Any]], ...],
        worker: CpuWorker,
    ) -> None:
        self._compile = compile_network
        self._worker = worker
        self._tensors = [
            {
                name: [ov.Tensor(buffer[:count], shared_memory=True) for count in range(1, len(buffer) + 1)]
                for name, buffer in outputs.items()
            }
            for outputs in buffers
        ]
        self._counts: list[int] = []
        self._requests: list[ov.InferRequest] = []
        self._make_requests(compiled)
        self._running: dict[int, Future[None]] = {}
        self._lost: set[int] = set()

    def start(self, slot: int, frames: NDArray[np.uint8]) -> None:
        if not self._requests:
            self._make_requests(self._compile())
        request = self._requests[slot]
        request.set_input_tensor(ov.Tensor(_writable(frames), shared_memory=True))
        if self._counts[slot] != len(frames):
            for name, tensors in self._tensors[slot].items():
                request.set_tensor(name, tensors[len(frames) - 1])
            self._counts[slot] = len(frames)
        # What it gives back are views, which nobody looks at: without the word for it they would be copies.
        self._running[slot] = self._worker.submit(partial(request.infer, share_outputs=True))

    def wait(self, slot: int) -> None:
        if slot in self._lost:
            self._lost.remove(slot)
            raise RuntimeError("another batch that was in flight with it failed")
        run = self._running.pop(slot)
        try:
            run.result()
        except RuntimeError:
            for other in self._running.values():
                with contextlib.suppress(RuntimeError):
                    other.result()
            self._lost |= self._running.keys()
            self._running.clear()
            self._requests.clear()
            raise

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
        self._requests.clear()
        self._tensors.clear()
        del self._compile

    def _make_requests(self, compiled: ov.CompiledModel) -> None:
        self._requests = [compiled.create_infer_request() for _ in self._tensors]
        self._counts = [0 for _ in self._tensors]


def _writable(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same memory without its write protection: OpenVINO asks for that and never writes."""
    if frames.flags.writeable:
        return frames
    memory = (ctypes.c_uint8 * frames.nbytes).from_address(frames.ctypes.data)
    return np.ctypeslib.as_array(memory).reshape(frames.shape)
