"""`ferrosight quantise` on the shipped strip bundle, from the front door to plans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.cli import app
from export.to_tensorrt import Sizes, build_plans
from runtime.bundle import open_bundle
from runtime.errors import BundleError, ConfigError
from tests.export.rtx import needs_rtx

SHIPPED = Path(__file__).parents[2] / "models" / "strip"
FEW = ["--graph", "gate", "--calibrate-frames", "6", "--parity-frames", "2", "--least-gain", "0", "--threads", "1"]


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("int8") / "strip-int8"
    result = CliRunner().invoke(app, ["quantise", str(SHIPPED), "--out", str(out), *FEW, "--json"])
    assert result.exit_code == 0, result.output
    return out, result.stdout


def test_the_shipped_gate_holds_in_int8(int8: tuple[Path, str]) -> None:
    out, said = int8
    facts = json.loads(said)
    assert facts["graphs"]["gate"]["left_half"] == []
    assert facts["calibration"]["data"] == "synthetic=80001, 6 frames"
    flips = [each["value"] for each in facts["parity"] if each["figure"] == "gate_flips"]
    assert set(flips) == {0.0}
    bundle = open_bundle(out)
    assert bundle.precision_of("segmenter") == "fp16"
    files = bundle.spec.files
    assert (out / "gate.int8.onnx").stat().st_size < 0.6 * (SHIPPED / "gate.fp16.onnx").stat().st_size
    assert files["segmenter.fp16.onnx"] == open_bundle(SHIPPED).spec.files["segmenter.fp16.onnx"]


def test_a_bundle_that_is_there_is_not_written_over(int8: tuple[Path, str]) -> None:
    result = CliRunner().invoke(app, ["quantise", str(SHIPPED), "--out", str(int8[0]), *FEW])
    assert isinstance(result.exception, BundleError)
    assert "--replace" in str(result.exception)


def test_nobody_can_ask_a_cpu_what_fp8_gains(tmp_path: Path) -> None:
    asked = ["quantise", str(SHIPPED), "--precision", "fp8", "--least-gain", "1.1", "--out", str(tmp_path / "fp8")]
    result = CliRunner().invoke(app, asked)
    assert isinstance(result.exception, ConfigError)
    assert "Leave it away" in str(result.exception)


def test_the_shipped_gate_holds_in_fp8_and_the_text_claims_no_gain(tmp_path: Path) -> None:
    few = ["--graph", "gate", "--calibrate-frames", "4", "--parity-frames", "2", "--threads", "1"]
    out = tmp_path / "strip-fp8"
    result = CliRunner().invoke(app, ["quantise", str(SHIPPED), "--precision", "fp8", "--out", str(out), *few])
    assert result.exit_code == 0, result.output
    assert "gate: 13 layers in FP8; no gain: no CPU computes in FP8" in result.stdout
    bundle = open_bundle(out)
    assert (bundle.precision_of("gate"), bundle.precision_of("segmenter")) == ("fp8", "fp16")


@needs_rtx
def test_both_kinds_of_graphs_become_plans_without_a_gpu(int8: tuple[Path, str]) -> None:
    plans = build_plans(int8[0], Sizes((1, 2, 4)), targets=("8.9", "12.0"))
    assert {plan.manifest.role: plan.manifest.precision for plan in plans} == {"gate": "int8", "segmenter": "fp16"}
    assert all(plan.size_bytes > 100_000 for plan in plans)
