"""Judge of boundary bundles: where the traced lines run, and the grain size that ASTM E112 counts on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.evaluation_data import Picture
from camera.steel.austenite import MM_PER_PX, make_micrograph
from runtime.albums.boundary_picture import boundary_result
from runtime.boundary_figures import TOLERANCE_PX, BoundaryFigures, intercept_errors
from runtime.boundary_lines import thinned
from runtime.facts import Facts
from runtime.grain_size import clear_px, line_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.messages import Scored
    from runtime.spec import ModelSpec

RULES: Mapping[str, str] = {
    "boundary": f"F1 of the traced lines at {TOLERANCE_PX} px: the truth is thinned to one pixel as the found lines "
    "are; a found pixel is right where a true one lies so near, and a true one is met likewise; all pictures pooled",
    "intercept": "mean intercept (E112, Heyn) of found and true lines on one grid of test lines, all pictures of a "
    "specimen pooled; error is the mean over specimens of its absolute error, bias of the error itself",
    "published": "mean intercept from edge to edge, lines drawn 3 px wide, against the one published with the picture",
    "number": "ASTM G of the grid of lines as the message has it, against the planimetric count of the truth",
}
BASELINE = "Canny's edges after a blur of 2 px: the strongest tenth of the pixels, followed down to the strongest fifth"

_FIRST_SEED, _SEEDS_EACH = 1_000_000, 10_000
_GRADES = (4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
_SIZE_PX = (480, 640)
_PUBLISHED, _NUMBER, _SPECIMEN = "mean_intercept_px", "grain_number", "sample"
_PEN_PX = 3
_SIGMA_PX = 2.0


def synthetic(seed: int, count: int) -> Iterator[Picture]:
    """`count` micrographs of even grain, G 4 to 9; recipes render seeds below a million."""
    for number in range(count):
        grade = _GRADES[number % len(_GRADES)]
        made = make_micrograph(
            _FIRST_SEED + _SEEDS_EACH * seed + number, [grade], height_px=_SIZE_PX[0], width_px=_SIZE_PX[1]
        )
        yield Picture(
            name=f"seed{seed}-{number}",
            pixels=made.pixels,
            truth=made.boundary[None],
            figures={_NUMBER: made.grain_number},
            facts=Facts(specimen=f"seed {seed} specimen {number}", mm_per_px=MM_PER_PX),
        )


class BoundaryJudge:
    """Holds lines and counts against the truth; see `benchmarks.judges.base.Judge`."""

    def __init__(self) -> None:
        self._found, self._edges = BoundaryFigures(), BoundaryFigures()
        self._published: list[float] = []
        self._numbers: list[float] = []

    def add(self, picture: Picture, raw: Any, message: Scored) -> None:  # noqa: ARG002  the message says it all
        """Count one micrograph."""
        result = boundary_result(message)
        lines, truth = result.lines.array() > 0, thinned(picture.truth[0])
        specimen = f"{picture.figures[_SPECIMEN]:g}" if _SPECIMEN in picture.figures else picture.name
        self._found.add(lines, truth, specimen)
        self._edges.add(edge_lines(picture.pixels), truth, specimen)
        if _PUBLISHED in picture.figures:
            self._published.append(clear_intercept_px(lines) / picture.figures[_PUBLISHED])
        number = next((each.grain_number for each in result.measures if each.procedure == "lines"), None)
        if _NUMBER in picture.figures and number is not None:
            self._numbers.append(number - picture.figures[_NUMBER])

    def figures(self) -> dict[str, float]:
        """All figures of the set; those against published lengths and counted numbers where the set knows any."""
        figures = self._found.compute()
        if self._published:
            errors = intercept_errors(self._published)
            figures |= {
                "published_error_percent": errors["intercept_error_percent"],
                "published_bias_percent": errors["intercept_bias_percent"],
            }
        if self._numbers:
            figures["number_mean_error_g"] = float(np.mean(np.abs(self._numbers)))
            figures["number_bias_g"] = float(np.mean(self._numbers))
        return figures

    def baseline(self) -> dict[str, float]:
        """Canny's edges."""
        return self._edges.compute()


def edge_lines(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(H, W) bool: Canny's edges, the strongest tenth of all pixels followed down to the strongest fifth."""
    from skimage.feature import canny

    if pixels.min() == pixels.max():  # its strongest tenth would be noise of the arithmetic
        return np.zeros(pixels.shape, np.bool_)
    edges = canny(pixels.astype(np.float64), sigma=_SIGMA_PX, low_threshold=0.8, high_threshold=0.9, use_quantiles=True)
    return np.asarray(edges, np.bool_)


def clear_intercept_px(lines: NDArray[np.bool_]) -> float:
    """Mean length between boundaries from edge to edge on a grid of lines, in px, as NIST's tools measure.

    Args:
        lines: (H, W) bool, one pixel wide; drawn `_PEN_PX` wide for this, as people draw them.
    """
    from scipy.ndimage import maximum_filter

    drawn = np.asarray(maximum_filter(lines, size=_PEN_PX), np.bool_)
    lengths = [clear_px(drawn, line) for line in line_grid((lines.shape[0], lines.shape[1]))]
    return float(np.concatenate(lengths).mean())


def open_judge(spec: ModelSpec) -> BoundaryJudge:  # noqa: ARG001  the message says it all
    """A judge of one set; see `benchmarks.judges.base.TaskJudge`."""
    return BoundaryJudge()
