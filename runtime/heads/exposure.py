"""Whether a picture can be judged at all: a lamp that is off must not look like sound steel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DARK_LEVEL = 12
"""Where 99 % of a picture lie at this grey level or below, the light was off."""
BURNT_RATIO = 0.5
"""Where so much of a picture lies at the highest grey level, there is nothing left to see."""


def exposure_fault(pixels: NDArray[np.uint8]) -> str:
    """Why a picture cannot be judged; empty where it can.

    Args:
        pixels: (H, W) uint8.

    >>> exposure_fault(np.full((4, 4), 3, np.uint8))
    'the picture is dark: 99 % of it lies at grey level 3 or below'
    >>> exposure_fault(np.full((4, 4), 90, np.uint8))
    ''
    """
    counts = np.cumsum(np.bincount(pixels.ravel(), minlength=256))
    level = int(np.searchsorted(counts, 0.99 * counts[-1]))
    if level <= DARK_LEVEL:
        return f"the picture is dark: 99 % of it lies at grey level {level} or below"
    burnt = 1.0 - counts[254] / counts[-1]
    if burnt >= BURNT_RATIO:
        return f"the picture is burnt out: {100 * burnt:.0f} % of it lies at grey level 255"
    return ""
