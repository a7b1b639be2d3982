"""How far a boundary bundle is from the network that was trained: levels, where lines run, and how often one is met."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from runtime.boundary_figures import BoundaryFigures
from runtime.golden.frames import Compare, Figures, Outputs
from runtime.heads.boundary import PROBABILITY, BoundarySettings, lines_of
from runtime.single import MODEL

_NEAR_PX = 1
"""A line may run one pixel beside torch's: of two ways to thin a mask of even width neither is the right one."""


def compare(found: Outputs, torch: Outputs, settings: Mapping[str, Any]) -> Figures:
    """Differences of levels, lines and mean intercept; both `boundary_probability` (n, 1, H, W) uint8."""
    own = BoundarySettings.model_validate(settings)
    ours, theirs = found[PROBABILITY][:, 0], torch[PROBABILITY][:, 0]
    figures, drawn = BoundaryFigures(_NEAR_PX), False
    for number, pair in enumerate(zip(ours, theirs, strict=True)):
        traced, truth = (lines_of(each, own) for each in pair)
        figures.add(traced, truth, specimen=f"{number}")
        drawn = drawn or bool(truth.any() or traced.any())
    of_lines = figures.compute()
    return {
        "level_mean_abs": float(np.abs(ours.astype(np.int16) - theirs).mean()),
        "line_loss": 1.0 - of_lines["boundary_f1"] if drawn else 0.0,
        "intercept_percent": of_lines["intercept_error_percent"],
    }


COMPARE: Mapping[str, Compare] = MappingProxyType({MODEL: compare})
"""By role."""
