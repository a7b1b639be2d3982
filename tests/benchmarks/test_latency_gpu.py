"""A plan's stages, memory and bare engine, on the GPU in software: every copy and compute takes it one millisecond."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.device import read_device
from benchmarks.latency.bare import BARE, bare_plan
from benchmarks.latency.idle import run_once
from benchmarks.latency.measure import Session
from benchmarks.latency.networks import bundle_networks
from benchmarks.latency.probe import Probed, open_probed_plan
from benchmarks.latency.report import LatencyPlan
from runtime.backends import BACKENDS
from runtime.bundle import open_bundle
from runtime.engine import EngineSettings
from runtime.plans.flavours import FlavourName
from runtime.plans.preflight import find_plan
from runtime.spec import GraphSpec, read_spec
from tests.bundles import make_strip_bundle
from tests.runtime.backends.graphs import HEIGHT, WIDTH, some_frames, write_pair
from tests.runtime.doctor.test_report import NVIDIA_SMI, THROTTLING, machine
from tests.software_cuda import SoftwareCuda
from tests.software_plans import add_plan, make_bundle, manifest_of, software_device
from tests.software_streams import OPERATION_MS

FLAVOURS: tuple[FlavourName, ...] = ("tensorrt", "tensorrt_rtx")
BATCH = 3


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_plan_is_timed_stage_by_stage_and_weighed(tmp_path: Path, flavour: FlavourName) -> None:
    model = tmp_path / "pair.onnx"
    graph = write_pair(model)
    add_plan(make_bundle(model, graph), manifest_of("model", model, graph, (HEIGHT, WIDTH), BATCH, flavour), model)
    settings = EngineSettings(max_batch=BATCH, slots=2)
    device = software_device(flavour)
    with open_probed_plan(flavour, model, graph, settings, device=lambda *_: device, choose=find_plan) as probed:
        for _ in range(3):
            run_once(probed.engine, some_frames(BATCH))
        found = probed.device_stages()
        assert found is not None
        assert (found.upload_ms, found.compute_ms, found.download_ms) == (OPERATION_MS, OPERATION_MS, 2 * OPERATION_MS)
        memory_mib = probed.memory_mib()
        assert memory_mib is not None
        assert memory_mib * 2**20 >= 2 * some_frames(BATCH).nbytes


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_bare_plan_gives_what_the_engine_gives(tmp_path: Path, flavour: FlavourName) -> None:
    model = tmp_path / "pair.onnx"
    graph = write_pair(model)
    add_plan(make_bundle(model, graph), manifest_of("model", model, graph, (HEIGHT, WIDTH), BATCH, flavour), model)
    device = software_device(flavour)
    assert isinstance(device.cuda, SoftwareCuda)
    frames = some_frames(BATCH)
    with bare_plan(device, model, graph, frames, choose=find_plan) as run:
        made = device.cuda.made
        run()
        run()
        assert device.cuda.made == made
        pinned = [memory for _, memory in device.cuda._locked]
        assert any(np.array_equal(memory, (255 - frames).reshape(-1)) for memory in pinned)
        assert device.cuda.counts["upload"] == 2


def test_every_backend_has_a_bare_one() -> None:
    assert set(BARE) == set(BACKENDS)


@pytest.mark.skipif(not BACKENDS["tensorrt_rtx"].installed, reason="tensorrt-rtx is not installed")
def test_a_row_of_a_gpu_holds_its_own_clocks_figures(tmp_path: Path) -> None:
    path = make_strip_bundle(tmp_path / "strip")
    spec = read_spec(path)
    model = path / spec.graphs["gate"].files["fp16"]
    add_plan(path, manifest_of("gate", model, spec.graphs["gate"], (64, 256), BATCH), model)

    def open_software(
        backend: str, model: Path, graph: GraphSpec, settings: EngineSettings
    ) -> AbstractContextManager[Probed]:
        device = software_device("tensorrt_rtx")
        return open_probed_plan("tensorrt_rtx", model, graph, settings, device=lambda *_: device, choose=find_plan)

    now_ns = [0]

    def clock_ns() -> int:
        now_ns[0] += 1_000_000
        return now_ns[0]

    def sleep(seconds: float) -> None:
        now_ns[0] += int(seconds * 1e9)

    plan = LatencyPlan(backends=("tensorrt_rtx",), batches=(BATCH,), runs=4, warm_up=1, idle_s=10.0)
    session = Session(plan, clock_ns=clock_ns, sleep=sleep, open_engine=open_software)
    (row,) = session.measure(bundle_networks(open_bundle(path), ("gate",)), "a plan").rows
    stages = row.stages_ms
    assert (stages.upload, stages.compute, stages.download) == (OPERATION_MS, OPERATION_MS, OPERATION_MS)
    assert (row.backend, row.arithmetic, row.runs) == ("tensorrt_rtx", "fp16", 4)
    assert row.memory_mib is not None
    assert row.memory_mib > 0
    assert row.after_idle is not None


def test_the_state_of_a_gpu_is_kept_beside_the_figures(tmp_path: Path) -> None:
    hot = {**NVIDIA_SMI, THROTTLING: "0x0000000000000048\n"}
    state = read_device(machine(tmp_path, hot))
    (gpu,) = state.gpus
    assert (gpu.name, gpu.driver, gpu.clock_sm, gpu.power_limit) == ("NVIDIA L4", "580.82.07", "210 MHz", "72.00 W")
    assert gpu.slowed_by == ("hardware slowdown", "hardware thermal slowdown")
    assert "slowed by hardware slowdown" in state.heading
    assert (state.cpu_governor, state.cpu_mhz) == (None, None)


def test_the_state_of_a_cpu_is_what_its_kernel_says(tmp_path: Path) -> None:
    governor = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("powersave\n", encoding="utf-8")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("cpu MHz\t\t: 1000.0\n\ncpu MHz\t\t: 3000.0\n", encoding="utf-8")
    state = read_device(machine(tmp_path))
    assert (state.cpu_governor, state.cpu_mhz, state.gpus) == ("powersave", 2000.0, ())
    assert "CPU clock 2000 MHz; governor powersave" in state.heading
