"""Every backend as the contract tests open it: on the CPU, on the software GPU, on a real one where there is one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.backends import BACKENDS, CPU_BACKENDS, open_engine
from runtime.backends.tensorrt import Device
from runtime.cuda import CudaApi, open_cuda
from runtime.engine import Engine, EngineSettings
from runtime.plans.flavours import FlavourName
from runtime.spec import GraphSpec
from tests.gpu import installed_apis, needs_gpu, on_software_driver, open_on_gpu
from tests.software_driver.kernels import DriverKernels
from tests.software_plans import VERSION, open_software, software_site
from tests.software_tensorrt import SoftwareTensorRt


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend, and how it is opened."""

    name: str
    open: Callable[[Path, GraphSpec, EngineSettings], Engine]


def _on_cpu(name: str) -> object:
    library = BACKENDS[name].library
    return pytest.param(
        Backend(name, functools.partial(open_engine, name)),
        id=name,
        marks=pytest.mark.skipif(not BACKENDS[name].installed, reason=f"{library} is not installed"),
    )


WITHOUT_DEVICE = [
    *(_on_cpu(name) for name in sorted(CPU_BACKENDS)),
    pytest.param(Backend("tensorrt", functools.partial(open_software, "tensorrt")), id="tensorrt-software"),
    pytest.param(Backend("tensorrt_rtx", functools.partial(open_software, "tensorrt_rtx")), id="tensorrt_rtx-software"),
]
"""For tests that a real GPU cannot take: no plan is built of a graph that breaks its contract, and a kernel that fails
takes the whole context with it."""


def _on_driver(flavour: FlavourName, api: CudaApi, model: Path, graph: GraphSpec, settings: EngineSettings) -> Engine:
    device = Device(flavour, SoftwareTensorRt(DriverKernels(), VERSION), open_cuda(api), software_site(flavour))
    return open_software(flavour, model, graph, settings, device)


ON_DRIVER = [
    pytest.param(Backend(flavour, functools.partial(_on_driver, flavour, api)), id=f"{flavour}-{api}-driver")
    for flavour in ("tensorrt", "tensorrt_rtx")
    for api in installed_apis()
]
"""The software TensorRT behind the real CUDA libraries, in a process that has the software driver."""

EVERY_BACKEND = [
    *WITHOUT_DEVICE,
    *(ON_DRIVER if on_software_driver() else ()),
    *(
        pytest.param(Backend(name, functools.partial(open_on_gpu, name)), id=name, marks=needs_gpu)
        for name in ("tensorrt_rtx", "tensorrt")
    ),
]
