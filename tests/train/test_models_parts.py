"""What the papers' networks are made of, against torch's own operations and against plain arithmetic."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from train.models import build
from train.models.grain import GradCamHead, pool_to
from train.models.parts import FirstOfBlock, bilinear_upsampler, unpool

sizes = st.integers(1, 9)


@settings(deadline=None)
@given(height=sizes, width=sizes, channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_pooling_by_comparison_is_pooling_by_index(height, width, channels, seed):
    # Few different values, so that many blocks hold their maximum twice.
    x = torch.randint(0, 4, (2, channels, 2 * height, 2 * width), generator=torch.manual_seed(seed)).float()
    wanted, indices = functional.max_pool2d(x, 2, return_indices=True)
    found, places = FirstOfBlock()(x)
    assert torch.equal(found, wanted)
    assert torch.equal(unpool(found + 1, places), functional.max_unpool2d(wanted + 1, indices, 2))


@settings(deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_pooling_by_matrices_is_adaptive_pooling(height, width):
    x = torch.rand((2, 3, height, width))
    torch.testing.assert_close(pool_to(x, (6, 6)), functional.adaptive_avg_pool2d(x, 6))
    torch.testing.assert_close(pool_to(x, (1, 1)), functional.adaptive_avg_pool2d(x, 1))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_an_upsampler_begins_as_bilinear_interpolation(factor):
    x = torch.rand((1, 3, 5, 7))
    found = bilinear_upsampler(3, 3, factor)(x)
    wanted = functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    assert found.shape == wanted.shape
    inside = slice(factor, -factor)  # interpolation repeats the border, a convolution sees zeros there
    torch.testing.assert_close(found[..., inside, inside], wanted[..., inside, inside])


@pytest.mark.parametrize("grid", [(1, 1), (6, 6)])
@pytest.mark.parametrize("widths", [(), (40, 20)])
def test_maps_are_those_of_gradcam_by_a_backward_pass(grid, widths):
    torch.manual_seed(1)
    widths = (8 * grid[0] * grid[1], *widths, 3)
    head = GradCamHead(grid, [torch.nn.Linear(*pair) for pair in itertools.pairwise(widths)]).eval()
    maps = torch.rand((2, 8, 7, 9), requires_grad=True)
    scores, cams = head(maps)
    torch.testing.assert_close(cams.mean((2, 3)), scores)
    for output in range(3):
        (gradient,) = torch.autograd.grad(scores[:, output].sum(), maps, retain_graph=True)
        gradcam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1) * maps[0, 0].numel()
        wanted = gradcam - gradcam.mean((1, 2), keepdim=True)
        found = cams[:, output] - scores[:, output, None, None]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_with_one_layer_a_grain_map_is_that_layer_at_every_place():
    torch.manual_seed(2)
    layer = torch.nn.Linear(8, 3)
    maps = torch.rand((2, 8, 4, 5))
    _, cams = GradCamHead((1, 1), [layer])(maps)
    torch.testing.assert_close(cams, layer(maps.movedim(1, -1)).movedim(-1, 1))


def test_the_brittle_ratio_is_the_mean_of_its_map_and_the_units_bias():
    model = build("fracture", "vr-vgg11").eval()
    torch.nn.init.constant_(model.bias, 0.25)
    with torch.inference_mode():
        ratio, activation = model(torch.randint(0, 256, (2, 1, 64, 96), dtype=torch.uint8))
        features = model.encoder(torch.zeros(1, 3, 64, 96))
    assert activation.shape == (2, 2, 3)  # cells of 32 px
    assert not any(isinstance(layer, torch.nn.MaxPool2d) for layer in model.modules())
    assert features.shape == (1, 512, 2, 3)
    torch.testing.assert_close(ratio, activation.mean((1, 2)) + 0.25)


def test_deeplab_looks_at_a_sixteenth_and_at_a_quarter():
    for name, low_channels, high_channels in (("mobilenetv2", 144, 320), ("resnet18", 64, 512)):
        backbone = build("phase", f"deeplab-{name}", classes=2).network.backbone.eval()
        with torch.inference_mode():
            low, high = backbone(torch.zeros(1, 3, 224, 224))
        assert low.shape == (1, low_channels, 56, 56)
        assert high.shape == (1, high_channels, 14, 14)  # table A of the paper's appendix
