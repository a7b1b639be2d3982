"""The figures against hand-counted cases."""

import pytest
import torch

from train.metrics import CompetitionDice, GateFigures, PooledIou, label_map

CPU = torch.device("cpu")


def masks(*planes):
    return torch.tensor(planes, dtype=torch.bool)[None, :, None, :]


def test_competition_dice_counts_empty_on_empty_as_one():
    dice = CompetitionDice()
    dice.update(masks([0, 0], [0, 0]), masks([0, 0], [0, 0]))
    assert dice.compute() == {"dice": 1.0, "dice_defective": 0.0}


def test_competition_dice_is_the_mean_over_frames_and_classes():
    dice = CompetitionDice()
    dice.update(masks([1, 1, 0], [0, 0, 0]), masks([1, 0, 0], [0, 0, 0]))  # 2/3 and 1
    dice.update(masks([0, 0, 0], [1, 0, 0]), masks([0, 0, 1], [0, 0, 0]))  # 0 and 0
    found = dice.compute()
    assert found["dice"] == pytest.approx((2 / 3 + 1 + 0 + 0) / 4)
    assert found["dice_defective"] == pytest.approx((2 / 3 + 0) / 2)


def test_competition_dice_does_not_depend_on_the_batches():
    generator = torch.Generator().manual_seed(3)
    found, truth = (torch.rand(6, 4, 9, 9, generator=generator) > 0.7 for _ in range(2))
    whole, parts = CompetitionDice(), CompetitionDice()
    whole.update(found, truth)
    for number in range(6):
        parts.update(found[number : number + 1], truth[number : number + 1])
    assert parts.compute() == pytest.approx(whole.compute())


def test_pooled_iou_pools_pixels_and_counts_background():
    iou = PooledIou(("a", "b"), CPU)
    iou.update(torch.tensor([[[[0.9, 0.9, 0.1, 0.2]], [[0.1, 0.2, 0.1, 0.1]]]]), masks([1, 0, 0, 0], [0, 0, 0, 1]))
    assert iou.compute() == pytest.approx(
        {"mean_iou": (1 / 3 + 1 / 2 + 0) / 3, "iou_background": 1 / 3, "iou_a": 0.5, "iou_b": 0}
    )


def test_label_map_takes_the_likeliest_present_class():
    score = torch.tensor([[[[0.9, 0.6, 0.2]], [[0.8, 0.7, 0.3]]]])
    assert label_map(score, score > 0.5).tolist() == [[[1, 2, 0]]]


def test_gate_figures_count_and_find_the_threshold_of_a_recall():
    gate = GateFigures(0.99, CPU)
    probability = torch.tensor([0.9, 0.8, 0.3, 0.6, 0.1, 0.2])
    gate.update(probability, torch.tensor([1, 1, 1, 0, 0, 0], dtype=torch.bool))
    found = gate.compute()
    assert (found["tp"], found["fn"], found["fp"], found["tn"]) == (2, 1, 1, 2)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["false_gate_ratio"] == pytest.approx(1 / 3)
    assert found["threshold_at_recall"] == pytest.approx(0.3)
    assert found["specificity_at_recall"] == pytest.approx(2 / 3)
    assert found["auroc"] == pytest.approx(8 / 9)
