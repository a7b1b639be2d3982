"""How far a phase bundle is from the network that was trained: shares of the phases, and labels of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from runtime.golden.frames import Compare, Figures, Outputs, largest
from runtime.heads.phase import PHASE
from runtime.single import MODEL


def compare(found: Outputs, torch: Outputs, settings: Mapping[str, Any]) -> Figures:
    """Differences of label maps (n, H, W)."""
    ours, theirs = found[PHASE], torch[PHASE]
    shares = [
        np.stack([(labels == phase).mean(axis=(1, 2)) for phase in range(len(settings["phase_names"]))])
        for labels in (ours, theirs)
    ]
    return {
        "fraction_points": 100.0 * largest(np.abs(shares[0] - shares[1])),
        "pixel_disagreement": float((ours != theirs).mean()),
    }


COMPARE: Mapping[str, Compare] = MappingProxyType({MODEL: compare})
"""By role."""
