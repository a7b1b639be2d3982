"""Which pieces of which pictures make a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from runtime.errors import DataError
from train.augment import augment

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from torchvision.transforms import v2

    from train.datasets.base import Dataset, Sample
    from train.recipe import Phase

DARK_LEVEL = 20
"""Grey levels at or below this are background beyond the strip's edge."""
_LIT_RATIO = 0.02
_TRIES = 30


class Batch(NamedTuple):
    """What a step of training sees.

    Attributes:
        names: Where each piece came from, for messages.
        frames: (N, 1, H, W) uint8.
        masks: (N, C, H, W) uint8, 0 or 1.
    """

    names: list[str]
    frames: Tensor
    masks: Tensor


def steps_of(phase: Phase, pictures: int) -> int:
    """Batches in an epoch of the phase; a last part-filled batch is left out, unless it is the only one."""
    return phase.steps or max(1, pictures // phase.batch)


def make_batches(
    dataset: Dataset,
    indices: Sequence[int],
    phase: Phase,
    transform: v2.Transform,
    *,
    epoch_in_phase: int,
    none_share: float | None,
    rng: np.random.Generator,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """One epoch's batches; with several processes each gets every `world`-th piece, all of the same draw.

    Args:
        dataset: Where the pictures come from.
        indices: The pictures of the training part.
        phase: Batch size (of each process), crop sizes and number of steps.
        transform: Of `train.augment.make_augmentation`.
        epoch_in_phase: Chooses the crop size: they take turns.
        none_share: Share of crops without a defect; None gives it the same share as each class.
        rng: The epoch's generator.
        rank: Number of this process.
        world: Number of processes.
    """
    steps = steps_of(phase, len(indices) // world)
    if phase.crops:
        size = phase.crops[epoch_in_phase % len(phase.crops)]
        pieces = balanced_crops(dataset, indices, size, none_share, rng, skip=world, first=rank)
    else:
        pieces = shuffled(dataset, indices, rng, skip=world, first=rank)
    for _ in range(steps):
        batch = [next(pieces) for _ in range(phase.batch)]
        changed = [augment(transform, each.pixels, each.masks) for each in batch]
        yield Batch(
            [each.name for each in batch],
            torch.stack([pixels for pixels, _ in changed]),
            torch.stack([masks for _, masks in changed]),
        )


def shuffled(
    dataset: Dataset, indices: Sequence[int], rng: np.random.Generator, *, skip: int = 1, first: int = 0
) -> Iterator[Sample]:
    """Whole pictures, each once before any comes again, without end."""
    while True:
        for index in rng.permutation(np.asarray(indices))[first::skip]:
            yield dataset.sample(int(index))


def balanced_crops(
    dataset: Dataset,
    indices: Sequence[int],
    size: tuple[int, int],
    none_share: float | None,
    rng: np.random.Generator,
    *,
    skip: int = 1,
    first: int = 0,
) -> Iterator[Sample]:
    """Crops without end, the classes and "none" in turn, so that a batch of classes + 1 has one of each (paper, 5.1).

    A crop of a class holds at least one of its pixels. A crop of "none" holds no truth and is never wholly dark.

    Raises:
        DataError: No picture of the part has a defect, or no crop without one can be found.
    """
    present = dataset.present[np.asarray(indices)]
    classes = [plane for plane in range(present.shape[1]) if present[:, plane].any()]
    if not classes:
        raise DataError(f"training part: found {len(indices)} pictures and no defect in any, expected some of each.")
    share = 1.0 / (len(classes) + 1) if none_share is None else none_share
    shares = np.array([share] + [(1.0 - share) / len(classes)] * len(classes))
    owed = rng.random(len(shares)) * 1e-6  # ties fall in another order each epoch
    holders = {plane: np.asarray(indices)[present[:, plane]] for plane in classes}
    turn = 0
    while True:
        owed += shares
        kind = int(np.argmax(owed))
        owed[kind] -= 1.0
        # Every process draws the numbers of all crops and makes only its own, so that they never repeat each other.
        own = np.random.default_rng(rng.integers(2**63))
        if turn % skip == first:
            if kind == 0:
                yield _crop_without(dataset, np.asarray(indices), size, own)
            else:
                plane = classes[kind - 1]
                yield _crop_with(dataset.sample(int(own.choice(holders[plane]))), plane, size, own)
        turn += 1


def _crop_with(sample: Sample, plane: int, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    """A crop around a random pixel of a class; its place within the crop is random too."""
    height, width = sample.pixels.shape
    truth = np.flatnonzero(sample.masks[plane])
    if not truth.size:
        raise DataError(f"{sample.name}: found no pixel of class {plane + 1}, expected some. Correct its mask.")
    row, col = divmod(int(truth[rng.integers(truth.size)]), width)
    top = int(rng.integers(max(0, row - size[0] + 1), row + 1))
    left = int(rng.integers(max(0, col - size[1] + 1), col + 1))
    return cut(sample, min(top, max(0, height - size[0])), min(left, max(0, width - size[1])), size)


def _crop_without(
    dataset: Dataset, indices: NDArray[np.integer], size: tuple[int, int], rng: np.random.Generator
) -> Sample:
    """A crop of clean, lit steel, from any picture that has one."""
    for _ in range(_TRIES):
        sample = dataset.sample(int(rng.choice(indices)))
        height, width = sample.pixels.shape
        top = int(rng.integers(max(0, height - size[0]) + 1))
        left = int(rng.integers(max(0, width - size[1]) + 1))
        crop = cut(sample, top, left, size)
        if not crop.masks.any() and is_lit(crop.pixels):
            return crop
    raise DataError(
        f"training part: {_TRIES} crops of {size[0]}x{size[1]} px in a row were dark or showed a defect, expected "
        "clean steel in some. Add clean pictures, or set smaller crops."
    )


def is_lit(pixels: NDArray[np.uint8]) -> bool:
    """Whether a crop shows steel: more than a fiftieth of it is brighter than the background."""
    return bool(np.count_nonzero(pixels > DARK_LEVEL) > _LIT_RATIO * pixels.size)


def cut(sample: Sample, top: int, left: int, size: tuple[int, int]) -> Sample:
    """A piece of a picture; where the picture is smaller than the piece, it is mirrored at its end."""
    rows, cols = slice(top, top + size[0]), slice(left, left + size[1])
    pixels, masks = sample.pixels[rows, cols], sample.masks[:, rows, cols]
    missing = (0, size[0] - pixels.shape[0]), (0, size[1] - pixels.shape[1])
    if missing != ((0, 0), (0, 0)):
        pixels = np.pad(pixels, missing, mode="symmetric")
        masks = np.pad(masks, ((0, 0), *missing), mode="symmetric")
    return type(sample)(f"{sample.name}[{top}:{top + size[0]}, {left}:{left + size[1]}]", pixels, masks)


def whole_batches(dataset: Dataset, indices: Sequence[int], most: int) -> Iterator[Batch]:
    """Whole pictures in order, unchanged; neighbours of one size share a batch of at most `most`."""
    held: list[Sample] = []
    for index in indices:
        sample = dataset.sample(index)
        if held and (len(held) == most or held[0].pixels.shape != sample.pixels.shape):
            yield _stack(held)
            held = []
        held.append(sample)
    if held:
        yield _stack(held)


def _stack(samples: Sequence[Sample]) -> Batch:
    return Batch(
        [each.name for each in samples],
        torch.from_numpy(np.stack([each.pixels for each in samples])[:, None]),
        torch.from_numpy(np.stack([each.masks for each in samples]).astype(np.uint8)),
    )


def evenly(indices: Sequence[int], most: int | None) -> Sequence[int]:
    """At most `most` of the indices, evenly spread, so that every strip or class keeps its share.

    >>> evenly(range(10), 3)
    [0, 3, 6]
    """
    if most is None or len(indices) <= most:
        return indices
    return [indices[number * len(indices) // most] for number in range(most)]
