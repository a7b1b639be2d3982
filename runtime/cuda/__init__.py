"""CUDA by way of a small protocol: one table of implementations, imported late."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, cast

from runtime.cuda.calls import Cuda
from runtime.errors import EngineError

CudaApi = Literal["cuda_bindings", "pycuda"]
DEFAULT_API: CudaApi = "cuda_bindings"


@dataclass(frozen=True, slots=True)
class CudaEntry:
    """Where an implementation lies, and how a user gets its library.

    Attributes:
        module: Has `open_device(number) -> Cuda`; imported when a device is opened.
        library: The library that the module imports.
        install_command: What installs it.
        captures: Whether streams can be captured, so that TensorRT runs as CUDA graphs.
    """

    module: str
    library: str
    install_command: str
    captures: bool

    @property
    def installed(self) -> bool:
        """Whether its library is there; the library itself is not imported."""
        try:
            return importlib.util.find_spec(self.library) is not None
        except ModuleNotFoundError:  # its parent package is absent
            return False


CUDA_APIS: Mapping[CudaApi, CudaEntry] = MappingProxyType(
    {
        "cuda_bindings": CudaEntry(
            "runtime.cuda.bindings", "cuda.bindings", "pip install 'ferrosight[cuda]'", captures=True
        ),
        "pycuda": CudaEntry(
            "runtime.cuda.pycuda_calls", "pycuda", "pip install pycuda (with nvcc and a compiler)", captures=False
        ),
    }
)


def open_cuda(api: CudaApi = DEFAULT_API, number: int = 0) -> Cuda:
    """Open a GPU for the calling thread.

    Args:
        api: A key of the table; no other is ever taken in its place.
        number: Of the GPU, as the driver counts them.

    Raises:
        EngineError: The library is not installed or cannot be loaded, there is no driver, or no such GPU.
    """
    entry = CUDA_APIS.get(api)
    if entry is None:
        raise EngineError(
            f"CUDA: found no implementation {api!r}, expected one of {', '.join(CUDA_APIS)}. Give one of these."
        )
    if not entry.installed:
        raise EngineError(
            f"CUDA ({api}): found no library {entry.library!r}, expected it to be installed. "
            f"Run: {entry.install_command}"
        )
    try:
        module = importlib.import_module(entry.module)
    except ImportError as error:  # PyCUDA is linked with the driver, and cannot be imported without one
        raise EngineError(
            f"CUDA ({api}): found {entry.library} installed but not to be loaded ({error}), expected it to load. "
            "Install the NVIDIA driver, or choose a backend of the CPU."
        ) from error
    return cast("Cuda", module.open_device(number))
