"""A task that this repository does not have, from a tiny network to a bundle: what a module must give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.assemble import EMULATED, assemble, open_runs
from export.parity import Comparison
from export.tasks import TASKS, export_task, trained_tasks
from export.tasks.base import MODEL, Choices, ExportTask, GraphEnd, Output, Report, TaskChoices, levels_of
from export.trained import TrainedGraph
from runtime.backends import open_engine
from runtime.bundle import GOLDEN_FILE, open_bundle
from runtime.engine import EngineSettings
from runtime.errors import BundleError, ConfigError
from runtime.golden.frames import largest
from runtime.spec import Arithmetic, Strict
from tests.export.graphs import noise, seeded


class RustOutput(NamedTuple):
    logits: Tensor


class RustNetwork(nn.Module):
    """How much of a plate has rusted, and where: a map of half the frame's size."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))

    def forward(self, frames: Tensor) -> RustOutput:
        return RustOutput(self.layers((frames.float() - 114.5) / 57.6))


class RustChoices(TaskChoices):
    alarm_ratio: float = 0.5


class RustSettings(Strict):
    alarm_ratio: float
    trained_on: tuple[str, ...]


def finish(output: RustOutput) -> tuple[Tensor, ...]:
    probability = output.logits.float().sigmoid()
    return probability.mean((1, 2, 3)), levels_of(probability)


def compare(
    found: Mapping[str, NDArray[Any]], torch_gave: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]
) -> dict[str, float]:
    points = 100.0 * np.abs(found["rust_ratio"] - torch_gave["rust_ratio"])
    differing = np.abs(found["rust_map"].astype(int) - torch_gave["rust_map"])
    sides = (found["rust_ratio"] > settings["alarm_ratio"]) != (torch_gave["rust_ratio"] > settings["alarm_ratio"])
    return {"ratio_points": largest(points), "map_levels": largest(differing), "alarms": float(sides.sum())}


def settings(trained: Mapping[str, TrainedGraph], own: RustChoices, choices: Choices, report: Report) -> RustSettings:
    report("thinking", 1, 1)
    return RustSettings(alarm_ratio=own.alarm_ratio, trained_on=trained[MODEL].class_names)


RUST = ExportTask(
    name="rust",
    graphs={
        MODEL: GraphEnd(
            outputs=(Output("rust_ratio", "float32", ("N",)), Output("rust_map", "uint8", ("N", "C", "h", "w"))),
            finish=finish,
            comparison=Comparison(
                compare, {"ratio_points": 0.5, "map_levels": 16.0, "alarms": 0.0}, {"ratio_points": 0.01}
            ),
        )
    },
    choices=RustChoices,
    settings=settings,
    golden=lambda count, size_px: noise(count, *size_px),
    golden_size_px=(48, 80),
    free_size=True,
)


def trained(network: nn.Module) -> dict[str, TrainedGraph]:
    return {
        MODEL: TrainedGraph(
            task="rust",
            role=MODEL,
            network=network,
            architecture="rustnet",
            variant="compact",
            parameters=sum(each.numel() for each in network.parameters()),
            class_names=("rust",),
            recipe={"task": "rust"},
            data_digest="d" * 64,
            git_commit="c" * 40,
            metrics={"aae": 0.01},
            data_size_px=(64, 64),
        )
    }


def a_day() -> datetime:
    return datetime(2024, 5, 1, tzinfo=timezone.utc)


