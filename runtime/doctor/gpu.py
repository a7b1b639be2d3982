"""The doctor's look at the GPU: driver, CUDA, TensorRT, clocks and power."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from runtime.cuda import CUDA_APIS, CudaApi
from runtime.cuda.calls import Cuda
from runtime.doctor.report import Asked, Finding, State, Surroundings
from runtime.errors import EngineError
from runtime.plans.flavours import FLAVOURS

FIELDS = ("name", "driver_version", "compute_cap", "memory.total", "temperature.gpu", "power.draw", "power.limit",
          "clocks.sm", "clocks.max.sm", "persistence_mode")  # fmt: skip
"""What nvidia-smi is asked for each GPU."""
REASONS: Mapping[int, str] = MappingProxyType(
    {
        0x0008: "hardware slowdown",
        0x0020: "software thermal slowdown",
        0x0040: "hardware thermal slowdown",
        0x0080: "hardware power brake",
    }
)
"""Bits of nvidia-smi's `clocks_throttle_reasons.active` that mean trouble; the others are idling and set limits."""
JETSON = "etc/nv_tegra_release"
FULL_POWER = ("MAXN", "MAXN_SUPER")
SYSTEM_LIBRARIES = "usr/lib"


def check_gpu(around: Surroundings, asked: Asked) -> Iterator[Finding]:
    """Driver and cards, as the driver's own tool names them."""
    rows = read_gpus(around)
    if rows:
        for number, row in enumerate(rows):
            found = (
                f"{row['name']}, compute capability {row['compute_cap']}, {row['memory.total']}, driver "
                f"{row['driver_version']}"
            )
            yield Finding("GPU", f"GPU {number}", "ok", found)
        return
    release = around.root / JETSON
    if release.exists():
        first = release.read_text(encoding="utf-8", errors="replace").splitlines()[:1]
        yield Finding("GPU", "Jetson", "ok", (first or ["an unnamed release"])[0].lstrip("# "))
        return
    loaded = (around.root / "proc/driver/nvidia/version").exists()
    yield Finding(
        "GPU",
        "driver",
        _state(asked),
        "loaded, but nvidia-smi does not answer" if loaded else "no NVIDIA GPU that nvidia-smi can name",
        "Restart the machine after a driver update." if loaded else "Install the driver, or take a backend of the CPU.",
    )


def check_cuda(around: Surroundings, asked: Asked) -> Iterator[Finding]:
    """The libraries that call CUDA, each tried out."""
    for api, entry in CUDA_APIS.items():
        state: State = "problem" if asked.on_gpu and api in asked.cuda_apis else "note"
        if not around.find(entry.library):
            yield Finding("CUDA", api, state, "not installed", entry.install_command)
            continue
        try:
            with around.open_cuda(api) as cuda:
                yield _works(api, cuda, asked)
        except EngineError as error:
            reason = str(error).partition(": ")[2].partition(", expected")[0]
            yield Finding("CUDA", api, state, f"opens no GPU: {reason}", "Mend what stands under GPU first.")


def _works(api: CudaApi, cuda: Cuda, asked: Asked) -> Finding:
    found = f"opens {cuda.gpu.name}, driver for CUDA {cuda.gpu.driver_cuda}"
    if cuda.can_capture:
        return Finding("CUDA", api, "ok", f"{found}, CUDA graphs")
    # A flavour that captures by itself has its graphs with either library.
    missed = api in asked.cuda_apis and any(
        name in asked.backends for name, flavour in FLAVOURS.items() if not flavour.captures_itself
    )
    return Finding(
        "CUDA", api, "note" if missed else "ok", f"{found}, no CUDA graphs: native plans run a little slower",
        "Set cuda_api to cuda_bindings." if missed else "",
    )  # fmt: skip


