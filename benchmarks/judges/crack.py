"""Judge of crack bundles: the paper's two figures of the mask, and how far the tips are off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.evaluation_data import Picture
from camera.steel.crack import draw_crack
from runtime import rle
from runtime.albums.crack_picture import crack_result
from runtime.crack_figures import CrackFigures
from runtime.facts import Facts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.messages import Scored
    from runtime.spec import ModelSpec

RULES: Mapping[str, str] = {
    "mask": "of the mask as published, small parts dropped; all pixels of all pictures pooled. mean_iou and "
    "mean_pixel_accuracy average background and crack (crack paper, section 3.3); iou and f1 are the crack's alone",
    "f1_tolerant": "a found pixel is right where a true one lies within 2 px, and a true one is found likewise",
    "main_tip": "distance from the true main tip to the one reported as main, in px, over the pictures with a true "
    "main tip; a picture where none is reported counts as infinitely far in the share within 3 px, and as missing",
    "tips": "main and secondary tips: share of the true ones with a reported one within 5 px, and the other way round",
    "verdict": "pictures with a crack that were accepted, and pictures without one that were not",
}
BASELINE = "no pixel is crack"

NEAR_PX, MATCH_PX, TOLERANCE_PX = 3.0, 5.0, 2
_FIRST_SEED, _SEEDS_EACH = 1_000_000, 10_000
_CLEAN_EACH = 10


def synthetic(seed: int, count: int) -> Iterator[Picture]:
    """`count` pipes, each tenth without a crack; recipes draw seeds below a million."""
    for number in range(count):
        made = draw_crack(_FIRST_SEED + _SEEDS_EACH * seed + number, cracked=number % _CLEAN_EACH != _CLEAN_EACH - 1)
        yield Picture(
            name=f"seed{seed}-{number}",
            pixels=made.pixels,
            truth=made.mask[None],
            points=made.tips,
            facts=Facts(specimen=f"seed {seed} picture {number}"),
        )


class CrackJudge:
    """Holds masks and tips against the truth; see `benchmarks.judges.base.Judge`."""

    def __init__(self) -> None:
        self._masks, self._empty = CrackFigures(TOLERANCE_PX), CrackFigures(TOLERANCE_PX)
        self._main_px: list[float] = []
        self._true_tips = self._met_tips = self._found_tips = self._right_tips = 0
        self._wrongly_accepted = self._false_alarms = 0

    def add(self, picture: Picture, raw: Any, message: Scored) -> None:  # noqa: ARG002  the message says it all
        """Count one picture."""
        result, truth = crack_result(message), picture.truth[0]
        mask = rle.decode(result.rle, (truth.shape[0], truth.shape[1]))
        self._masks.add(mask, truth)
        self._empty.add(np.zeros_like(truth), truth)
        self._wrongly_accepted += bool(truth.any()) and message.verdict == "accepted"
        self._false_alarms += not truth.any() and bool(result.cracks)
        tips = [tip for crack in result.cracks for tip in crack.tips]
        found = np.array([(tip.row_px, tip.col_px) for tip in tips], np.float64).reshape(-1, 2)
        if len(picture.points):
            main = next((place for place, tip in zip(found, tips, strict=True) if tip.main), None)
            self._main_px.append(np.inf if main is None else float(np.hypot(*(main - picture.points[0]))))
        if len(picture.points) or not truth.any():
            near = _distances(picture.points, found) <= MATCH_PX
            self._true_tips += len(picture.points)
            self._found_tips += len(found)
            self._met_tips += int(near.any(axis=1).sum())
            self._right_tips += int(near.any(axis=0).sum())

    def figures(self) -> dict[str, float]:
        """All figures of the set; those of tips where the set knows any."""
        figures = self._masks.compute() | {
            "wrongly_accepted": float(self._wrongly_accepted),
            "false_alarms": float(self._false_alarms),
        }
        if self._main_px:
            known = np.array([each for each in self._main_px if np.isfinite(each)])
            figures["main_tip_within_3_px_ratio"] = float(np.mean(np.array(self._main_px) <= NEAR_PX))
            figures["main_tip_missing"] = float(len(self._main_px) - len(known))
            if known.size:
                figures["main_tip_median_px"] = float(np.median(known))
                figures["main_tip_95th_percentile_px"] = float(np.percentile(known, 95))
            figures["tips_met_ratio"] = self._met_tips / max(1, self._true_tips)
            figures["tips_right_ratio"] = self._right_tips / max(1, self._found_tips)
        return figures

    def baseline(self) -> dict[str, float]:
        """An empty mask for every picture."""
        return self._empty.compute()


def _distances(one: NDArray[Any], two: NDArray[Any]) -> NDArray[np.float64]:
    """(k, l) from each point of one to each of the other."""
    return np.hypot(*(one[:, None].astype(np.float64) - two[None]).transpose(2, 0, 1))


def open_judge(spec: ModelSpec) -> CrackJudge:  # noqa: ARG001  the message says it all
    """A judge of one set; see `benchmarks.judges.base.TaskJudge`."""
    return CrackJudge()
