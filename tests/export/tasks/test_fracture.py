"""The fracture export: the interval that a bundle promises, and a bundle that the line opens."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from export.assemble import assemble, open_runs
from export.tasks import export_task
from export.tasks.base import Choices
from export.tasks.fracture import LIMITS, compare, golden_frames, least_specimens, slope_asked, tolerance_limit
from runtime.bundle import open_bundle
from runtime.engine import EngineSettings
from runtime.errors import BundleError
from runtime.heads.fracture import open_pipeline, settings_of
from train.models import build, count_parameters
from train.recipe import Recipe
from train.run_folder import RunFolder, RunRecord


@settings(max_examples=60, deadline=None)
@given(error=st.floats(0, 30), doubt=st.floats(0.1, 30), floor=st.floats(0.3, 5))
def test_the_slope_asked_holds_the_error_and_what_parity_allows(error, doubt, floor):
    slope = slope_asked(error, doubt, floor)
    assert floor + slope * doubt >= error + LIMITS["part_points"] - 1e-6


def test_a_tolerance_limit_keeps_its_word():
    """Of many sets of 79 specimens, nine in ten give a limit that holds 95 % of all."""
    rng = np.random.default_rng(1)
    limits = np.array([tolerance_limit(rng.exponential(1.0, 79).tolist()) for _ in range(300)])
    held = 1.0 - np.exp(-limits)
    assert np.mean(held >= 0.95) >= 0.87
    assert np.mean(held) < 0.99


def test_too_few_values_have_no_limit():
    assert tolerance_limit([0.1] * (least_specimens() - 1)) is None
    assert tolerance_limit([0.1] * least_specimens()) == 0.1


def test_differences_are_in_points():
    torch_said = {"brittle_ratio": np.array([0.5]), "activation": np.full((1, 3, 6), 0.5)}
    found = {"brittle_ratio": np.array([0.504]), "activation": np.full((1, 3, 6), 0.5)}
    found["activation"][:, :, 2:4] = 0.51
    assert compare(found, torch_said, {}) == pytest.approx(
        {"ratio_points": 0.4, "part_points": 1.0, "map_points": 1.0 / 3.0}
    )
    assert compare(found | {"brittle_ratio": np.array([np.nan])}, torch_said, {})["ratio_points"] == float("inf")


def test_golden_specimens_show_both_kinds_and_their_mixture():
    frames = golden_frames(3, (96, 128))
    assert frames.shape == (3, 1, 96, 128)
    assert frames.dtype == np.uint8


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of fresh weights; nothing needs to be learnt."""
    torch.manual_seed(0)
    model = build("fracture", "vgg8-cells")
    data = {"kind": "synthetic-fracture", "train_specimens": 2, "validation_specimens": 48}
    recipe = Recipe.model_validate(
        {
            "task": "fracture",
            "variant": "compact",
            "model": {"architecture": "vgg8-cells"},
            "data": {**data, "height_px": 72, "width_px": 100},
            "phases": [{"epochs": 1, "loss": "classmap", "batch": 1}],
        }
    )
    record = RunRecord(
        task="fracture", role="model", architecture="vgg8-cells", variant="compact", classes=("brittle",),
        parameters=count_parameters(model), weights_from={}, data_digest="d" * 64, git_commit="c" * 40,
        created_at="2024-01-01T00:00:00+00:00", versions={}, device="cpu", precision="32-true",
        command="ferrosight train", best={"average_error": 0.5},
    )  # fmt: skip
    folder = RunFolder(tmp_path_factory.mktemp("run") / "fracture")
    folder.create(recipe, record)
    folder.save_weights("best", model.eval())
    return folder.path


def choices(tmp_path, **changes):
    return Choices(golden_frames=2, cache=tmp_path / "cache", **changes)


def test_a_bundle_that_the_line_opens(run, tmp_path):
    """Free height and width: the graph gives the ratio of a picture of any size, and torch's own."""
    task, trained = open_runs([run], choices(tmp_path))
    assert task is export_task("fracture")
    assemble(task, trained, tmp_path / "bundle", choices(tmp_path, ship=True))
    bundle = open_bundle(tmp_path / "bundle")
    assert settings_of(bundle.spec).cell_px == 8
    assert bundle.spec.graphs["model"].input.shape == ("N", 1, "H", "W")
    assert sum(path.stat().st_size for path in bundle.path.iterdir()) < 4e6
    shape = (61, 93)
    frames = np.random.default_rng(1).integers(0, 256, (1, 1, *shape), dtype=np.uint8)
    with torch.inference_mode():
        truth = trained["model"].network(torch.from_numpy(frames))
    with open_pipeline(bundle, "onnxruntime", EngineSettings(1, 1, *shape)) as pipeline:
        pending = pipeline.start(frames)
        pipeline.advance(pending)
        (raw,) = pipeline.finish(pending)
        assert raw["activation"].shape == (8, 12)
        np.testing.assert_allclose(raw["activation"], truth.activation[0], atol=0.02)
        assert float(raw["brittle_ratio"]) == pytest.approx(float(truth.ratio.clamp(0, 1)), abs=0.003)
        pipeline.release(pending)


def test_too_few_specimens_promise_nothing(run, tmp_path):
    task, trained = open_runs([run], choices(tmp_path))
    with pytest.raises(BundleError, match="found 2 validation specimens, expected 45 or more"):
        assemble(task, trained, tmp_path / "bundle", choices(tmp_path, validation_frames=2))
