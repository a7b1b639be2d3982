"""The bare engines: each backend by its own API, as its manual shows it, with nothing of ours around it.

No slots, no checks, no contract: what the protocol of `runtime.engine` costs is the difference.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.backends.contract import precision_of
from runtime.backends.tensorrt import Choose, Device, open_device, proven_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.engine import EngineSettings
    from runtime.spec import GraphSpec

Run = Callable[[], object]
OpenBare = Callable[[Path, "GraphSpec", "EngineSettings", "NDArray[np.uint8]"], AbstractContextManager[Run]]
"""From a graph's file, its contract, how an engine would be opened and the frames to a call that does one batch."""


@contextlib.contextmanager
def bare_openvino(model: Path, graph: GraphSpec, settings: EngineSettings, frames: NDArray[np.uint8]) -> Iterator[Run]:
    """One synchronous request on a network of exactly this shape, in the arithmetic that the engine would take."""
    import openvino as ov

    from runtime.backends.openvino import properties

    core = ov.Core()
    network = core.read_model(model)
    network.reshape(list(frames.shape))
    compiled = core.compile_model(network, "CPU", properties(graph, precision_of("bare", model, graph), settings))
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(frames, shared_memory=True))
    yield request.infer


@contextlib.contextmanager
def bare_onnxruntime(
    model: Path, graph: GraphSpec, settings: EngineSettings, frames: NDArray[np.uint8]
) -> Iterator[Run]:
    """One session, run on an array."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    if settings.threads is not None:
        options.intra_op_num_threads = settings.threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {graph.input.name: frames}

    def run() -> None:
        session.run(None, feed)

    yield run


@contextlib.contextmanager
def bare_plan(
    device: Device,
    model: Path,
    graph: GraphSpec,
    frames: NDArray[np.uint8],
    choose: Choose = proven_plan,
) -> Iterator[Run]:
    """The same plan on one stream: copy, `enqueueV3`, copy, wait; no CUDA graph of ours, pinned memory at both ends.

    Args:
        device: Library and GPU; closed at the end.
        model: The graph's ONNX file in its bundle.
        graph: Its contract.
        frames: (n, 1, H, W) uint8.
        choose: Gives the plan.
    """
    with device.cuda:
        height_px, width_px = frames.shape[2:]
        owner = f"bare {device.flavour}"
        plan = choose(owner, model, graph, (height_px, width_px), len(frames), device.site)
        opened = _BarePlan(device, plan.data, graph, frames)
        try:
            yield opened.run
        finally:
            opened.forget()


class _BarePlan:
    """A deserialised plan with its one context and its memory."""

    def __init__(self, device: Device, data: bytes, graph: GraphSpec, frames: NDArray[np.uint8]) -> None:
        trt, self._cuda = device.trt, device.cuda
        cuda = device.cuda
        self._runtime: Any = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine: Any = self._runtime.deserialize_cuda_engine(data)
        self._context: Any = self._engine.create_execution_context()
        self._context.set_input_shape(graph.input.name, frames.shape)
        self._stream = cuda.make_stream()
        self._frames, self._there = cuda.allocate_pinned(frames.nbytes), cuda.allocate(frames.nbytes)
        self._frames.array[:] = frames.reshape(-1)
        self._context.set_tensor_address(graph.input.name, self._there.address)
        self._copies = []
        for output in graph.outputs:
            shape = tuple(self._context.get_tensor_shape(output.name))
            size_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(output.dtype).itemsize
            result, target = cuda.allocate(size_bytes), cuda.allocate_pinned(size_bytes)
            self._context.set_tensor_address(output.name, result.address)
            self._copies.append((result, target))

    def run(self) -> None:
        """One batch, start to end."""
        cuda, stream = self._cuda, self._stream
        cuda.upload(self._frames, self._there, stream)
        self._context.execute_async_v3(stream.handle)
        for result, target in self._copies:
            cuda.download(result, target, stream)
        cuda.synchronize_stream(stream)

    def forget(self) -> None:
        """Let TensorRT's objects go, the youngest first, while the device is still there."""
        self._context = None
        self._engine = None
        self._runtime = None


def _bare_tensorrt(
    model: Path, graph: GraphSpec, settings: EngineSettings, frames: NDArray[np.uint8]
) -> AbstractContextManager[Run]:
    return bare_plan(open_device("tensorrt", settings), model, graph, frames)


def _bare_tensorrt_rtx(
    model: Path, graph: GraphSpec, settings: EngineSettings, frames: NDArray[np.uint8]
) -> AbstractContextManager[Run]:
    return bare_plan(open_device("tensorrt_rtx", settings), model, graph, frames)


BARE: Mapping[str, OpenBare] = MappingProxyType(
    {
        "openvino": bare_openvino,
        "onnxruntime": bare_onnxruntime,
        "tensorrt": _bare_tensorrt,
        "tensorrt_rtx": _bare_tensorrt_rtx,
    }
)
"""By backend."""
