"""TensorRT and TensorRT-RTX: plans on an NVIDIA GPU; `runtime.plans.flavours` says in what the two differ.

A backend is given a graph's ONNX file, as every other is, and looks in the bundle for a plan of it that fits this
machine (`runtime.plans.preflight`) and was found to decide right on this GPU (`runtime.plans.parity`). It never builds
one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends.contract import check_first_outputs, check_input, frame_size, precision_of
from runtime.backends.slots import SlottedEngine
from runtime.backends.tensorrt_lanes import Context, Lanes, Program, Tensor
from runtime.cuda import open_cuda
from runtime.cuda.calls import Cuda, DeviceMemory, Stream
from runtime.engine import EngineSettings
from runtime.errors import EngineError
from runtime.plans.flavours import FLAVOURS, FlavourName, cuda_of, import_flavour
from runtime.plans.in_bundle import Plan
from runtime.plans.manifest import Gpu, ShapeRange, profile_of
from runtime.plans.parity import require_parity
from runtime.plans.preflight import Site, find_plan
from runtime.plans.user_cache import UserCache
from runtime.spec import GraphSpec

log = logging.getLogger(__name__)

Choose = Callable[[str, Path, GraphSpec, tuple[int, int], int, Site], Plan]
"""From who asks, the graph's file, its contract, rows and columns, the largest batch and the machine, to a plan."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a plan is opened with.

    Attributes:
        flavour: Which TensorRT.
        trt: Its module.
        cuda: The GPU, open in this thread.
        site: What a plan must be made for.
    """

    flavour: FlavourName
    trt: Any
    cuda: Cuda
    site: Site


def open_tensorrt(model: Path, graph: GraphSpec, settings: EngineSettings) -> SlottedEngine:
    """Open a graph's plan on TensorRT; see `runtime.engine.OpenEngine`."""
    return open_graph(open_device("tensorrt", settings), model, graph, settings)


def open_tensorrt_rtx(model: Path, graph: GraphSpec, settings: EngineSettings) -> SlottedEngine:
    """Open a graph's plan on TensorRT-RTX; see `runtime.engine.OpenEngine`."""
    return open_graph(open_device("tensorrt_rtx", settings), model, graph, settings)


def open_device(flavour: FlavourName, settings: EngineSettings) -> Device:
    """The library and the GPU.

    Raises:
        EngineError: One of them is absent.
    """
    trt = import_flavour(flavour, f"engine {flavour}")
    version, built_for = str(trt.__version__), cuda_of(flavour)
    cuda = open_cuda(settings.cuda_api)  # last: whatever fails before it leaves no device open
    gpu = Gpu(name=cuda.gpu.name, capability=cuda.gpu.capability)
    return Device(flavour, trt, cuda, Site(flavour, version, built_for, gpu))


def open_graph(
    device: Device,
    model: Path,
    graph: GraphSpec,
    settings: EngineSettings,
    *,
    choose: Choose | None = None,
) -> SlottedEngine:
    """Open the plan of a graph that fits.

    Args:
        device: Library and GPU; closed with the engine, or here where it cannot be opened.
        model: The graph's ONNX file in its bundle.
        graph: Its contract.
        settings: Batch, slots and geometry.
        choose: Gives the plan; None takes the one that fits and was proven. Measuring the parity of a plan is the one
            time that another may be opened.

    Raises:
        EngineError: No plan fits, it may not serve, or TensorRT cannot open it.
        BundleError: The file lies in no bundle, or the plan was altered.
    """
    owner = f"engine {device.flavour} ({model.name})"
    with contextlib.ExitStack() as undo:
        undo.callback(device.cuda.close)
        size = frame_size(owner, graph, settings)
        precision_of(owner, model, graph)
        plan = (choose or proven_plan)(owner, model, graph, size, settings.max_batch, device.site)
        opened = _OpenPlan(owner, device, plan, _kernels_of(device, plan, settings))
        undo.callback(opened.forget)
        opened.say_without_graphs()
        lanes = Lanes(device.cuda, opened.program(graph, size), settings.max_batch, settings.slots, ended=opened.forget)
        opened.keep_kernels()
        undo.pop_all()
    log.info(
        "%s: %s, %d lanes, %d graphs, on %s", owner, plan.manifest.plan_file, settings.slots, lanes.graph_count,
        device.site.gpu.name,
    )  # fmt: skip
    return SlottedEngine(
        owner=owner,
        backend=device.flavour,
        precision=plan.manifest.precision,
        graph=graph,
        settings=settings,
        size=size,
        buffers=lanes.buffers,
        device=lanes,
    )


