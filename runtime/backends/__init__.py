"""The inference backends: one table, imported late, so that a line installs only the one it runs."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import cast

from runtime.engine import Engine, EngineSettings, OpenEngine
from runtime.errors import EngineError
from runtime.plans.flavours import FLAVOURS
from runtime.spec import GraphSpec

DEFAULT_BACKEND = "openvino"


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """Where a backend lies, and how a user gets its library.

    Attributes:
        module: Imported when the backend is first used.
        function: Its `runtime.engine.OpenEngine`.
        library: The library that the module imports.
        install_command: What installs it.
        on_gpu: It needs an NVIDIA GPU, and plans that `ferrosight build` has made for it.
    """

    module: str
    function: str
    library: str
    install_command: str
    on_gpu: bool = False

    @property
    def installed(self) -> bool:
        """Whether its library is there; the library is not imported."""
        return importlib.util.find_spec(self.library) is not None


BACKENDS: Mapping[str, BackendEntry] = MappingProxyType(
    {
        "openvino": BackendEntry(
            module="runtime.backends.openvino",
            function="open_openvino",
            library="openvino",
            install_command="pip install ferrosight",
        ),
        "onnxruntime": BackendEntry(
            module="runtime.backends.onnxruntime",
            function="open_onnxruntime",
            library="onnxruntime",
            install_command="pip install 'ferrosight[onnxruntime]'",
        ),
        "tensorrt": BackendEntry(
            module="runtime.backends.tensorrt",
            function="open_tensorrt",
            library=FLAVOURS["tensorrt"].module,
            install_command=FLAVOURS["tensorrt"].install_command,
            on_gpu=True,
        ),
        "tensorrt_rtx": BackendEntry(
            module="runtime.backends.tensorrt",
            function="open_tensorrt_rtx",
            library=FLAVOURS["tensorrt_rtx"].module,
            install_command=FLAVOURS["tensorrt_rtx"].install_command,
            on_gpu=True,
        ),
    }
)

CPU_BACKENDS = tuple(name for name, entry in BACKENDS.items() if not entry.on_gpu)
"""Those that run anywhere."""


def entry_of(backend: str, backends: Mapping[str, BackendEntry] = BACKENDS) -> BackendEntry:
    """The entry of a backend whose library is installed.

    Raises:
        EngineError: No such backend, or its library is not installed.
    """
    entry = backends.get(backend)
    if entry is None:
        raise EngineError(
            f"backend {backend!r}: found no such backend, expected one of {', '.join(sorted(backends))}. "
            "Give one of these."
        )
    if not entry.installed:
        raise EngineError(
            f"backend {backend}: found no library {entry.library!r}, expected it to be installed. "
            f"Run: {entry.install_command}"
        )
    return entry


def open_engine(
    backend: str,
    model: Path,
    graph: GraphSpec,
    settings: EngineSettings,
    backends: Mapping[str, BackendEntry] = BACKENDS,
) -> Engine:
    """Open a graph on a backend; no other backend is ever taken in its place.

    Args:
        backend: A key of the table.
        model: The file of the graph.
        graph: What the file must take and give.
        settings: Batch, slots, geometry, threads.
        backends: The table.

    Raises:
        EngineError: No such backend, its library is not installed, or the file does not fit its contract.
    """
    entry = entry_of(backend, backends)
    try:
        module = importlib.import_module(entry.module)
    except ImportError as error:
        raise EngineError(
            f"backend {backend}: found a library {entry.library!r} that cannot be imported ({error}), "
            f"expected one that works on this machine. Install it again: {entry.install_command}"
        ) from error
    return cast("OpenEngine", getattr(module, entry.function))(model, graph, settings)
