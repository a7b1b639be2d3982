"""The boundary export: levels inside the graph, parity of lines, thresholds by validation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.tasks import export_task
from export.tasks.base import MODEL, Choices
from export.tasks.boundary import FP32_LIMITS, LIMITS, BoundaryChoices, compare, finish
from export.trained import TrainedGraph
from runtime.errors import BundleError, ConfigError
from runtime.heads.boundary import BoundarySettings
from train.models import BoundaryOutput

SETTINGS = {"certain": 0.5, "faint": 0.3, "min_length_px": 5, "min_grain_px": 4}


def net(step_px: int, shift_px: int = 0) -> np.ndarray:
    """(1, 1, 120, 120) uint8: a net of lines 3 px wide."""
    level = np.zeros((1, 1, 120, 120), np.uint8)
    for offset in range(3):
        level[..., step_px // 2 + shift_px + offset :: step_px, :] = 255
        level[..., step_px // 2 + shift_px + offset :: step_px] = 255
    return level


def figures_of(found: np.ndarray, truth: np.ndarray):
    return compare({"boundary_probability": found}, {"boundary_probability": truth}, SETTINGS)


def test_the_output_is_the_sigmoid_in_levels():
    (levels,) = finish(BoundaryOutput(torch.tensor([[[[-20.0, 0.0, 20.0]]]])))
    assert levels.dtype == torch.uint8
    assert levels.flatten().tolist() == [0, 128, 255]


def test_the_same_is_no_difference():
    none = {"level_mean_abs": 0.0, "line_loss": 0.0, "intercept_percent": 0.0}
    assert figures_of(net(20), net(20)) == none
    assert figures_of(np.zeros_like(net(20)), np.zeros_like(net(20))) == none


def test_lines_elsewhere_and_lines_lost_are_seen():
    moved = figures_of(net(20, 4), net(20))
    assert moved["line_loss"] > 0.5
    lost = figures_of(net(40), net(20))
    assert lost["intercept_percent"] > 50.0
    assert figures_of(net(20), np.zeros_like(net(20)))["line_loss"] == 1.0
    assert all(FP32_LIMITS[name] <= LIMITS[name] for name in lost)


class Darkness(torch.nn.Module):
    """Dark is boundary, but never more likely than 0.7."""

    def forward(self, frames: torch.Tensor) -> BoundaryOutput:
        return BoundaryOutput((0.7 - 0.7 * frames.float() / 255.0).clamp(1e-3).logit())


def trained(**data: object) -> TrainedGraph:
    table = {"kind": "synthetic-grain", "train_per_grade": 1, "validation_per_grade": 1, "grades": [6.0], **data}
    recipe = {
        "task": "boundary",
        "variant": "compact",
        "model": {"architecture": "unet-folded"},
        "data": {"height_px": 128, "width_px": 160, **table},
        "phases": [{"epochs": 1, "loss": "bce", "batch": 1, "crops": [[64, 64]]}],
    }
    return TrainedGraph(
        task="boundary", role=MODEL, network=Darkness().eval(), architecture="darkness", variant="compact",
        parameters=0, class_names=("boundary",), recipe=recipe, data_digest="0" * 64, git_commit="0" * 40,
        metrics={}, data_size_px=None,
    )  # fmt: skip


def choose(own: BoundaryChoices, cache: Path) -> BoundarySettings:
    settings = export_task("boundary").settings({MODEL: trained()}, own, Choices(cache=cache), lambda *_: None)
    assert isinstance(settings, BoundarySettings)
    return settings


def test_thresholds_are_chosen_where_the_network_finds_anything(tmp_path: Path):
    chosen = choose(BoundaryChoices(), tmp_path)
    assert chosen.faint <= chosen.certain <= 0.7


def test_a_person_chooses_both_thresholds_or_none(tmp_path: Path):
    assert choose(BoundaryChoices(certain=0.6, faint=0.2), tmp_path).faint == 0.2
    with pytest.raises(ConfigError, match="expected both or none"):
        choose(BoundaryChoices(certain=0.6), tmp_path)


def test_without_validation_pictures_somebody_must_choose(tmp_path: Path):
    task = export_task("boundary")
    with pytest.raises(BundleError, match="found no validation pictures"):
        task.settings({MODEL: trained()}, BoundaryChoices(), Choices(cache=tmp_path, validation_frames=0), print)
