"""The phase export: labels inside the graph, parity in points and pixels, and how a network may be cut."""

import math

import numpy as np
import pytest
import torch

from export.tasks import export_task
from export.tasks.base import MODEL, Choices
from export.tasks.phase import PhaseChoices, compare, finish, golden_frames
from export.trained import TrainedGraph
from runtime.heads.phase import PhaseSettings
from runtime.label_scores import LabelScores
from train.models import PhaseOutput, build, count_parameters
from train.models.phase_compact import RADIUS_PX, STRIDE_PX

NAMES = {"phase_names": ["ferrite", "pearlite"]}


def trained(architecture: str) -> dict[str, TrainedGraph]:
    network = build("phase", architecture, classes=2).eval()
    return {
        MODEL: TrainedGraph(
            task="phase",
            role=MODEL,
            network=network,
            architecture=architecture,
            variant="compact",
            parameters=count_parameters(network),
            class_names=("ferrite", "pearlite"),
            recipe={"task": "phase"},
            data_digest="d" * 64,
            git_commit="c" * 40,
            metrics={},
            data_size_px=None,
        )
    }


def settings_for(architecture: str, **own: object) -> PhaseSettings:
    chosen = export_task("phase").settings(
        trained(architecture), PhaseChoices.model_validate(own), Choices(), lambda *_: None
    )
    assert isinstance(chosen, PhaseSettings)
    return chosen


def test_the_label_is_the_highest_logit() -> None:
    logits = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    (labels,) = finish(PhaseOutput(logits.half()))
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), logits.half().float().argmax(dim=1))


def test_differences_are_in_points_and_pixels() -> None:
    truth = np.zeros((2, 10, 20), np.uint8)
    found = truth.copy()
    found[0, 0, :4] = 1
    assert compare({"phase": found}, {"phase": truth}, NAMES) == pytest.approx(
        {"fraction_points": 2.0, "pixel_disagreement": 0.01}
    )
    assert compare({"phase": truth}, {"phase": truth}, NAMES) == {"fraction_points": 0.0, "pixel_disagreement": 0.0}


def test_errors_that_cancel_are_still_pixels() -> None:
    truth = np.zeros((1, 10, 10), np.uint8)
    truth[0, :5] = 1
    figures = compare({"phase": 1 - truth}, {"phase": truth}, NAMES)
    assert figures == {"fraction_points": 0.0, "pixel_disagreement": 1.0}


def test_golden_micrographs_are_steels_of_all_kinds() -> None:
    frames = golden_frames(3, (64, 80))
    assert (frames.shape, frames.dtype) == ((3, 1, 64, 80), np.uint8)
    assert len({frame.tobytes() for frame in frames}) == 3


def test_a_network_that_sees_no_farther_than_is_known_may_be_cut() -> None:
    chosen = settings_for("unet-narrow", tile_px=512, field_px=100)
    assert (chosen.tile_px, chosen.radius_px, chosen.stride_px) == (512, RADIUS_PX, STRIDE_PX)
    assert chosen.field_px == 100
    assert chosen.phase_names == ("ferrite", "pearlite")
    assert settings_for("unet-narrow", tile_px=None).tile_px is None


def test_another_is_never_cut() -> None:
    assert settings_for("unet", tile_px=512).tile_px is None


def test_a_difference_at_its_limit_hardly_moves_the_figures() -> None:
    """The limit of parity in the units of the judge: two pixels of a thousand cost less than half a point of IoU."""
    rng = np.random.default_rng(1)
    truth = (rng.random((400, 400)) < 0.4).astype(np.uint8)
    found = np.where(rng.random(truth.shape) < 0.002, 1 - truth, truth)
    scores = LabelScores(("ferrite", "pearlite"))
    scores.add(found, truth)
    assert math.isclose(scores.figures()["mean_iou"], 1.0, abs_tol=0.005)
