"""Building on the machine that runs the plan, on the software TensorRT: timings are kept, and parity is measured."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from export import cli
from export.on_device import prove_plans
from export.to_tensorrt import Plan, Sizes, build_plans
from runtime.backends.tensorrt import Device, open_graph
from runtime.bundle import GOLDEN_FILE, open_bundle
from runtime.engine import EngineSettings
from runtime.plans.flavours import FlavourName
from runtime.plans.parity import PlanParity
from tests.bundles import make_strip_bundle, seal
from tests.software_builder import BuildingTensorRt
from tests.software_cuda import SoftwareCuda
from tests.software_plans import GPU, software_device, software_site


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("export.to_tensorrt.cuda_of", lambda _: "13")
    return make_strip_bundle(tmp_path / "tiny", 64, 64)


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> BuildingTensorRt:
    library = BuildingTensorRt(SoftwareCuda())
    monkeypatch.setattr("export.to_tensorrt.import_flavour", lambda *_: library)
    return library


def build(bundle: Path, batch: int = 4) -> tuple[Plan, ...]:
    return build_plans(bundle, Sizes((1, batch)), flavour="tensorrt", gpu=lambda: GPU)


def timings(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "ferrosight").glob("*.timings"))


def test_what_was_timed_once_is_not_timed_again(bundle: Path, trt: BuildingTensorRt, tmp_path: Path) -> None:
    build(bundle)
    kinds = set(trt.timed)
    assert len(trt.timed) == len(kinds) > 3  # the second graph uses what the first one timed
    (kept,) = timings(tmp_path)
    assert set(json.loads(kept.read_bytes())) == kinds
    build(bundle, batch=8)
    assert len(trt.timed) == len(kinds)


def test_timings_that_do_not_fit_cost_a_build_its_time_and_no_more(
    bundle: Path, trt: BuildingTensorRt, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(bundle)
    (kept,) = timings(tmp_path)
    kept.write_bytes(b"another machine's")
    trt.timed.clear()
    with caplog.at_level(logging.WARNING):
        build(bundle, batch=8)
    assert "do not fit; timing again" in caplog.text
    assert trt.timed


def test_a_flavour_that_builds_elsewhere_keeps_no_timings(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    build_plans(bundle, Sizes((1, 4)))
    assert not timings(tmp_path)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, trt: BuildingTensorRt) -> CliRunner:
    """`ferrosight build --backend tensorrt` on a machine whose GPU and TensorRT are software."""

    def device(flavour: FlavourName, _: EngineSettings) -> Device:
        return software_device(flavour)

    monkeypatch.setattr("export.to_tensorrt.present_gpu", lambda *_: GPU)
    monkeypatch.setattr("export.on_device.prove_plans", partial(prove_plans, device=device))
    return CliRunner()


def invoke(command: CliRunner, bundle: Path, *options: str) -> Result:
    arguments = ["build", str(bundle), "--backend", "tensorrt", "--batch", "1,2,4", *options]
    return command.invoke(cli.app, arguments, catch_exceptions=False)


def test_a_build_on_the_device_ends_with_plans_that_may_serve(command: CliRunner, bundle: Path) -> None:
    result = invoke(command, bundle)
    assert result.exit_code == 0
    assert result.stdout.count("may serve") == 2
    graph = open_bundle(bundle).spec.graphs["gate"]
    open_graph(software_device("tensorrt"), bundle / graph.files["fp16"], graph, EngineSettings(4)).close()
    records = sorted((bundle / "engines").glob("*.parity.json"))
    assert len(records) == 2
    for record in records:
        assert PlanParity.model_validate_json(record.read_bytes()).gpu == software_site("tensorrt").gpu


def test_a_parity_that_does_not_hold_is_the_builds_exit_code(command: CliRunner, bundle: Path) -> None:
    with np.load(bundle / GOLDEN_FILE) as arrays:
        golden: dict[str, Any] = dict(arrays)
    golden["gate.defect_probability"] = 1 - golden["gate.defect_probability"]
    np.savez(bundle / GOLDEN_FILE, **golden)
    seal(bundle)
    result = invoke(command, bundle)
    assert result.exit_code == 1
    assert "must not serve" in result.stdout


def test_who_does_not_want_parity_is_told_what_is_still_to_be_run(command: CliRunner, bundle: Path) -> None:
    result = invoke(command, bundle, "--no-parity")
    assert result.exit_code == 0
    assert f"Before a plan serves, on each GPU: ferrosight parity {bundle} --backend tensorrt" in result.stdout
    assert not list((bundle / "engines").glob("*.parity.json"))


def test_the_json_has_the_parity_of_each_plan(command: CliRunner, bundle: Path) -> None:
    plans = json.loads(invoke(command, bundle, "--json").stdout)
    assert [plan["parity"]["holds"] for plan in plans] == [True, True]
