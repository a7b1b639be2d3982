"""Pictures of what a model finds, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torchvision.utils import draw_segmentation_masks

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#ffe119", "#f58231", "#911eb4")
"""One a class, in the order of the masks' planes."""
_GAP_PX = 4


def side_by_side(pixels: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """The picture alone, then once under each set of masks; stacked along its shorter side.

    Args:
        pixels: (H, W) uint8.
        masks: Sets of masks (C, H, W) bool, such as truth and prediction.

    Returns:
        (h, w, 3) uint8.
    """
    plain = torch.from_numpy(np.array(pixels)).expand(3, -1, -1).contiguous()
    views = [plain]
    for planes in masks:
        shown = torch.from_numpy(np.array(planes))
        colours = [COLOURS[number % len(COLOURS)] for number in range(len(shown))]
        views.append(draw_segmentation_masks(plain, shown, alpha=0.45, colors=list(colours)) if shown.any() else plain)
    axis = 1 if pixels.shape[1] > pixels.shape[0] else 2
    shape = list(plain.shape)
    shape[axis] = _GAP_PX
    gap = torch.full(shape, 255, dtype=torch.uint8)
    pieces = [piece for view in views for piece in (view, gap)][:-1]
    return torch.cat(pieces, dim=axis).permute(1, 2, 0).numpy()


def save_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 as a PNG."""
    Image.fromarray(picture).save(path)
