"""The whole export, from two run folders to a bundle that the line opens, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export.assemble import EMULATED
from export.cli import app
from runtime.bundle import GOLDEN_FILE, Bundle, open_bundle
from runtime.errors import BundleError, ConfigError
from runtime.heads.strip import settings_of
from runtime.spec import ModelSpec
from train.models import ARCHITECTURES, build, count_parameters
from train.recipe import Recipe
from train.run_folder import RunFolder, RunRecord

CLASSES = ("pitting", "inclusion", "scratch", "corrosion")
HEIGHT, WIDTH = 96, 160
DATA = {
    "kind": "synthetic",
    "train_strips": 1,
    "validation_strips": 2,
    "frames_per_strip": 10,
    "height_px": HEIGHT,
    "width_px": WIDTH,
}
COMPACT = {
    role: next(name for name, each in ARCHITECTURES[role].items() if each.variant == "compact")
    for role in ("gate", "segmenter")
}


def make_run(folder: Path, role: str) -> Path:
    """A run folder with fresh weights whose last bias makes every decision a clear one: nothing needs to be learnt."""
    torch.manual_seed(0)
    model = build(role, COMPACT[role], classes=len(CLASSES) if role == "segmenter" else 1)  # type: ignore[arg-type]
    last = [each for each in model.modules() if isinstance(getattr(each, "bias", None), torch.nn.Parameter)][-1]
    sides = torch.tensor([4.0] if role == "gate" else [-4.0, 4.0, -4.0, -4.0])
    last.bias.data = sides.repeat_interleave(last.bias.numel() // len(sides))  # type: ignore[union-attr, operator]
    last.weight.data *= 0.05  # type: ignore[operator]
    recipe = Recipe.model_validate(
        {
            "task": f"strip-{role}",
            "variant": "compact",
            "model": {"architecture": COMPACT[role]},
            "data": DATA,
            "phases": [{"epochs": 1, "loss": "bce", "batch": 2}],
        }
    )
    record = RunRecord(
        task=recipe.task,
        role=role,  # type: ignore[arg-type]
        architecture=recipe.model.architecture,
        variant="compact",
        classes=CLASSES,
        parameters=count_parameters(model),
        weights_from={},
        data_digest="d" * 64,
        git_commit="c" * 40,
        created_at="2024-01-01T00:00:00+00:00",
        versions={},
        device="cpu",
        precision="32-true",
        command="ferrosight train",
        best={"dice": 0.5},
    )
    writer = RunFolder(folder)
    writer.create(recipe, record)
    writer.save_weights("best", model.eval())
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / role, role) for role in ("segmenter", "gate")]  # either order will do


@pytest.fixture(scope="module")
def exported(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("export")
    arguments = ["export", *map(str, runs), "--out", str(folder / "tiny-strip"), "--ship", "--json"]
    arguments += ["--golden-frames", "3", "--golden-kept", "2", "--validation-frames", "8", "--set", "recall=0.9"]
    result = CliRunner().invoke(app, [*arguments, "--cache", str(folder / "cache")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return open_bundle(folder / "tiny-strip"), json.loads(result.stdout)


def test_the_bundle_is_a_strip_cascade(exported: tuple[Bundle, dict[str, Any]]) -> None:
    bundle, said = exported
    spec: ModelSpec = bundle.spec
    assert (spec.name, spec.task) == ("tiny-strip", "strip")
    settings = settings_of(spec)
    assert settings.class_names == CLASSES
    assert said["settings"] == spec.settings
    assert said["digest"] == bundle.digest
    for role, architecture in COMPACT.items():
        graph = spec.graphs[role]
        assert graph.architecture == architecture
        assert graph.files == {"fp16": f"{role}.fp16.onnx"}
        assert graph.input.shape == ("N", 1, HEIGHT, WIDTH)
    assert spec.provenance.git_commit == "c" * 40
    assert spec.provenance.metrics == {"gate.dice": 0.5, "segmenter.dice": 0.5}
    assert spec.provenance.recipe["gate"]["task"] == "strip-gate"
    assert spec.provenance.recipe["export"]["fp32_nodes"] == {"gate": [], "segmenter": []}


def test_every_file_was_compared_everywhere(exported: tuple[Bundle, dict[str, Any]]) -> None:
    results = exported[0].parity.results
    assert {(each.graph, each.backend) for each in results} == {
        (role, backend) for role in COMPACT for backend in ("openvino", "onnxruntime", EMULATED)
    }
    assert all(each.holds for each in results)


def test_golden_frames_are_synthetic_and_few(exported: tuple[Bundle, dict[str, Any]]) -> None:
    with np.load(exported[0].path / GOLDEN_FILE) as arrays:
        assert arrays["frames"].shape == (2, 1, HEIGHT, WIDTH)
        assert arrays["segmenter.class_probability"].shape == (2, 4, HEIGHT, WIDTH)
        assert arrays["gate.defect_probability"].min() > 0.9


def test_two_gates_are_no_cascade(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"found runs of gate, gate, expected one of each of gate, segmenter\. Give"
    ) as said:
        export_command(runs[1], runs[1], "--out", tmp_path / "bundle")
    assert "one of 'train strip-gate' and one of 'train strip-segmenter'" in str(said.value)


def test_a_choice_that_the_task_does_not_have_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="export of strip: --set: unknown key 'recal', did you mean 'recall'"):
        export_command(*runs, "--out", tmp_path / "bundle", "--set", "recal=0.9")


def test_a_size_that_is_none_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--size is '96', expected HEIGHTxWIDTH"):
        export_command(*runs, "--out", tmp_path / "bundle", "--size", "96")


def export_command(*arguments: object) -> None:
    CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