def proven_plan(owner: str, model: Path, graph: GraphSpec, size: tuple[int, int], batch: int, site: Site) -> Plan:
    """The plan that fits, and whose parity was measured on this GPU and holds.

    Raises:
        EngineError: There is none.
        BundleError: The graph lies in no bundle, or the plan or its record is not what was written.
    """
    plan = find_plan(owner, model, graph, size, batch, site)
    require_parity(owner, plan, site)
    return plan


def _kernels_of(device: Device, plan: Plan, settings: EngineSettings) -> UserCache | None:
    """Where the kernels of a plan are kept; None for a flavour that compiles none, and needs no folder."""
    if not FLAVOURS[device.flavour].compiles_on_device:
        return None
    return UserCache.of_kernels(settings.cache, plan.sha256, device.site, device.cuda.gpu.driver_cuda)


class _OpenPlan:
    """A deserialised plan, and the settings under which its contexts are made."""

    def __init__(self, owner: str, device: Device, plan: Plan, cache: UserCache | None) -> None:
        self._owner = owner
        self._trt = device.trt
        self._flavour = FLAVOURS[device.flavour]
        self._capture = device.cuda.can_capture and not self._flavour.captures_itself
        self._log = _log_of(device.trt)
        self._runtime = device.trt.Runtime(self._log)
        self._refuse_invalid(plan)
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan.data)
        if self._engine is None:
            raise EngineError(
                f"{owner}: found a file that TensorRT cannot open, although its manifest fits: "
                f"{plan.manifest.plan_file} ({self._log.take() or 'it does not say why'}). Build it again with "
                "'ferrosight build --rebuild'."
            )
        self._manifest = plan.manifest
        self._refuse_other_profiles()
        self._cache = cache
        self._config: Any = None
        self._kernels: Any = None
        if self._flavour.captures_itself:
            self._configure()

    def program(self, graph: GraphSpec, size: tuple[int, int]) -> Program:
        """What the lanes run, once it is what the contract says.

        Raises:
            EngineError: It is not.
        """
        trt, engine = self._trt, self._engine
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        dtypes = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names}
        inputs = {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        check_input(self._owner, graph, {name: dtypes[name].name for name in names if name in inputs})
        frames = Tensor(graph.input.name, dtypes[graph.input.name], (1, *size))
        # A context that runs nothing needs no memory, and tells the shapes of one frame's outputs.
        probe = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if probe is None or not probe.set_input_shape(frames.name, (1, *frames.shape)):
            raise EngineError(f"{self._owner}: TensorRT makes no context ({self._log.take()}), expected one.")
        found = {
            name: np.broadcast_to(np.zeros((), dtypes[name]), tuple(probe.get_tensor_shape(name)))
            for name in names
            if name not in inputs
        }
        shapes = check_first_outputs(self._owner, graph, size, found)
        ranges = self._manifest.ranges(frames.name)
        return Program(
            input=frames,
            outputs=tuple(Tensor(each.name, np.dtype(each.dtype), shapes[each.name]) for each in graph.outputs),
            profile_of=lambda batch: self._profile_of(ranges, (batch, *frames.shape)),
            make_context=self._make_context,
            workspace_bytes=int(engine.device_memory_size_v2) if self._capture else None,
            capture=self._capture,
            complaints=self._log.take,
        )

    def say_without_graphs(self) -> None:
        """Nothing is chosen in silence: a library that cannot capture costs this flavour its CUDA graphs."""
        if not (self._capture or self._flavour.captures_itself):
            log.warning(
                "%s: runs without CUDA graphs, because the library that drives the GPU cannot capture a stream. Set "
                "cuda_api to cuda_bindings for them.", self._owner
            )  # fmt: skip

    def keep_kernels(self) -> None:
        """Write what was compiled here to disk, so that the next start is a quick one."""
        if self._cache is not None and self._kernels is not None:
            self._cache.write(bytes(self._kernels.serialize()))

    def forget(self) -> None:
        """Let TensorRT's objects go, the youngest first, while the device is still there."""
        self._kernels = self._config = None
        self._engine = None
        self._runtime = None

    def _profile_of(self, ranges: Sequence[ShapeRange], shape: Sequence[int]) -> int:
        number = profile_of(ranges, shape)
        if number is None:
            raise EngineError(
                f"{self._owner}: found no profile that holds {tuple(shape)}, expected one in "
                f"{self._manifest.plan_file}. Build a plan for this batch and size with 'ferrosight build'."
            )
        return number

    def _make_context(self, profile: int, stream: Stream, workspace: DeviceMemory | None) -> Context:
        strategy = self._trt.ExecutionContextAllocationStrategy
        if self._config is not None:
            context = self._engine.create_execution_context(self._config)
        elif workspace is not None:
            context = self._engine.create_execution_context(strategy.USER_MANAGED)
        else:
            # As much as its own profile needs, and not as the largest one does.
            context = self._engine.create_execution_context(strategy.ON_PROFILE_CHANGE)
        if context is None or not context.set_optimization_profile_async(profile, stream.handle):
            raise EngineError(
                f"{self._owner}: TensorRT makes no context ({self._log.take()}), expected one for each slot and "
                "profile. Open the engine with fewer slots or a smaller batch, or free memory of the GPU."
            )
        if workspace is not None:
            context.set_device_memory(workspace.address, workspace.size_bytes)
        return context

    def _configure(self) -> None:
        """The flavour's own graphs, and every kernel compiled for its shape before the line starts."""
        trt = self._trt
        self._config = self._engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE)
        self._config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        if self._cache is not None:
            self._kernels = self._config.create_runtime_cache()
            kept = self._cache.read()
            if kept is not None and not self._kernels.deserialize(kept):
                log.warning("%s: the kernels in %s are for another machine; compiling", self._owner, self._cache.path)
            self._config.set_runtime_cache(self._kernels)

    def _refuse_other_profiles(self) -> None:
        found, expected = self._engine.num_optimization_profiles, len(self._manifest.profiles)
        if found != expected:
            raise EngineError(
                f"{self._owner}: found {found} profiles in {self._manifest.plan_file}, expected the {expected} of its "
                "manifest. Build it again with 'ferrosight build --rebuild'."
            )

    def _refuse_invalid(self, plan: Plan) -> None:
        """Ask the flavour that can tell, before it is opened."""
        ask = getattr(self._runtime, "get_engine_validity", None)
        if ask is None:
            return
        validity, diagnostics = ask(plan.data)
        if validity == self._trt.EngineValidity.INVALID:
            raise EngineError(
                f"{self._owner}: found {plan.manifest.plan_file}, which TensorRT calls invalid here (diagnostics "
                f"{diagnostics}), expected one for this machine. Build it again with 'ferrosight build --rebuild'."
            )
        if validity == self._trt.EngineValidity.SUBOPTIMAL:
            log.warning("%s: TensorRT calls %s slower than it could be", self._owner, plan.manifest.plan_file)


def _log_of(trt: Any) -> Any:
    """A logger that keeps errors until somebody asks, and passes warnings on."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self._errors.append(message.strip())
            elif severity == trt.ILogger.WARNING:
                log.warning("TensorRT: %s", message.strip())

        def take(self) -> str:
            """What was said since the last time, on one line."""
            said, self._errors = "; ".join(dict.fromkeys(self._errors)), []
            return said

    return Log()
