"""The compact network in tiles says what it says of the whole picture, to the last bit that a sum of floats has."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from runtime.errors import ConfigError
from runtime.tiling import cut_tiles, plan_tiles, stitch
from train.models import build, count_parameters
from train.models.phase_compact import RADIUS_PX, STRIDE_PX


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    made = build("phase", "unet-narrow", classes=2).eval()
    for module in made.modules():
        if isinstance(module, nn.Conv2d):  # as large as ReLU needs: else far pixels would say next to nothing
            nn.init.kaiming_normal_(module.weight)
    return made


def test_it_is_small() -> None:
    assert count_parameters(build("phase", "unet-narrow", classes=2)) == 266_408


@settings(max_examples=8, deadline=None)
@given(st.integers(100, 330), st.integers(100, 330), st.integers(0, 2**32 - 1))
def test_tiles_with_overlap_give_the_whole(network: torch.nn.Module, height: int, width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    plan = plan_tiles((height, width), 2 * RADIUS_PX + 8 * STRIDE_PX, RADIUS_PX, STRIDE_PX)
    with torch.inference_mode():
        whole = network(torch.from_numpy(picture)[None, None]).logits[0, 1].numpy()
        tiles = [network(torch.from_numpy(tile)[None]).logits[0, 1].numpy() for tile in cut_tiles(picture, plan)]
    np.testing.assert_allclose(stitch(iter(tiles), plan, np.float32), whole, rtol=0, atol=1e-4)


def test_less_overlap_than_the_radius_does_not(network: torch.nn.Module) -> None:
    """The property above could not fail if the network saw no farther than a few pixels."""
    picture = np.random.default_rng(1).integers(0, 256, (300, 300), dtype=np.uint8)
    plan = plan_tiles((300, 300), 128, STRIDE_PX, STRIDE_PX)
    with torch.inference_mode():
        whole = network(torch.from_numpy(picture)[None, None]).logits[0, 1].numpy()
        tiles = [network(torch.from_numpy(tile)[None]).logits[0, 1].numpy() for tile in cut_tiles(picture, plan)]
    assert np.abs(stitch(iter(tiles), plan, np.float32) - whole).max() > 1e-2


def test_a_bad_number_of_phases_is_refused() -> None:
    with pytest.raises(ConfigError, match="unet-narrow"):
        build("phase", "unet-narrow", classes=1)
