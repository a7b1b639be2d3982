"""What the silicon was doing: clocks, power, heat and whatever held it back, before a measurement and after it."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from benchmarks.report import Report
from runtime.doctor.gpu import read_gpus, slowed_by
from runtime.doctor.report import Surroundings


class GpuState(Report):
    """One GPU, in the words of the driver's own tool."""

    name: str
    driver: str
    capability: str
    memory: str
    temperature_c: str
    power_draw: str
    power_limit: str
    clock_sm: str
    clock_sm_max: str
    slowed_by: tuple[str, ...] = Field(description="what held its clocks back at that moment: heat, power, hardware")


class DeviceState(Report):
    """The processors at one moment."""

    load_average: tuple[float, float, float] = Field(description="runnable tasks over 1, 5 and 15 minutes")
    cpu_governor: str | None = Field(description="null where the kernel does not say, as in a virtual machine")
    cpu_mhz: float | None = Field(description="mean over the cores, as the kernel reports it")
    gpus: tuple[GpuState, ...]

    @property
    def heading(self) -> str:
        """The state in one line."""
        load = ", ".join(f"{each:.2f}" for each in self.load_average)
        clock = "unknown" if self.cpu_mhz is None else f"{self.cpu_mhz:.0f} MHz"
        parts = [f"load {load}", f"CPU clock {clock}", f"governor {self.cpu_governor or 'unknown'}"]
        for gpu in self.gpus:
            held = f"slowed by {', '.join(gpu.slowed_by)}" if gpu.slowed_by else "not slowed down"
            parts.append(
                f"{gpu.name} (driver {gpu.driver}): {gpu.clock_sm} of {gpu.clock_sm_max}, {gpu.power_draw} of "
                f"{gpu.power_limit}, {gpu.temperature_c} C, {held}"
            )
        return "; ".join(parts)


def read_device(around: Surroundings | None = None) -> DeviceState:
    """The state now.

    Args:
        around: Through what to look; None takes this machine.
    """
    from runtime.doctor.report import this_machine

    looked = this_machine() if around is None else around
    one, five, fifteen = os.getloadavg()
    slowed = slowed_by(looked)
    return DeviceState(
        load_average=(round(one, 2), round(five, 2), round(fifteen, 2)),
        cpu_governor=_governor(looked.root),
        cpu_mhz=_clock_mhz(looked.root),
        gpus=tuple(
            GpuState(
                name=row["name"],
                driver=row["driver_version"],
                capability=row["compute_cap"],
                memory=row["memory.total"],
                temperature_c=row["temperature.gpu"],
                power_draw=row["power.draw"],
                power_limit=row["power.limit"],
                clock_sm=row["clocks.sm"],
                clock_sm_max=row["clocks.max.sm"],
                slowed_by=slowed.get(number, ()),
            )
            for number, row in enumerate(read_gpus(looked))
        ),
    )


def _governor(root: Path) -> str | None:
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    return ", ".join(sorted({file.read_text(encoding="utf-8").strip() for file in files})) or None


def _clock_mhz(root: Path) -> float | None:
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    clocks = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return round(sum(clocks) / len(clocks), 1) if clocks else None
