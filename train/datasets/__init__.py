"""Datasets by name: their settings, and how each is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from runtime.errors import DataError
from train.datasets.base import Dataset, Sample, Split
from train.datasets.crack_tiles import open_crack_tiles
from train.datasets.crackforest import CrackForestSettings, open_crackforest
from train.datasets.fracture import FractureSettings, open_fracture
from train.datasets.grain_boundaries import NistGrainSettings, TbmSettings, open_nist_grain, open_tbm
from train.datasets.magnetic_tiles import MagneticTilesSettings, open_magnetic_tiles
from train.datasets.phase_maps import PhaseMapSettings, UhcsSettings, open_phase_maps, open_uhcs
from train.datasets.severstal import SeverstalSettings, open_severstal
from train.datasets.synthetic import SyntheticSettings, open_synthetic
from train.datasets.synthetic_crack import SyntheticCrackSettings, open_synthetic_crack
from train.datasets.synthetic_fracture import SyntheticFractureSettings, open_synthetic_fracture
from train.datasets.synthetic_grain import SyntheticGrainSettings, open_synthetic_grain
from train.datasets.synthetic_phase import SyntheticPhaseSettings, open_synthetic_phase

__all__ = ["DATASETS", "DataError", "Dataset", "DatasetKind", "Sample", "Split"]


@dataclass(frozen=True, slots=True)
class DatasetKind:
    """A kind of data.

    Attributes:
        settings: The recipe's table `data`, without its `kind`.
        open: From settings and a folder for caches to the dataset; raises `DataError`.
    """

    settings: type[BaseModel]
    open: Callable[[Any, Path], Dataset]


DATASETS: Mapping[str, DatasetKind] = MappingProxyType(
    {
        "synthetic": DatasetKind(SyntheticSettings, open_synthetic),
        "severstal": DatasetKind(SeverstalSettings, open_severstal),
        "synthetic-fracture": DatasetKind(SyntheticFractureSettings, open_synthetic_fracture),
        "fracture": DatasetKind(FractureSettings, open_fracture),
        "synthetic-phase": DatasetKind(SyntheticPhaseSettings, open_synthetic_phase),
        "phase": DatasetKind(PhaseMapSettings, open_phase_maps),
        "uhcs": DatasetKind(UhcsSettings, open_uhcs),
        "synthetic-grain": DatasetKind(SyntheticGrainSettings, open_synthetic_grain),
        "tiles-crack": DatasetKind(MagneticTilesSettings, open_crack_tiles),
        "crackforest": DatasetKind(CrackForestSettings, open_crackforest),
        "synthetic-crack": DatasetKind(SyntheticCrackSettings, open_synthetic_crack),
        "tbm": DatasetKind(TbmSettings, open_tbm),
        "nist-grain": DatasetKind(NistGrainSettings, open_nist_grain),
        "tiles": DatasetKind(MagneticTilesSettings, open_magnetic_tiles),
    }
)
"""By the name of `--data NAME=PATH` and of a recipe's `data.kind`."""
