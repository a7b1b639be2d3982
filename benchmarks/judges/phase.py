"""Judge of phase bundles: the figures of the paper's Table 4, the fractions, and the sizes of what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.evaluation_data import Picture
from camera.steel.micrograph import draw_settings, make_micrograph
from runtime.albums.phase_picture import phase_result
from runtime.heads.phase import settings_of
from runtime.label_scores import PAPER_TOLERANCE_PX, LabelScores, label_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.messages import Scored
    from runtime.spec import ModelSpec

RULES: Mapping[str, str] = {
    "pixels": "accuracies and IoU over the pixels of all pictures pooled; means are over the phases, the matrix "
    "included; weighted_iou weighs by the phases' true shares (paper, section 2.4)",
    "boundary": f"mean_bf_score within {PAPER_TOLERANCE_PX} px (0.75 % of the diagonal of the paper's tiles), the mean "
    "over phases of a picture, then over pictures; the picture's own border is no outline",
    "fraction": "of the last phase, a picture at a time, in points of percent",
    "size": "connected parts of the last phase of at least 9 px, by area: size_ks_statistic is the mean over pictures "
    "of the two-sample Kolmogorov-Smirnov statistic against the true parts, size_ks_passed_ratio the share of pictures "
    "where the test does not part them at 5 %",
}
BASELINE = "Otsu's threshold; the last phase is the dark or the bright side, whichever agrees better over the set"

_SIDE_PX = 448
_LEAST_PX = 9
_FIRST_SEED, _SEEDS_EACH = 1_000_000, 10_000


def synthetic(seed: int, count: int) -> Iterator[Picture]:
    """`count` micrographs, each of another steel and microscope; recipes render seeds below a million."""
    for number in range(count):
        own = _FIRST_SEED + _SEEDS_EACH * seed + number
        made = make_micrograph(own, draw_settings(own, (_SIDE_PX, _SIDE_PX)))
        figures = {"pearlite_ratio": made.pearlite_ratio}
        yield Picture(f"seed{seed}-{number}", made.pixels, made.pearlite[None], figures)


class PhaseJudge:
    """Holds label maps against the truth; see `benchmarks.judges.base.Judge`.

    Args:
        phases: Names by label.
    """

    def __init__(self, phases: tuple[str, ...]) -> None:
        self._last = len(phases) - 1
        self._scores = _Scores(phases)
        self._otsu = {side: _Scores(phases) for side in ("dark", "bright")}

    def add(self, picture: Picture, raw: Any, message: Scored) -> None:  # noqa: ARG002  the message says it all
        """Count one micrograph."""
        truth = label_map(picture.truth)
        self._scores.add(phase_result(message).labels.array(), truth)
        bright = otsu(picture.pixels)
        for side, place in (("bright", bright), ("dark", ~bright)):
            self._otsu[side].add(np.where(place, np.uint8(self._last), np.uint8(0)), truth)

    def figures(self) -> dict[str, float]:
        """All figures of the set."""
        return self._scores.figures()

    def baseline(self) -> dict[str, float]:
        """Otsu's threshold on each picture."""
        return max((scores.figures() for scores in self._otsu.values()), key=lambda each: each["mean_iou"])


class _Scores:
    """Label scores, and how the sizes of the last phase's parts compare."""

    def __init__(self, phases: tuple[str, ...]) -> None:
        self._last = len(phases) - 1
        self._labels = LabelScores(phases, PAPER_TOLERANCE_PX)
        self._statistics: list[float] = []
        self._passed: list[bool] = []

    def add(self, found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        from scipy.stats import ks_2samp

        self._labels.add(found, truth)
        sizes = [part_sizes(labels == self._last) for labels in (found, truth)]
        if all(len(each) for each in sizes):
            test = ks_2samp(sizes[0], sizes[1])
            self._statistics.append(float(test.statistic))  # pyright: ignore[reportAttributeAccessIssue] - untyped
            self._passed.append(float(test.pvalue) > 0.05)  # pyright: ignore[reportAttributeAccessIssue] - untyped

    def figures(self) -> dict[str, float]:
        figures = self._labels.figures()
        if self._statistics:
            figures["size_ks_statistic"] = float(np.mean(self._statistics))
            figures["size_ks_passed_ratio"] = float(np.mean(self._passed))
        return figures


def part_sizes(region: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Areas in px of the 8-connected parts of a region (H, W), those of 9 px and more, in no order."""
    from scipy.ndimage import label

    parts, _ = label(region, structure=np.ones((3, 3), int))  # pyright: ignore[reportGeneralTypeIssues] - untyped
    areas = np.bincount(np.asarray(parts).ravel())[1:]
    return areas[areas >= _LEAST_PX]


def otsu(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(H, W) bool: what is brighter than Otsu's threshold."""
    import cv2

    level, _ = cv2.threshold(pixels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return pixels > level


def open_judge(spec: ModelSpec) -> PhaseJudge:
    """A judge of one set; see `benchmarks.judges.base.TaskJudge`."""
    return PhaseJudge(settings_of(spec).phase_names)
