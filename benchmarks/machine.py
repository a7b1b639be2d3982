"""On which machine, and how busy it was: without it a time says nothing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import Field

from benchmarks.report import Report

FLAGS_OF_NOTE = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8",
    "asimd", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip
"""What decides how fast a CPU multiplies small numbers, on x86 and on Arm."""

LIBRARIES = ("numpy", "openvino", "onnxruntime", "tensorrt-rtx", "tensorrt", "torch", "pyzmq", "pydantic", "scipy")

_CPUINFO = Path("/proc/cpuinfo")


class Machine(Report):
    """The machine as it was when the measuring began."""

    cpu: str
    cores: int = Field(description="CPUs that this process may use")
    memory_gib: float
    flags: tuple[str, ...] = Field(description="instruction sets of note for inference")
    platform: str
    python: str
    libraries: dict[str, str] = Field(description="installed versions")
    load_average: tuple[float, float, float] = Field(
        description="runnable tasks over 1, 5 and 15 minutes, at the start: what else took part"
    )

    @property
    def heading(self) -> str:
        """The machine in one line."""
        cores = f"{self.cores} core{'' if self.cores == 1 else 's'}"
        return (
            f"{self.cpu}, {cores}, {self.memory_gib:g} GiB, {' '.join(self.flags) or 'no flags'}; "
            f"load average at the start {self.load_average[0]:.2f}"
        )


def read_machine() -> Machine:
    """Describe this machine, now."""
    import psutil

    info = _cpu_info()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    one, five, fifteen = os.getloadavg()
    return Machine(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        flags=tuple(flag for flag in FLAGS_OF_NOTE if flag in flags),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        libraries={name: found for name in LIBRARIES if (found := _version(name)) is not None},
        load_average=(round(one, 2), round(five, 2), round(fifteen, 2)),
    )


def _cpu_info() -> dict[str, str]:
    """The first processor's entries; none where the kernel tells nothing."""
    try:
        first = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