CHOICES = Choices(golden_frames=3, golden_kept=2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rust") / "rust"
    assemble(RUST, trained(seeded(RustNetwork())), out, CHOICES, {"alarm_ratio": 0.9}, now=a_day)
    return out


def test_the_bundle_says_what_the_module_gave(exported: Path) -> None:
    spec = open_bundle(exported).spec
    graph = spec.graphs[MODEL]
    assert (spec.name, spec.task) == ("rust", "rust")
    assert spec.settings == {"alarm_ratio": 0.9, "trained_on": ["rust"]}
    assert graph.files == {"fp32": "model.fp32.onnx", "fp16": "model.fp16.onnx"}
    assert graph.input.shape == ("N", 1, "H", "W")
    assert [(each.name, each.dtype, each.shape) for each in graph.outputs] == [
        ("rust_ratio", "float32", ("N",)),
        ("rust_map", "uint8", ("N", 1, "h", "w")),
    ]
    assert spec.provenance.metrics == {"model.aae": 0.01}
    assert spec.provenance.created_at == "2024-05-01T00:00:00+00:00"
    assert spec.provenance.recipe["export"]["alarm_ratio"] == 0.9


def test_every_file_was_compared_in_the_tasks_units(exported: Path) -> None:
    parity = open_bundle(exported).parity
    assert {(each.precision, each.backend) for each in parity.results} == {
        (precision, backend) for precision in ("fp32", "fp16") for backend in ("openvino", "onnxruntime")
    } | {("fp16", EMULATED)}
    assert {each.figure: each.limit for each in parity.results if each.precision == "fp16"} == parity.limits
    assert {each.limit for each in parity.results if each.precision == "fp32" and each.figure == "ratio_points"} == {
        0.01
    }


def test_any_size_runs_and_golden_frames_are_kept(exported: Path) -> None:
    bundle = open_bundle(exported)
    with np.load(exported / GOLDEN_FILE) as golden:
        assert golden["frames"].shape == (2, 1, 48, 80)
        assert golden["model.rust_map"].shape == (2, 1, 24, 40)
    opened = EngineSettings(max_batch=2, slots=1, height_px=31, width_px=77)
    with open_engine("onnxruntime", bundle.model_file(MODEL, "fp32"), bundle.spec.graphs[MODEL], opened) as engine:
        ticket = engine.submit(noise(1, 31, 77))
        assert engine.collect(ticket)["rust_map"].shape == (1, 1, 16, 39)


def test_a_graph_that_fails_at_an_odd_size_alone_is_refused(tmp_path: Path) -> None:
    class Even(RustNetwork):
        """Says another ratio of frames of an odd width than of the same frames inside the graph."""

        def forward(self, frames: Tensor) -> RustOutput:
            logits = super().forward(frames).logits
            odd = frames.shape[-1] % 2
            return RustOutput(logits if torch.compiler.is_compiling() or not odd else logits - 6.0)

    with pytest.raises(BundleError, match=r"parity of model .*: found ratio_points"):
        assemble(RUST, trained(seeded(Even())), tmp_path / "rust", CHOICES)
    assert not (tmp_path / "rust").exists()


def test_a_size_may_be_fixed(tmp_path: Path) -> None:
    bundle = assemble(
        RUST, trained(seeded(RustNetwork())), tmp_path / "rust", replace(CHOICES, size_px=(32, 64), ship=True)
    )
    assert bundle.spec.graphs[MODEL].input.shape == ("N", 1, 32, 64)
    assert bundle.spec.graphs[MODEL].outputs[1].shape == ("N", 1, 16, 32)
    assert list(bundle.spec.graphs[MODEL].files) == ["fp16"]


@pytest.mark.parametrize("asked", ["backend", "fp32"])
def test_a_person_may_say_in_what_a_cpu_computes(tmp_path: Path, asked: Arithmetic) -> None:
    choices = replace(CHOICES, size_px=(32, 64), ship=True, arithmetic=asked)
    bundle = assemble(RUST, trained(seeded(RustNetwork())), tmp_path / "rust", choices)
    assert bundle.spec.graphs[MODEL].arithmetic == asked


def test_a_choice_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="export of rust: --set: unknown key 'recall', Known: alarm_ratio"):
        assemble(RUST, trained(seeded(RustNetwork())), tmp_path / "rust", CHOICES, {"recall": 0.9})


def test_every_module_of_the_table_is_a_task() -> None:
    for name in TASKS:
        task = export_task(name)
        assert name in trained_tasks(task)
        for role, end in task.graphs.items():
            assert all(output.shape[0] == "N" for output in end.outputs)
            assert set(end.comparison.fp32_limits) <= set(end.comparison.limits), role
        frames = task.golden(2, task.golden_size_px)
        assert (frames.shape, frames.dtype) == ((2, 1, *task.golden_size_px), np.uint8)


def test_a_task_without_a_module_is_refused() -> None:
    with pytest.raises(BundleError, match=r"found a run of the task 'rust', expected one of .*strip-gate"):
        export_task("rust")


def test_no_runs_make_no_bundle() -> None:
    with pytest.raises(BundleError, match="found runs of no task, expected runs of one task"):
        open_runs([], CHOICES)


def test_the_recipe_of_a_bundle_is_json(exported: Path) -> None:
    assert json.loads(open_bundle(exported).spec.to_json())["provenance"]["recipe"]["model"] == {"task": "rust"}
