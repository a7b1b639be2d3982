"""From a half bundle to an INT8 bundle that the line opens, and plans of it; and all that is refused."""

from __future__ import annotations

import dataclasses
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from export.calibration import CalibrationFrames
from export.pairs import layers_of
from export.parity import Comparison
from export.quantise import QuantiseChoices, quantise_bundle
from export.tasks.base import ExportTask
from export.tasks.strip import TASK
from export.to_tensorrt import Sizes, build_plans
from runtime.bundle import Bundle, open_bundle
from runtime.engine import EngineSettings
from runtime.errors import BundleError, EngineError
from runtime.golden.check import measure_golden, require_golden
from tests.bundles import make_strip_bundle
from tests.export.graphs import noise
from tests.export.int8_bundle import HEIGHT_PX, WIDTH_PX, make_conv_bundle
from tests.export.rtx import needs_rtx

CALIBRATION = CalibrationFrames("noise", list(noise(4, HEIGHT_PX, WIDTH_PX, seed=9)))
NOW = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
CHOICES = QuantiseChoices(parity_frames=2, threads=1)


def golden(count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    return noise(count, *size_px, seed=5)


def loose(task: ExportTask, factor: float) -> ExportTask:
    """The strip's task with limits for random networks, whose pixels all lie on the fence."""
    graphs = {}
    for role, end in task.graphs.items():
        limits = dict.fromkeys(end.comparison.limits, factor)
        comparison = Comparison(end.comparison.compare, limits, {}, limits)
        graphs[role] = dataclasses.replace(end, comparison=comparison)
    return dataclasses.replace(task, graphs=graphs, golden=golden)


def times(value: float) -> Any:
    return lambda *_, **__: value


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_conv_bundle(tmp_path_factory.mktemp("int8") / "source")


def quantised(half: Bundle, out: Path, choices: QuantiseChoices = CHOICES, gain: float = 1.6) -> Bundle:
    return quantise_bundle(half, loose(TASK, 1000.0), CALIBRATION, out, choices, gain_of=times(gain), now=lambda: NOW)


def test_the_line_opens_what_was_quantised(half: Bundle, tmp_path: Path) -> None:
    bundle = quantised(half, tmp_path / "int8")
    assert {role: dict(graph.files) for role, graph in bundle.spec.graphs.items()} == {
        "gate": {"int8": "gate.int8.onnx"},
        "segmenter": {"int8": "segmenter.int8.onnx"},
    }
    assert bundle.identity("openvino").precision == "int8"
    assert {(each.graph, each.precision) for each in bundle.parity.results} == {("gate", "int8"), ("segmenter", "int8")}
    for backend in ("openvino", "onnxruntime"):
        require_golden(measure_golden(bundle, backend, EngineSettings(max_batch=2, threads=1)))


def test_the_bundle_says_what_was_done_to_it(half: Bundle, tmp_path: Path) -> None:
    layer = first_layer(half)
    bundle = quantised(half, tmp_path / "int8", dataclasses.replace(CHOICES, keep=(layer,)))
    record = bundle.spec.provenance.recipe["quantise"]
    assert record["source"] == {"name": "conv", "digest": half.digest}
    assert record["calibration"] == {"data": "noise", "frames": 4, "sha256": CALIBRATION.digest}
    assert record["graphs"]["gate"]["left_half"] == [layer]
    assert record["graphs"]["gate"]["gain"] == 1.6
    assert bundle.spec.provenance.data["calibration"] == CALIBRATION.digest
    assert bundle.spec.provenance.created_at == "2024-05-01T12:00:00+00:00"


def first_layer(bundle: Bundle) -> str:
    return layers_of(ir.load(bundle.model_file("gate")))[0]


def test_one_graph_alone(half: Bundle, tmp_path: Path) -> None:
    bundle = quantised(half, tmp_path / "int8", dataclasses.replace(CHOICES, graphs=("gate",)))
    assert bundle.precision_of("gate") == "int8"
    assert bundle.precision_of("segmenter") == "fp16"
    assert bundle.identity("openvino").precision == "fp16+int8"
    assert bundle.spec.files["segmenter.fp16.onnx"] == half.spec.files["segmenter.fp16.onnx"]


def test_a_graph_that_does_not_win_stays_as_it_was(half: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nothing to gain \(gate: 0.90 times as fast, expected 1.1; segmenter"):
        quantised(half, tmp_path / "int8", gain=0.9)
    assert not (tmp_path / "int8").exists()


def test_limits_that_nothing_can_hold_leave_every_layer_in_half(half: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no layer can be quantised within the limits of parity"):
        quantise_bundle(half, loose(TASK, -1.0), CALIBRATION, tmp_path / "int8", CHOICES, gain_of=times(2.0))


def test_what_is_not_there_is_refused_before_anything_is_done(half: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="found no layer 'nothing' to keep"):
        quantised(half, tmp_path / "int8", dataclasses.replace(CHOICES, keep=("nothing",)))
    with pytest.raises(BundleError, match="found no graph 'model'"):
        quantised(half, tmp_path / "int8", dataclasses.replace(CHOICES, graphs=("model",)))
    with pytest.raises(BundleError, match="with INT8 files, expected a bundle of half ones"):
        quantised(quantised(half, tmp_path / "int8"), tmp_path / "again")


def test_a_network_without_convolutions_has_nothing_to_gain(tmp_path: Path) -> None:
    tiny = open_bundle(make_strip_bundle(tmp_path / "tiny", HEIGHT_PX, WIDTH_PX))
    with pytest.raises(BundleError, match="gate: no layer can be quantised"):
        quantised(tiny, tmp_path / "int8", dataclasses.replace(CHOICES, graphs=("gate",)))


@needs_rtx
def test_plans_are_built_of_the_int8_files_without_a_gpu(half: Bundle, tmp_path: Path) -> None:
    bundle = quantised(half, tmp_path / "int8")
    plans = build_plans(bundle.path, Sizes((1, 2)), targets=("8.9", "12.0"))
    assert [plan.manifest.precision for plan in plans] == ["int8", "int8"]
    assert all(plan.manifest.onnx_sha256 == bundle.spec.files[f"{plan.manifest.role}.int8.onnx"] for plan in plans)
    assert all("int8" in plan.path.name and plan.size_bytes > 1000 for plan in plans)


@pytest.fixture(scope="module")
def fp8(half: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its gain is not asked: the clock would say that nothing wins."""
    choices = dataclasses.replace(CHOICES, precision="fp8")
    return quantised(half, tmp_path_factory.mktemp("fp8") / "fp8", choices, gain=0.1)


def test_fp8_is_shown_by_onnxruntime_alone_and_its_gain_is_not_claimed(fp8: Bundle) -> None:
    assert {role: dict(graph.files) for role, graph in fp8.spec.graphs.items()} == {
        "gate": {"fp8": "gate.fp8.onnx"},
        "segmenter": {"fp8": "segmenter.fp8.onnx"},
    }
    assert {(each.precision, each.backend) for each in fp8.parity.results} == {("fp8", "onnxruntime")}
    record = fp8.spec.provenance.recipe["quantise"]
    assert record["precision"] == "fp8"
    for graph in record["graphs"].values():
        assert "gain" not in graph
        assert graph["gain_not_measured"] == "no CPU computes in FP8"
        assert graph["quantised"]
        assert graph["left_half"]  # from one channel


def test_no_cpu_serves_fp8_but_a_second_opinion_may_be_had(fp8: Bundle) -> None:
    settings = EngineSettings(max_batch=2, threads=1)
    with pytest.raises(EngineError, match=r"found an FP8 file.*Serve it with tensorrt or tensorrt_rtx"):
        measure_golden(fp8, "openvino", settings)
    require_golden(measure_golden(fp8, "onnxruntime", settings))
    assert fp8.identity("onnxruntime").precision == "fp8"


def test_fp8_that_loses_too_much_stays_half(half: Bundle, tmp_path: Path) -> None:
    choices = dataclasses.replace(CHOICES, precision="fp8")
    with pytest.raises(BundleError, match="gate: no layer can be quantised within the limits of parity"):
        quantise_bundle(half, loose(TASK, -1.0), CALIBRATION, tmp_path / "fp8", choices)


def test_a_network_without_wide_convolutions_has_nothing_for_fp8(tmp_path: Path) -> None:
    tiny = open_bundle(make_strip_bundle(tmp_path / "tiny", HEIGHT_PX, WIDTH_PX))
    choices = dataclasses.replace(CHOICES, precision="fp8", graphs=("gate",))
    with pytest.raises(BundleError, match="gate: no layer can be quantised: none suits FP8"):
        quantised(tiny, tmp_path / "fp8", choices)


@needs_rtx
def test_fp8_plans_are_built_for_gpus_that_have_it_and_refused_for_others(fp8: Bundle, tmp_path: Path) -> None:
    path = Path(shutil.copytree(fp8.path, tmp_path / "fp8"))
    sizes = Sizes(batches=(1, 2))
    with pytest.raises(
        EngineError, match=r"an fp8 file for compute capability 8.6, expected 8.9 and up.*--target 8.9 --t"
    ):
        build_plans(path, sizes)
    plans = build_plans(path, sizes, targets=("8.9", "12.0"))
    assert [plan.manifest.precision for plan in plans] == ["fp8", "fp8"]
    assert all("fp8" in plan.path.name and plan.size_bytes > 1000 for plan in plans)
