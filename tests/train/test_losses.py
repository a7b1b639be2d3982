"""The losses against the paper's equations, written out."""

import pytest
import torch
from torch.nn import functional

from train.losses import SEGMENTER_LOSSES, BceDice, masked_bce, tversky


def certain(mask):
    """Logits whose sigmoid is the mask, to the last digit that counts."""
    return mask * 60.0 - 30.0


TRUTH = torch.tensor([[[[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]]])


@pytest.mark.parametrize("name", SEGMENTER_LOSSES)
def test_a_perfect_answer_costs_nothing(name):
    loss = SEGMENTER_LOSSES[name](0.3)
    assert float(loss(certain(TRUTH), TRUTH)) == pytest.approx(0.0, abs=1e-5)


def test_tversky_is_equation_three():
    found = torch.tensor([[[[1.0, 1.0, 0.0, 1.0, 1.0, 1.0]]]])
    tp, fn, fp, smooth = 2.0, 1.0, 3.0, 1.0
    expected = 1 - (tp + smooth) / (tp + 0.3 * fn + 0.7 * fp + smooth)
    assert float(tversky(0.3)(certain(found), TRUTH)) == pytest.approx(expected, abs=1e-5)


def test_tversky_at_a_half_is_dice():
    logits = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    truth = (torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    p = logits.sigmoid()
    both, total = (p * truth).sum((0, 2, 3)), (p + truth).sum((0, 2, 3))
    by_hand = (1 - (both + 1.0) / (total / 2 + 1.0)).mean()
    torch.testing.assert_close(tversky(0.5)(logits, truth), by_hand)


def test_bce_dice_is_equation_two():
    logits = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    truth = (torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    p = logits.sigmoid()
    dice = (1 - ((p * truth).sum((0, 2, 3)) + 1.0) / ((p + truth).sum((0, 2, 3)) / 2 + 1.0)).mean()
    bce = functional.binary_cross_entropy_with_logits(logits, truth)
    torch.testing.assert_close(BceDice()(logits, truth), bce + dice)


def test_gate_loss_leaves_out_what_is_neither():
    logit, nan = torch.tensor([2.0, -1.0, 5.0]), float("nan")
    left_out = masked_bce(logit, torch.tensor([1.0, 0.0, nan]))
    torch.testing.assert_close(left_out, masked_bce(logit[:2], torch.tensor([1.0, 0.0])))


def test_gate_loss_of_nothing_known_is_zero_and_has_a_gradient():
    logit = torch.zeros(2, requires_grad=True)
    loss = masked_bce(logit, torch.full((2,), float("nan")))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(logit.grad, torch.zeros(2))
