"""Parity of plans on the device, on the software GPU: measured, kept, and asked for before a plan serves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.on_device import comparisons_of, prove_plans
from export.parity import Comparison
from export.tasks import grain
from export.tasks.base import ExportTask
from runtime.backends.tensorrt import Device, open_graph
from runtime.bundle import open_bundle
from runtime.engine import EngineSettings
from runtime.errors import BundleError, EngineError
from runtime.plans.flavours import FlavourName
from runtime.plans.in_bundle import read_plans
from runtime.plans.parity import read_record, record_file
from runtime.spec import TensorSpec
from tests.bundles import make_strip_bundle
from tests.software_plans import GPU, add_plan, manifest_of, software_device

HEIGHT, WIDTH = 64, 64
NOW = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)


def exact(found: Mapping[str, Any], golden: Mapping[str, Any], _: Mapping[str, Any]) -> dict[str, float]:
    return {"largest": max(float(np.abs(found[n].astype(float) - golden[n].astype(float)).max()) for n in golden)}


LOOSE = {role: Comparison(exact, {"largest": 0.1}) for role in ("gate", "segmenter")}
STRICT = {role: Comparison(exact, {"largest": -1.0}) for role in ("gate", "segmenter")}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = make_strip_bundle(tmp_path / "strip", HEIGHT, WIDTH)
    for role, graph in open_bundle(folder).spec.graphs.items():
        file = folder / graph.files["fp16"]
        add_plan(folder, manifest_of(role, file, graph, (HEIGHT, WIDTH), 4), file)
    return folder


def software(flavour: FlavourName, _: EngineSettings) -> Device:
    return software_device(flavour)


def prove(bundle: Path, comparisons: Mapping[str, Comparison]) -> Any:
    return prove_plans(bundle, "tensorrt_rtx", device=software, comparisons=comparisons, now=lambda: NOW)


def open_gate(bundle: Path) -> None:
    graph = open_bundle(bundle).spec.graphs["gate"]
    open_graph(software_device(), bundle / graph.files["fp16"], graph, EngineSettings(4)).close()


def test_a_proven_plan_serves_and_an_unproven_one_does_not(bundle: Path) -> None:
    with pytest.raises(EngineError, match=r"was not measured on this GPU.*Run: ferrosight parity"):
        open_gate(bundle)
    proofs = prove(bundle, LOOSE)
    assert [proof.holds for proof in proofs] == [True, True]
    open_gate(bundle)


def test_what_was_measured_lies_beside_the_manifest(bundle: Path) -> None:
    spec = (bundle / "spec.json").read_bytes()
    prove(bundle, LOOSE)
    assert (bundle / "spec.json").read_bytes() == spec  # a bundle is the same on every GPU
    for manifest in read_plans(bundle, open_bundle(bundle).spec).values():
        record = read_record(bundle, manifest, GPU)
        assert record is not None
        assert record.plan_sha256 == open_bundle(bundle).spec.files[manifest.plan_file]
        assert (record.gpu, record.version, record.frames) == (GPU, "1.7.1.116", 3)
        assert record.measured_at == "2024-05-01T12:00:00+00:00"
        assert [result.backend for result in record.results] == ["tensorrt_rtx"]


def test_a_figure_beyond_its_limit_is_kept_and_keeps_the_plan_out(bundle: Path) -> None:
    assert not any(proof.holds for proof in prove(bundle, STRICT))
    with pytest.raises(EngineError, match=r"parity fails: found largest .* of gate, expected at most -1"):
        open_gate(bundle)


def test_every_profile_is_measured_in_the_batch_that_it_is_tuned_for(tmp_path: Path) -> None:
    """Golden frames are few and batches large; still a profile whose kernels are wrong does not come through."""
    folder = make_strip_bundle(tmp_path / "strip", HEIGHT, WIDTH)
    graph = open_bundle(folder).spec.graphs["gate"]
    file = folder / graph.files["fp16"]
    manifest = manifest_of("gate", file, graph, (HEIGHT, WIDTH), (1, 4, 8))
    devices: list[Device] = []

    def kept(flavour: FlavourName, _: EngineSettings) -> Device:
        devices.append(software_device(flavour))
        return devices[-1]

    add_plan(folder, manifest, file)
    (proof,) = prove_plans(folder, "tensorrt_rtx", device=kept, comparisons=LOOSE)
    assert (proof.holds, proof.record.frames, len(proof.record.results)) == (True, 3, 1)
    ran = [shape[0] for device in devices for context in device.trt.contexts for shape in context.ran]
    assert {1, 4, 8} <= set(ran)
    for number in range(3):
        add_plan(folder, manifest, file, spoilt_profile=number)
        (proof,) = prove_plans(folder, "tensorrt_rtx", device=software, comparisons=LOOSE)
        assert not proof.holds


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plan_sha256": "0" * 64}, "measured of another plan"),
        ({"golden_sha256": "0" * 64}, "with other golden frames"),
        ({"version": "1.6"}, "measured on Software GPU with 1.6"),
        ({"gpu": {"name": "Software GPU", "capability": "9.0"}}, "measured on Software GPU with"),
    ],
)
def test_a_record_of_something_else_does_not_count(bundle: Path, change: dict[str, Any], words: str) -> None:
    prove(bundle, LOOSE)
    (manifest, *_) = read_plans(bundle, open_bundle(bundle).spec).values()
    assert manifest.role == "gate"
    path = bundle / record_file(manifest, GPU)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(EngineError, match=words):
        open_gate(bundle)
    path.write_text("{}")
    with pytest.raises(BundleError, match="not a valid record of parity"):
        open_gate(bundle)


def test_the_strips_own_comparison_holds_on_a_device_that_computes_right(bundle: Path) -> None:
    proofs = prove_plans(bundle, "tensorrt_rtx", device=software, comparisons=comparisons_of(open_bundle(bundle).spec))
    assert all(proof.holds for proof in proofs)
    assert {result.graph for proof in proofs for result in proof.record.results} == {"gate", "segmenter"}


def test_a_bundle_without_a_plan_for_this_machine_says_how_to_build_one(tmp_path: Path) -> None:
    bundle = make_strip_bundle(tmp_path / "bare", HEIGHT, WIDTH)
    with pytest.raises(EngineError, match=r"found no plan in .*Run: ferrosight build .* --backend tensorrt_rtx"):
        prove(bundle, LOOSE)


def test_an_unknown_task_is_named(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"the task 'welding' that gives .*expected one of .*crack, fracture"):
        comparisons_of(open_bundle(bundle).spec.model_copy(update={"task": "welding"}))


@pytest.mark.parametrize("task", [grain.TASK, grain.CLASSES_TASK], ids=["number", "grades"])
def test_the_two_kinds_of_grain_bundles_are_told_apart_by_what_they_give(task: ExportTask, bundle: Path) -> None:
    spec = open_bundle(bundle).spec
    outputs = tuple(
        TensorSpec(name=each.name, dtype=each.dtype, shape=each.shape) for each in task.graphs["model"].outputs
    )
    graph = spec.graphs["gate"].model_copy(update={"outputs": outputs})
    found = comparisons_of(spec.model_copy(update={"task": "grain", "graphs": {"model": graph}}))
    assert found["model"] is task.graphs["model"].comparison
