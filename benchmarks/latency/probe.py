"""An engine opened so that it can be looked into: a GPU's stages by its own clock, and the memory that it took."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import psutil

from runtime.backends import BACKENDS, entry_of, open_engine
from runtime.backends.tensorrt import Choose, Device, open_device, open_graph
from runtime.cuda.timed import StageTimes, TimedCuda
from runtime.plans.flavours import FLAVOURS

if TYPE_CHECKING:
    from runtime.engine import Engine, EngineSettings
    from runtime.plans.flavours import FlavourName
    from runtime.spec import GraphSpec

MIB = 1 << 20
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"

OpenDevice = Callable[["FlavourName", "EngineSettings"], Device]


@dataclass(frozen=True, slots=True)
class Probed:
    """An opened engine, and what can be learnt of it.

    Attributes:
        engine: As the line would have it.
        device_stages: The last collected batch by the device's clock; None on a CPU.
        memory_mib: What the engine took since before it was opened; called after it has run. None where the kernel
            does not tell.
    """

    engine: Engine
    device_stages: Callable[[], StageTimes | None]
    memory_mib: Callable[[], float | None]


class OpenProbed(Protocol):
    """How an engine is opened so that it can be looked into."""

    def __call__(
        self, backend: str, model: Path, graph: GraphSpec, settings: EngineSettings
    ) -> contextlib.AbstractContextManager[Probed]:
        """See `open_probed`."""
        ...


@contextlib.contextmanager
def open_probed(backend: str, model: Path, graph: GraphSpec, settings: EngineSettings) -> Iterator[Probed]:
    """Open a graph on a backend, as `runtime.backends.open_engine` does, and watch it.

    Raises:
        EngineError: See there.
    """
    entry = entry_of(backend)
    if entry.on_gpu:
        with open_probed_plan(_FLAVOURS[backend], model, graph, settings) as probed:
            yield probed
        return
    importlib.import_module(entry.module)  # the library's own memory is not the engine's
    peak = PeakMemory()
    with open_engine(backend, model, graph, settings) as engine:
        yield Probed(engine, lambda: None, peak.growth_mib)


@contextlib.contextmanager
def open_probed_plan(
    flavour: FlavourName,
    model: Path,
    graph: GraphSpec,
    settings: EngineSettings,
    *,
    device: OpenDevice = open_device,
    choose: Choose | None = None,
) -> Iterator[Probed]:
    """The same of a graph's plan on a GPU.

    Args:
        flavour: Which TensorRT.
        model: The graph's ONNX file.
        graph: Its contract.
        settings: How it is opened.
        device: Opens the library and the GPU.
        choose: See `runtime.backends.tensorrt.open_graph`.
    """
    opened = device(flavour, settings)
    cuda = TimedCuda(opened.cuda)
    before = cuda.used_bytes
    with open_graph(replace(opened, cuda=cuda), model, graph, settings, choose=choose) as engine:
        yield Probed(engine, cuda.stages, lambda: (cuda.used_bytes - before) / MIB)


class PeakMemory:
    """By how much the process has grown at its largest since this was made.

    Memory that an earlier engine has freed and the allocator kept would hide growth, so it is handed back first.
    """

    def __init__(self) -> None:
        gc.collect()
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
        self._before = psutil.Process().memory_info().rss
        try:
            _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
            self._can_tell = True
        except OSError:
            self._can_tell = False

    def growth_mib(self) -> float | None:
        """The growth until now; None where the kernel does not let its peak be reset."""
        if not self._can_tell:
            return None
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        peak_kib = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
        return None if peak_kib is None else max(0.0, peak_kib / 1024 - self._before / MIB)


_FLAVOURS: Mapping[str, FlavourName] = MappingProxyType({name: name for name in FLAVOURS if name in BACKENDS})