def check_tensorrt(around: Surroundings, asked: Asked) -> Iterator[Finding]:
    """The flavours that are installed, and one that a virtual environment hides."""
    for name, flavour in FLAVOURS.items():
        state: State = "problem" if name in asked.backends else "note"
        if around.find(flavour.module):
            found = around.version(flavour.module)
            if found is None:
                yield Finding(
                    "TensorRT", name, state, "installed, and cannot be imported", f"Again: {flavour.install_command}"
                )
            else:
                yield Finding("TensorRT", name, "ok", found)
            continue
        hidden = sorted((around.root / SYSTEM_LIBRARIES).glob(f"python3*/dist-packages/{flavour.module}/__init__.py"))
        bare = sorted((around.root / SYSTEM_LIBRARIES).glob("*/libnvinfer.so*")) if name == "tensorrt" else []
        if hidden and around.in_environment:
            yield Finding(
                "TensorRT",
                name,
                state,
                f"the system has it in {hidden[0].parent}, and this virtual environment hides it",
                "Make the environment again with: python3 -m venv --system-site-packages",
            )
        elif bare:
            yield Finding(
                "TensorRT", name, state, f"its library is there ({bare[0]}), its Python package is not",
                "Install python3-libnvinfer with the system's packages (apt).",
            )  # fmt: skip
        else:
            yield Finding("TensorRT", name, state, "not installed", flavour.install_command)


def check_clocks(around: Surroundings, asked: Asked) -> Iterator[Finding]:
    """Clocks, power and what slows them down: the difference between a benchmark and a shift."""
    for number, row in enumerate(read_gpus(around)):
        found = (
            f"{row['clocks.sm']} of {row['clocks.max.sm']}, {row['power.draw']} of {row['power.limit']}, "
            f"{row['temperature.gpu']} C"
        )
        yield Finding("Clocks and power", f"GPU {number}", "ok", found)
        if row["persistence_mode"] == "Disabled":
            yield Finding(
                "Clocks and power", f"GPU {number}", "note", "persistence mode is off: the first batch is late",
                "sudo nvidia-smi -pm 1",
            )  # fmt: skip
    yield from _throttling(around)
    mode = around.run(["nvpmodel", "-q"])
    if mode is not None:
        name = next((line.partition(":")[2].strip() for line in mode.splitlines() if "Power Mode" in line), "unknown")
        full = name in FULL_POWER
        yield Finding(
            "Clocks and power", "power mode", "ok" if full else "note", name,
            "" if full else "sudo nvpmodel -m 0, then sudo jetson_clocks, if the line needs all of it.",
        )  # fmt: skip
    governors = {
        file.read_text(encoding="utf-8").strip()
        for file in (around.root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    }
    if governors:
        slow = "powersave" in governors
        yield Finding(
            "Clocks and power", "CPU governor", "note" if slow and not asked.on_gpu else "ok",
            ", ".join(sorted(governors)),
            "sudo cpupower frequency-set -g performance" if slow and not asked.on_gpu else "",
        )  # fmt: skip


def _throttling(around: Surroundings) -> Iterator[Finding]:
    for number, reasons in slowed_by(around).items():
        yield Finding(
            "Clocks and power", f"GPU {number}", "problem", f"slowed down now: {', '.join(reasons)}",
            "Look after its cooling and its power supply.",
        )  # fmt: skip


def slowed_by(around: Surroundings) -> dict[int, tuple[str, ...]]:
    """What holds the clocks of GPUs back now, by the GPU's number; those that run freely are not named."""
    said = around.run(["nvidia-smi", "--query-gpu=clocks_throttle_reasons.active", "--format=csv,noheader"])
    found: dict[int, tuple[str, ...]] = {}
    for number, line in enumerate((said or "").splitlines()):
        try:
            bits = int(line.strip(), 16)
        except ValueError:
            continue
        reasons = tuple(name for bit, name in REASONS.items() if bits & bit)
        if reasons:
            found[number] = reasons
    return found


def read_gpus(around: Surroundings) -> list[dict[str, str]]:
    """What nvidia-smi says of each GPU, by the names of `FIELDS`; empty where there is none."""
    said = around.run(["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader"])
    rows = [[part.strip() for part in line.split(",")] for line in (said or "").splitlines()]
    return [dict(zip(FIELDS, row, strict=True)) for row in rows if len(row) == len(FIELDS)]


def _state(asked: Asked) -> State:
    return "problem" if asked.on_gpu else "note"
