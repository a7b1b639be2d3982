"""How far a fracture bundle is from the network that was trained, in points of brittle fracture ratio."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from runtime.golden.frames import Compare, Figures, Outputs, largest
from runtime.heads.fracture import ACTIVATION, RATIO
from runtime.single import MODEL


def compare(found: Outputs, torch: Outputs, settings: Mapping[str, Any]) -> Figures:
    """Differences in points, of ratio (n,) and map (n, h, w)."""
    del settings  # no threshold at which a decision could flip
    ours, theirs = (each[ACTIVATION].astype(np.float64) for each in (found, torch))
    third = slice(ours.shape[2] // 3, -(-2 * ours.shape[2] // 3))
    return {
        "ratio_points": 100.0 * largest(np.abs(found[RATIO].astype(np.float64) - torch[RATIO])),
        "part_points": 100.0 * largest(np.abs((ours - theirs)[:, :, third].mean(axis=(1, 2)))),
        "map_points": 100.0 * largest(np.abs(ours - theirs).mean(axis=(1, 2))),
    }


COMPARE: Mapping[str, Compare] = MappingProxyType({MODEL: compare})
"""By role."""
