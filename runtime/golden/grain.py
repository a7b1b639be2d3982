"""How far a grain bundle is from the network that was trained: in G for a number, in probabilities for grades."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from runtime.golden.frames import Compare, Figures, Outputs, largest
from runtime.heads.grain import MAP, NUMBER, PROBABILITY
from runtime.single import MODEL


def compare_number(found: Outputs, torch: Outputs, settings: Mapping[str, Any]) -> Figures:
    """Differences in G, of number (n,) and map (n, h, w)."""
    del settings  # no threshold at which a decision could flip
    difference = np.abs(found[MAP].astype(np.float64) - torch[MAP])
    return {
        "number_g": largest(np.abs(found[NUMBER].astype(np.float64) - torch[NUMBER])),
        "map_g": largest(difference.mean(axis=(1, 2))),
    }


def compare_grades(found: Outputs, torch: Outputs, settings: Mapping[str, Any]) -> Figures:
    """Differences of probabilities (n, K), and the share of cells of the map (n, h, w) that have another grade."""
    del settings
    return {
        "probability_max_abs": largest(np.abs(found[PROBABILITY].astype(np.float64) - torch[PROBABILITY])),
        "flipped_ratio": float(np.mean(np.abs(found[MAP] - torch[MAP]) > 0.5)),
    }


def compare(found: Outputs, torch: Outputs, settings: Mapping[str, Any]) -> Figures:
    """Of whichever the graph gives: a number, or grades."""
    return (compare_number if NUMBER in torch else compare_grades)(found, torch, settings)


COMPARE: Mapping[str, Compare] = MappingProxyType({MODEL: compare})
"""By role."""
