"""Crops: balanced, lit, and cut where they say."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from runtime.errors import DataError
from train.augment import augment, make_augmentation
from train.datasets import Sample
from train.recipe import Augmentation, Phase
from train.sampling import balanced_crops, cut, evenly, is_lit, make_batches, shuffled, steps_of, whole_batches

PLAIN = make_augmentation(
    Augmentation(flip_horizontal=False, flip_vertical=False, move_probability=0, brightness=0, contrast=0)
)


@dataclass
class Squares:
    """Frames of 64x200 px, lit on their left half only; frame n shows class n % 5 - 1 as a square, or nothing."""

    count: int = 20
    class_names: tuple = ("a", "b", "c", "d")
    digest: str = "0" * 64
    split: dict = field(default_factory=lambda: {"train": range(20), "validation": (), "test": ()})

    @property
    def present(self):
        return np.array([[n % 5 - 1 == plane for plane in range(4)] for n in range(self.count)])

    def __len__(self):
        return self.count

    def sample(self, index):
        pixels = np.zeros((64, 200), np.uint8)
        pixels[:, :100] = 90
        masks = np.zeros((4, 64, 200), np.bool_)
        if index % 5:
            row, col = 3 + index, 2 * index
            masks[index % 5 - 1, row : row + 6, col : col + 6] = True
            pixels[row : row + 6, col : col + 6] = 200
        return Sample(f"frame{index}", pixels, masks)


def kinds(crops):
    return Counter(tuple(np.flatnonzero(crop.masks.any(axis=(1, 2)))) for crop in crops)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def test_each_batch_of_five_has_one_of_each_class_and_one_of_none():
    crops = balanced_crops(Squares(), range(20), (32, 40), None, np.random.default_rng(1))
    for _ in range(10):
        assert kinds(take(crops, 5)) == {(): 1, (0,): 1, (1,): 1, (2,): 1, (3,): 1}


def test_share_of_clean_crops_is_obeyed():
    crops = balanced_crops(Squares(), range(20), (32, 40), 0.5, np.random.default_rng(1))
    assert kinds(take(crops, 80))[()] == 40


def test_no_crop_is_wholly_dark():
    crops = balanced_crops(Squares(), range(20), (32, 40), 0.9, np.random.default_rng(2))
    assert all(is_lit(crop.pixels) for crop in take(crops, 100))


def test_two_processes_share_the_draw_of_one():
    def names(skip, first, count):
        crops = balanced_crops(Squares(), range(20), (32, 40), None, np.random.default_rng(7), skip=skip, first=first)
        return [crop.name for crop in take(crops, count)]

    assert names(1, 0, 20) == [name for pair in zip(names(2, 0, 10), names(2, 1, 10), strict=True) for name in pair]


def test_a_part_without_clean_steel_is_an_error():
    with pytest.raises(DataError, match="crops of 64x200 px in a row"):
        take(balanced_crops(Squares(), [1, 2], (64, 200), 0.9, np.random.default_rng(1)), 5)


def test_a_part_without_defects_is_an_error():
    with pytest.raises(DataError, match="no defect in any"):
        next(balanced_crops(Squares(), [0, 5, 10], (32, 40), None, np.random.default_rng(1)))


def test_pictures_smaller_than_the_crop_are_mirrored():
    sample = Sample("x", np.arange(6, dtype=np.uint8).reshape(2, 3), np.ones((1, 2, 3), np.bool_))
    piece = cut(sample, 0, 1, (3, 4))
    assert piece.pixels.tolist() == [[1, 2, 2, 1], [4, 5, 5, 4], [4, 5, 5, 4]]
    assert piece.name == "x[0:3, 1:5]"


def test_whole_pictures_come_once_each_before_any_comes_again():
    pictures = shuffled(Squares(), range(20), np.random.default_rng(1))
    assert len({picture.name for picture in take(pictures, 20)}) == 20


def test_crop_sizes_take_turns_by_epoch():
    phase = Phase(epochs=4, loss="bce", batch=5, crops=((32, 40), (48, 64)), steps=2)
    shapes = [
        {
            tuple(batch.frames.shape)
            for batch in make_batches(
                Squares(),
                range(20),
                phase,
                PLAIN,
                epoch_in_phase=epoch,
                none_share=None,
                rng=np.random.default_rng(epoch),
            )
        }
        for epoch in range(3)
    ]
    assert shapes == [{(5, 1, 32, 40)}, {(5, 1, 48, 64)}, {(5, 1, 32, 40)}]


def test_steps_default_to_one_walk_through_the_pictures():
    assert steps_of(Phase(epochs=1, loss="bce", batch=4), 18) == 4
    assert steps_of(Phase(epochs=1, loss="bce", batch=4), 3) == 1
    assert steps_of(Phase(epochs=1, loss="bce", batch=4, steps=9), 18) == 9


def test_whole_batches_keep_order_and_never_mix_sizes():
    class Mixed(Squares):
        def sample(self, index):
            sample = super().sample(index)
            return Sample(sample.name, sample.pixels[:32], sample.masks[:, :32]) if index == 2 else sample

    batches = list(whole_batches(Mixed(), range(5), 2))
    assert [batch.names for batch in batches] == [["frame0", "frame1"], ["frame2"], ["frame3", "frame4"]]


def test_evenly_takes_all_where_there_are_few():
    assert list(evenly(range(3), 5)) == [0, 1, 2]
    assert list(evenly(range(3), None)) == [0, 1, 2]


def test_masks_move_with_the_pixels():
    moving = make_augmentation(
        Augmentation(move_probability=1, rotate_deg=10, shift_ratio=0.1, brightness=0, contrast=0)
    )
    sample = Squares().sample(12)
    torch.manual_seed(5)
    for _ in range(20):
        pixels, masks = augment(moving, sample.pixels, sample.masks)
        assert (pixels.dtype, masks.dtype) == (torch.uint8, torch.uint8)
        bright, truth = pixels[0] > 150, masks[1] > 0
        assert int((bright & truth).sum()) > 0.6 * int(bright.sum())
