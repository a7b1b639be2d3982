"""Every backend as the contract tests open it: on the CPU, on the software GPU, on a real one where there is one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.backends import BACKENDS, CPU_BACKENDS, open_engine
from runtime.engine import Engine, EngineSettings
from runtime.spec import GraphSpec
from tests.gpu import needs_gpu, open_on_gpu
from tests.software_plans import open_software


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

EVERY_BACKEND = [
    *WITHOUT_DEVICE,
    *(
        pytest.param(Backend(name, functools.partial(open_on_gpu, name)), id=name, marks=needs_gpu)
        for name in ("tensorrt_rtx", "tensorrt")
    ),
]
