"""Judge of grain bundles: the paper's figures on grades seen and unseen in training, the interval, and mixed grain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.evaluation_data import Picture
from camera.steel.austenite import GRADES, HALF_GRADES, MM_PER_PX, Pattern, make_micrograph
from runtime.albums.grain_picture import grain_result
from runtime.facts import Facts

if TYPE_CHECKING:
    from runtime.messages import Scored
    from runtime.spec import ModelSpec

RULES: Mapping[str, str] = {
    "pictures": "1280x960 px of 0.8 um; of every 24, 11 of the paper's grades (2.5, 4 to 13), 10 of the "
    "half grades 3.5 to 12.5, which are never trained on, and 3 of two grades at once",
    "number": "ASTM G against the planimetric count of the whole picture; within_half counts errors of at most 0.5 "
    "(paper, section IV); pictures of two grades are left out, for they have no one number",
    "grade": "share of pictures of the paper's grades whose nearest grade of these is the true one",
    "interval": "share of numbers whose truth lies within the stated 95 % interval",
    "inhomogeneous": "share of pictures of two grades that are called inhomogeneous, and of those of one grade",
}
BASELINE = "every picture gets the mean number of the set"

_FIRST_SEED, _SEEDS_EACH = 1_000_000, 10_000
_MIXED: Sequence[tuple[tuple[float, float], Pattern]] = (
    ((5.0, 9.0), "patches"),
    ((6.0, 9.5), "bands"),
    ((7.0, 11.0), "quadrants"),
)
_ACCEPTED_G = 0.5
_MIXED_FIGURE, _GRADE_FIGURE = "mixed", "grade"


def synthetic(seed: int, count: int) -> Iterator[Picture]:
    """`count` micrographs of even and mixed grain; recipes render seeds below a million."""
    plan: list[tuple[tuple[float, ...], Pattern]] = [((grade,), "patches") for grade in (*GRADES, *HALF_GRADES)]
    plan += _MIXED
    # Coarse and fine by turns, so that a short set shows some of each.
    order = np.random.default_rng(1).permutation(len(plan))
    for number in range(count):
        grades, pattern = plan[order[number % len(plan)]]
        made = make_micrograph(_FIRST_SEED + _SEEDS_EACH * seed + number, grades, pattern=pattern)
        figures = {"grain_number": made.grain_number, _MIXED_FIGURE: float(len(grades) > 1)}
        if len(grades) == 1:
            figures[_GRADE_FIGURE] = grades[0]
        yield Picture(
            name=f"seed{seed}-{number}",
            pixels=made.pixels,
            truth=made.boundary[None],
            figures=figures,
            facts=Facts(specimen=f"seed {seed} specimen {number}", mm_per_px=MM_PER_PX),
        )


class GrainJudge:
    """Holds numbers against counts; see `benchmarks.judges.base.Judge`."""

    def __init__(self) -> None:
        self._truth: list[float] = []
        self._found: list[float] = []
        self._grade: list[float] = []
        self._held: list[bool] = []
        self._half_g: list[float] = []
        self._flagged: dict[bool, list[bool]] = {True: [], False: []}

    def add(self, picture: Picture, raw: Any, message: Scored) -> None:  # noqa: ARG002  the message says it all
        """Count one micrograph."""
        result = grain_result(message)
        mixed = bool(picture.figures.get(_MIXED_FIGURE, 0.0))
        self._flagged[mixed].append(result.inhomogeneous)
        if mixed:
            return
        truth = picture.figures["grain_number"]
        self._truth.append(truth)
        self._found.append(result.grain_number)
        self._grade.append(picture.figures.get(_GRADE_FIGURE, float("nan")))
        self._held.append(abs(result.grain_number - truth) <= result.uncertainty)
        self._half_g.append(result.uncertainty)

    def figures(self) -> dict[str, float]:
        """All figures of the set."""
        figures = self._errors(np.array(self._found))
        if self._held:
            figures["interval_coverage_ratio"] = float(np.mean(self._held))
            figures["interval_mean_half_g"] = float(np.mean(self._half_g))
        for mixed, name in ((True, "inhomogeneous_found_ratio"), (False, "inhomogeneous_wrongly_ratio")):
            if self._flagged[mixed]:
                figures[name] = float(np.mean(self._flagged[mixed]))
        return figures

    def baseline(self) -> dict[str, float]:
        """The mean number for every picture."""
        return self._errors(np.full(len(self._truth), np.mean(self._truth) if self._truth else 0.0))

    def _errors(self, found: np.ndarray) -> dict[str, float]:
        truth, grade = np.array(self._truth), np.array(self._grade)
        figures: dict[str, float] = {}
        seen, unseen = np.isin(grade, GRADES), np.isin(grade, HALF_GRADES)
        parts = {"number": np.ones(len(truth), bool), "trained_grades": seen, "half_grades": unseen}
        for name, chosen in parts.items():
            if chosen.any():
                errors = found[chosen] - truth[chosen]
                figures[f"{name}_within_half_ratio"] = float(np.mean(np.abs(errors) <= _ACCEPTED_G))
                figures[f"{name}_mean_error_g"] = float(np.abs(errors).mean())
                figures[f"{name}_bias_g"] = float(errors.mean())
                figures[f"{name}_worst_error_g"] = float(np.abs(errors).max())
        if seen.any():
            nearest = np.array(GRADES)[np.abs(found[seen][:, None] - np.array(GRADES)).argmin(1)]
            figures["grade_accuracy_ratio"] = float(np.mean(nearest == grade[seen]))
        return figures


def open_judge(spec: ModelSpec) -> GrainJudge:  # noqa: ARG001  the message says it all
    """A judge of one set; see `benchmarks.judges.base.TaskJudge`."""
    return GrainJudge()
