"""The two TensorRTs, and all in which they differ: one table, for the building of plans and for running them.

`tensorrt` builds on the machine that runs the plan. `tensorrt_rtx` builds anywhere, for a list of GPU generations, and
finishes the plan on the device by compiling kernels, which it keeps in a cache on disk.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from runtime.errors import EngineError

FlavourName = Literal["tensorrt", "tensorrt_rtx"]


@dataclass(frozen=True, slots=True)
class Flavour:
    """One TensorRT, and what it can do.

    Attributes:
        module: Imported when plans are built or run.
        install_command: What installs it.
        distributions: Pattern of the installed distribution whose name tells the CUDA version.
        ahead_of_time: Builds for compute capabilities, with no GPU present.
        captures_itself: Makes CUDA graphs by a setting of its own; the other one is captured in the stream.
        compiles_on_device: Compiles kernels when a shape is first run, and keeps them in a runtime cache.
        times_kernels: Times kernels while it builds, and can be given what it timed before.
    """

    module: str
    install_command: str
    distributions: str
    ahead_of_time: bool
    captures_itself: bool
    compiles_on_device: bool
    times_kernels: bool


FLAVOURS: Mapping[FlavourName, Flavour] = MappingProxyType(
    {
        "tensorrt_rtx": Flavour(
            module="tensorrt_rtx",
            install_command="pip install 'ferrosight[tensorrt-rtx]'",
            distributions=r"tensorrt[-_]rtx[-_]cu(\d+)[-_]libs",
            ahead_of_time=True,
            captures_itself=True,
            compiles_on_device=True,
            times_kernels=False,
        ),
        "tensorrt": Flavour(
            module="tensorrt",
            install_command="pip install tensorrt (on a Jetson: JetPack)",
            distributions=r"tensorrt[-_]cu(\d+)[-_]libs",
            ahead_of_time=False,
            captures_itself=False,
            compiles_on_device=False,
            times_kernels=True,
        ),
    }
)


def import_flavour(name: FlavourName, owner: str) -> Any:
    """The library of a flavour.

    Args:
        name: A key of the table.
        owner: Who asks, for the error's text.

    Raises:
        EngineError: It is not installed, or cannot be imported.
    """
    flavour = FLAVOURS[name]
    if importlib.util.find_spec(flavour.module) is None:
        raise EngineError(
            f"{owner}: found no library {flavour.module!r}, expected it to be installed. Run: {flavour.install_command}"
        )
    try:
        return importlib.import_module(flavour.module)
    except (ImportError, OSError) as error:
        raise EngineError(
            f"{owner}: found a library {flavour.module!r} that cannot be imported ({error}), expected one that works "
            f"on this machine. Install it again: {flavour.install_command}"
        ) from error


def cuda_of(name: FlavourName) -> str | None:
    """The CUDA of an installed flavour, such as `13`, as its distribution's name says; None where that does not."""
    for distribution in importlib.metadata.distributions():
        found = distribution.metadata["Name"]
        if found and (match := re.fullmatch(FLAVOURS[name].distributions, found)):
            return match[1]
    return None
