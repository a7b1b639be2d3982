"""Random changes of a crop, the same for its pixels and its masks, by torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.recipe import Augmentation


def make_augmentation(settings: Augmentation) -> v2.Transform:
    """Flips, a small rotation and shift, brightness and contrast (paper, sections 5.1 and 5.2).

    The transform draws from torch's global generator, which the fit loop seeds and keeps in its checkpoints.
    """
    steps: list[torch.nn.Module] = [v2.Identity()]
    if settings.flip_horizontal:
        steps.append(v2.RandomHorizontalFlip())
    if settings.flip_vertical:
        steps.append(v2.RandomVerticalFlip())
    if settings.move_probability and (settings.rotate_deg or settings.shift_ratio):
        move = v2.RandomAffine(
            degrees=(-settings.rotate_deg, settings.rotate_deg),
            translate=(settings.shift_ratio, settings.shift_ratio),
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        steps.append(v2.RandomApply([move], p=settings.move_probability))
    if settings.brightness or settings.contrast:
        steps.append(v2.ColorJitter(brightness=settings.brightness, contrast=settings.contrast))
    return v2.Compose(steps)


def augment(
    transform: v2.Transform, pixels: NDArray[np.uint8], masks: NDArray[np.bool_]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Change one crop.

    Args:
        transform: Of `make_augmentation`.
        pixels: (H, W) uint8.
        masks: (C, H, W) bool.

    Returns:
        Pixels (1, H, W) uint8 and masks (C, H, W) uint8, 0 or 1, moved alike.
    """
    image = tv_tensors.Image(torch.from_numpy(np.array(pixels)[None]))
    truth = tv_tensors.Mask(torch.from_numpy(masks.astype(np.uint8)))
    image, truth = transform(image, truth)
    return image.as_subclass(torch.Tensor), truth.as_subclass(torch.Tensor)
