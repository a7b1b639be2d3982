"""The last layer solved on whole pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.errors import ConfigError
from train.refit import fit_linear


def test_a_linear_truth_is_found_and_noise_is_shrunk():
    rng = np.random.default_rng(1)
    features = rng.normal(0, 1, (120, 6)) * [1, 1, 1, 1, 1, 0] + 3  # the last one is always the same
    numbers = features @ np.array([2.0, -1.0, 0.5, 0.0, 0.0, 0.0]) + 4.0
    exact = fit_linear(features, numbers)
    assert np.abs(features @ exact.weight + exact.bias - numbers).max() < 0.05
    useless = fit_linear(features, rng.normal(8, 1, 120))
    assert useless.ridge > exact.ridge
    assert np.abs(useless.weight).max() < 0.2
    assert np.abs(useless.left_out_errors).mean() < 0.9


def test_left_out_errors_are_those_of_fits_without_the_picture():
    rng = np.random.default_rng(2)
    features, numbers = rng.normal(0, 1, (30, 4)), rng.normal(8, 2, 30)
    whole = fit_linear(features, numbers)
    scale = features.std(axis=0)
    for index in (0, 7, 29):
        others = np.delete(np.arange(30), index)
        x = features / scale
        centred = x[others] - x[others].mean(axis=0)
        weight = np.linalg.solve(
            centred.T @ centred + whole.ridge * np.eye(4), centred.T @ (numbers[others] - numbers[others].mean())
        )
        found = (x[index] - x[others].mean(axis=0)) @ weight + numbers[others].mean()
        assert found - numbers[index] == pytest.approx(whole.left_out_errors[index], abs=0.02)


def test_too_few_pictures_are_refused():
    with pytest.raises(ConfigError, match="found 3 pictures"):
        fit_linear(np.zeros((3, 2)), np.zeros(3))


def test_a_run_is_refitted_on_its_own_training_pictures(tmp_path: Path):
    from train.recipe import Recipe
    from train.refit import refit_run
    from train.run_folder import RunFolder, load_run
    from train.session import Machine, train_run
    from train.tasks import open_dataset

    small = {
        "kind": "synthetic-grain",
        "train_per_grade": 4,
        "validation_per_grade": 2,
        "grades": (6.0, 8.0, 10.0),
        "height_px": 128,
        "width_px": 160,
    }
    recipe = Recipe.model_validate(
        {
            "task": "grain",
            "variant": "compact",
            "model": {"architecture": "resnet12-cells"},
            "data": small,
            "phases": [{"epochs": 1, "loss": "smooth_l1", "batch": 3, "crops": [[96, 96]], "steps": 1}],
        }
    )
    first, second = tmp_path / "first", tmp_path / "second"
    train_run(recipe, RunFolder(first), Machine("cpu"), cache=tmp_path / "cache", command="ferrosight train grain")
    figures = refit_run(first, second, tmp_path / "cache", "ferrosight train refit")
    again = load_run(second, weights="last")
    dataset = open_dataset(recipe, tmp_path / "cache")
    errors = []
    with torch.inference_mode():
        for index in dataset.split["train"]:
            sample = dataset.sample(index)
            number = again.model(torch.from_numpy(np.array(sample.pixels))[None, None]).number
            errors.append(float(number[0]) - sample.figures["grain_number"])
    # The fit has no bias on what it was solved on, whatever the network was before.
    assert np.mean(errors) == pytest.approx(0.0, abs=0.02)
    assert set(figures) >= {"mean_error", "before_mean_error"}
    assert again.record.command == "ferrosight train grain; ferrosight train refit"
    with torch.inference_mode():
        frames = torch.zeros((1, 1, 128, 160), dtype=torch.uint8)
        output = again.model(frames)
    assert float(output.cams.mean()) == pytest.approx(float(output.number[0]), abs=1e-3)
