"""TensorRT in software, for tests: the calls that the backend makes, over ONNX Runtime and the software CUDA.

A "plan" is a line of JSON (profiles, flavour) and the ONNX file behind it. A context really computes: it reads its
input from the software device's memory when its turn in the stream comes, and writes the outputs there. It is as strict
as the library's documentation: addresses and shapes must be set, a shape must lie in the profile that the context was
switched to in its own stream, memory that the user owes must be given, and a first run after a change of shape cannot
be captured.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tests.software_streams import MisuseError, Span

WORKSPACE_BYTES = 1000
_DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class CudaGraphStrategy(enum.Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY = 0
    EAGER = 1


class EngineValidity(enum.Enum):
    VALID = 0
    SUBOPTIMAL = 1
    INVALID = 2


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class ILogger:
    """The library's."""

    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)


class Logger(ILogger):
    """The library's own, which prints."""

    def __init__(self, level: int) -> None:
        self.level = level


def software_plan(onnx: bytes, profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]], **facts: Any) -> bytes:
    """A plan of the software TensorRT."""
    header = {"profiles": profiles, "workspace_bytes": WORKSPACE_BYTES, **facts}
    return json.dumps(header).encode() + b"\n" + onnx


class Kernels(Protocol):
    """What a kernel may do on a device in software: the software CUDA, or the software driver."""

    def at(self, address: int, size_bytes: int) -> NDArray[np.uint8]: ...

    def is_capturing(self, stream: int) -> bool: ...

    def enqueue(
        self, stream: int, name: str, run: Callable[[], None], reads: Sequence[Span] = (), writes: Sequence[Span] = ()
    ) -> None: ...


class SoftwareTensorRt:
    """What `import tensorrt` or `import tensorrt_rtx` gives, as far as the backend uses it.

    Args:
        cuda: The way to the device that the backend has too.
        version: The library's.
        validity: What the library thinks of each plan.
    """

    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    CudaGraphStrategy = CudaGraphStrategy
    DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy
    EngineValidity = EngineValidity
    TensorIOMode = TensorIOMode
    ILogger = ILogger
    Logger = Logger

    def __init__(
        self, cuda: Kernels, version: str = "1.7.1.116", validity: EngineValidity = EngineValidity.VALID
    ) -> None:
        self.cuda = cuda
        self.validity = validity
        self.__version__ = version
        self.deserialised = 0
        self.contexts: list[SoftwareContext] = []

    def nptype(self, dtype: Any) -> Any:
        return dtype

    def Runtime(self, log: ILogger) -> SoftwareRuntime:  # noqa: N802  the library's name
        return SoftwareRuntime(self)


class SoftwareRuntime:
    def __init__(self, trt: SoftwareTensorRt) -> None:
        self._trt = trt
        self.engine_host_code_allowed = False

    def get_engine_validity(self, plan: bytes) -> tuple[EngineValidity, int]:
        return self._trt.validity, 0

    def deserialize_cuda_engine(self, plan: bytes) -> SoftwarePlan | None:
        self._trt.deserialised += 1
        header, _, onnx = bytes(plan).partition(b"\n")
        try:
            return SoftwarePlan(self._trt, json.loads(header), onnx)
        except Exception:  # noqa: BLE001  ONNX Runtime's errors have no common base
            return None


class SoftwarePlan:
    """`ICudaEngine`."""

    def __init__(self, trt: SoftwareTensorRt, header: dict[str, Any], onnx: bytes) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        self.trt = trt
        self.header = header
        self.session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.inputs = {each.name: _DTYPES[each.type] for each in self.session.get_inputs()}
        self.outputs = {each.name: _DTYPES[each.type] for each in self.session.get_outputs()}
        self.num_optimization_profiles = len(header["profiles"])

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + len(self.outputs)

    @property
    def device_memory_size_v2(self) -> int:
        return int(self.header["workspace_bytes"])

    def get_tensor_name(self, number: int) -> str:
        return [*self.inputs, *self.outputs][number]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return {**self.inputs, **self.outputs}[name]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [tuple(each) for each in self.header["profiles"][profile][name]]

    def create_runtime_config(self) -> SoftwareRuntimeConfig:
        return SoftwareRuntimeConfig()

    def create_execution_context(self, how: Any = ExecutionContextAllocationStrategy.STATIC) -> SoftwareContext:
        context = SoftwareContext(self, how)
        self.trt.contexts.append(context)
        return context


