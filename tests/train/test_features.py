"""Features of grain networks on their principal axes."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

from runtime.errors import ConfigError
from train.datasets import Sample
from train.features import draw_features, principal_axes, rank_correlation, read_features
from train.models import build


class Noise:
    """Four pictures of noise."""

    def sample(self, index: int) -> Sample:
        pixels = np.random.default_rng(index).integers(0, 255, (64, 96), dtype=np.uint8)
        return Sample(str(index), pixels, np.zeros((1, 64, 96), bool), MappingProxyType({"grain_number": float(index)}))


def test_axes_are_those_along_which_points_differ_most():
    rng = np.random.default_rng(1)
    along = rng.normal(0, 5, 200)
    points = np.stack((along, rng.normal(0, 1, 200), rng.normal(0, 0.1, 200)), axis=1) + 7
    axes = principal_axes(points)
    assert abs(axes.axes[0, 0]) > 0.99
    assert abs(axes.axes[0] @ axes.axes[1]) < 1e-9
    assert axes.explained_ratio[0] > 0.9
    assert axes.place(points).mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert abs(rank_correlation(axes.place(points)[:, 0], along)) > 0.99
    with pytest.raises(ConfigError, match="found 2 pictures"):
        principal_axes(points[:2])


@pytest.mark.parametrize(("architecture", "width"), [("resnet12-cells", 136), ("resnet18-ext", 256)])
def test_features_are_what_the_last_layer_is_given(architecture: str, width: int):
    model = build("grain", architecture).eval()
    features, numbers = read_features(model, Noise(), range(4), torch.device("cpu"))  # type: ignore[arg-type]
    assert features.shape == (4, width)
    assert numbers.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert len(np.unique(features.sum(axis=1))) == 4


def test_the_picture_holds_both_parts(tmp_path: Path):
    rng = np.random.default_rng(2)
    numbers = np.arange(10.0)
    features = numbers[:, None] * rng.normal(1, 0.1, 6) + rng.normal(0, 0.05, (10, 6))
    correlation = draw_features((features, numbers), (features + 0.1, numbers), "test", tmp_path / "a" / "features.png")
    assert correlation > 0.95
    assert (tmp_path / "a" / "features.png").stat().st_size > 5_000
