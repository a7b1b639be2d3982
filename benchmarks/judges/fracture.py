"""Judge of fracture bundles: the paper's three figures, what E436 rates, and whether the interval keeps its word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.evaluation_data import Picture
from camera.steel.fracture import fracture_surface
from runtime.albums.fracture_picture import BRITTLE_LEVEL, activation_levels, fracture_result
from runtime.facts import Facts

if TYPE_CHECKING:
    from runtime.messages import Scored
    from runtime.spec import ModelSpec

RULES: Mapping[str, str] = {
    "ratio": "brittle fracture ratio of the whole picture, brittle by all pixels (VR-net paper, equation 2), "
    "0..1; within_5_points counts errors below 0.05, average_error is the paper's AAE, worst_error its MAE",
    "rated": "the same on the region that ASTM E436 rates, of pictures that show a whole ligament with its scale, "
    "thickness and notch side",
    "verdict": "accepted at 85 % shear; wrongly_accepted counts specimens whose truth lies below",
    "interval": "share of pictures whose truth lies within the stated 95 % interval, of the rated region where there "
    "is one, otherwise of the whole",
    "map_iou": "of the activation cut at a half against the brittle pixels, all pictures pooled",
}
BASELINE = "every specimen gets the mean ratio of the set"

_ACCEPTED_POINTS = 5.0
_FIRST_SEED, _SEEDS_EACH = 1_000_000, 10_000


def synthetic(seed: int, count: int) -> Iterator[Picture]:
    """`count` specimens, whole ligaments and rated regions; recipes render seeds below a million."""
    for number in range(count):
        made = fracture_surface(_FIRST_SEED + _SEEDS_EACH * seed + number)
        facts = Facts(specimen=f"seed {seed} specimen {number}")
        if made.view == "ligament":
            known = {"mm_per_px": made.mm_per_px, "thickness_mm": made.thickness_mm, "notch_side": "left"}
            facts = Facts.model_validate({**facts.model_dump(), **known})
        yield Picture(
            name=f"seed{seed}-{number}",
            pixels=made.pixels,
            truth=made.brittle[None],
            figures={"brittle_ratio": made.brittle_ratio},
            facts=facts,
        )


class FractureJudge:
    """Holds ratings against the brittle map; see `benchmarks.judges.base.Judge`."""

    def __init__(self) -> None:
        self._truth: list[float] = []
        self._found: list[float] = []
        self._rated_truth: list[float] = []
        self._rated_found: list[float] = []
        self._held: list[bool] = []
        self._half_percent: list[float] = []
        self._agreed: list[bool] = []
        self._wrongly_accepted = 0
        self._both_px = 0
        self._either_px = 0

    def add(self, picture: Picture, raw: Any, message: Scored) -> None:  # noqa: ARG002  the message says it all
        """Count one specimen."""
        result, brittle = fracture_result(message), picture.truth[0]
        truth, found = float(brittle.mean()), result.brittle_ratio
        self._truth.append(truth)
        self._found.append(found)
        box = result.rated_region
        if box is not None and result.rated_brittle_ratio is not None:
            truth = float(brittle[box.first_row : box.stop_row, box.first_col : box.stop_col].mean())
            found = result.rated_brittle_ratio
            self._rated_truth.append(truth)
            self._rated_found.append(found)
            sound = 100.0 * (1.0 - truth) >= result.min_shear_percent
            self._agreed.append(sound == (message.verdict == "accepted"))
            self._wrongly_accepted += message.verdict == "accepted" and not sound
        self._held.append(100.0 * abs(found - truth) <= result.uncertainty_percent)
        self._half_percent.append(result.uncertainty_percent)
        shown = activation_levels(result, (brittle.shape[0], brittle.shape[1])) >= BRITTLE_LEVEL
        self._both_px += int(np.count_nonzero(shown & brittle))
        self._either_px += int(np.count_nonzero(shown | brittle))

    def figures(self) -> dict[str, float]:
        """All figures of the set."""
        figures = _errors("ratio", self._found, self._truth)
        figures["map_iou"] = self._both_px / max(1, self._either_px)
        figures["interval_coverage_ratio"] = float(np.mean(self._held))
        figures["interval_mean_half_points"] = float(np.mean(self._half_percent))
        if self._rated_truth:
            figures |= _errors("rated", self._rated_found, self._rated_truth)
            figures["verdict_agreement_ratio"] = float(np.mean(self._agreed))
            figures["wrongly_accepted"] = float(self._wrongly_accepted)
        return figures

    def baseline(self) -> dict[str, float]:
        """The mean ratio for every specimen."""
        figures = _errors("ratio", [float(np.mean(self._truth))] * len(self._truth), self._truth)
        if self._rated_truth:
            mean = float(np.mean(self._rated_truth))
            figures |= _errors("rated", [mean] * len(self._rated_truth), self._rated_truth)
        return figures


def _errors(name: str, found: list[float], truth: list[float]) -> dict[str, float]:
    absolute = np.abs(np.asarray(found) - np.asarray(truth))
    return {
        f"{name}_within_5_points_ratio": float(np.mean(100.0 * absolute < _ACCEPTED_POINTS)),
        f"{name}_average_error": float(absolute.mean()),
        f"{name}_worst_error": float(absolute.max()),
    }


def open_judge(spec: ModelSpec) -> FractureJudge:  # noqa: ARG001  the message says it all
    """A judge of one set; see `benchmarks.judges.base.TaskJudge`."""
    return FractureJudge()