class SoftwareRuntimeCache:
    """Holds a word for each shape that was compiled."""

    def __init__(self) -> None:
        self.compiled: set[str] = set()

    def deserialize(self, blob: bytes) -> bool:
        self.compiled = set(json.loads(bytes(blob)))
        return True

    def serialize(self) -> bytes:
        return json.dumps(sorted(self.compiled)).encode()


class SoftwareRuntimeConfig:
    def __init__(self) -> None:
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
        self.cache: SoftwareRuntimeCache | None = None
        self.strategy = ExecutionContextAllocationStrategy.STATIC

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> SoftwareRuntimeCache:
        return SoftwareRuntimeCache()

    def set_runtime_cache(self, cache: SoftwareRuntimeCache) -> bool:
        self.cache = cache
        return True


class SoftwareContext:
    """`IExecutionContext`."""

    def __init__(self, plan: SoftwarePlan, how: Any) -> None:
        self._plan = plan
        self._how = how
        self._addresses: dict[str, int] = {}
        self._shape: dict[str, tuple[int, ...]] = {}
        self._workspace: Span | None = None
        self._settled = False
        self._profile_stream: int | None = None
        self.profile = 0
        self.ran: list[tuple[int, ...]] = []
        self.compiled = 0

    @property
    def strategy(self) -> ExecutionContextAllocationStrategy:
        return self._how.strategy if isinstance(self._how, SoftwareRuntimeConfig) else self._how

    @property
    def config(self) -> SoftwareRuntimeConfig | None:
        return self._how if isinstance(self._how, SoftwareRuntimeConfig) else None

    def set_optimization_profile_async(self, profile: int, stream_handle: int) -> bool:
        if not 0 <= profile < self._plan.num_optimization_profiles:
            return False
        self.profile, self._profile_stream = profile, stream_handle
        self._shape, self._settled = {}, False  # all shapes have to be set again
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        low, _, high = self._plan.get_tensor_profile_shape(name, self.profile)
        if not all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
            return False
        self._settled = self._settled and self._shape.get(name) == tuple(shape)
        self._shape[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shape:
            return self._shape[name]
        feed = {each: np.zeros(self._shape[each], dtype) for each, dtype in self._plan.inputs.items()}
        return self._plan.session.run([name], feed)[0].shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_device_memory(self, address: int, size_bytes: int) -> None:
        if size_bytes < self._plan.device_memory_size_v2:
            raise MisuseError("less memory than the plan asks for")
        self._workspace = Span(address, size_bytes)

    def execute_async_v3(self, stream_handle: int) -> bool:
        plan, cuda = self._plan, self._plan.trt.cuda
        names = [*plan.inputs, *plan.outputs]
        if self._how is ExecutionContextAllocationStrategy.USER_MANAGED and self._workspace is None:
            return False
        if self.strategy is ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE and self._profile_stream is None:
            return False  # no profile was chosen, so there is no memory
        if self._profile_stream not in (None, stream_handle):
            raise MisuseError("the profile was switched in another stream, and nothing says that this is over")
        if not all(name in self._addresses for name in names) or not self._shape:
            return False
        self.ran.extend(self._shape.values())
        if cuda.is_capturing(stream_handle):
            if not self._settled:
                raise MisuseError("the first run after a change of shape cannot be captured")
        elif not self._settled:
            self.compiled += 1
            self._settled = True
            if self.config is not None and self.config.cache is not None:
                self.config.cache.compiled.add(str(sorted(self._shape.items())))
        shapes, addresses, profile = dict(self._shape), dict(self._addresses), self.profile
        spans = {name: Span(addresses[name], self._size_bytes(name)) for name in names}
        writes = [spans[name] for name in plan.outputs]
        if self._workspace is not None:
            writes.append(self._workspace)  # two contexts in one workspace at a time would spoil each other

        def run() -> None:
            feed = {
                name: cuda.at(addresses[name], spans[name].size_bytes).view(dtype).reshape(shapes[name]).copy()
                for name, dtype in plan.inputs.items()
            }
            values = [np.asarray(value) for value in plan.session.run(list(plan.outputs), feed)]
            if profile == plan.header.get("spoilt_profile"):
                values = [1 - value for value in values]
            for name, value in zip(plan.outputs, values, strict=True):
                out: NDArray[np.uint8] = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
                cuda.at(addresses[name], out.size)[:] = out

        cuda.enqueue(stream_handle, "compute", run, [spans[name] for name in plan.inputs], writes)
        return True

    def _size_bytes(self, name: str) -> int:
        dtype = np.dtype(self._plan.get_tensor_dtype(name))
        return int(np.prod(self.get_tensor_shape(name))) * dtype.itemsize
