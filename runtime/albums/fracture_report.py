"""The report of one specimen on one page: photograph, what was rated, figure, verdict, and who said so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.albums.files import writing
from runtime.albums.fracture_picture import (
    BRITTLE_RGB,
    RATED_RGB,
    VERDICT_RGB,
    activation_levels,
    fracture_result,
    marked,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from runtime.messages import Overridden, Scored
    from runtime.scored import FractureResult

PAGE_INCHES = (8.27, 11.69)
"""A4, upright."""
_DPI = 130
_BESIDE_RATIO = 0.5
_INK, _FAINT = "#1f2328", "#6b7280"
_OTHER_SIDE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


def write_report(pixels: NDArray[np.uint8], message: Scored, path: Path, override: Overridden | None = None) -> None:
    """Write a specimen's report as PDF and, beside it, as PNG; the folder is made if it does not exist.

    Args:
        pixels: (H, W) uint8, the picture that was scored.
        message: What was said of it.
        path: Of the PDF.
        override: The operator's word on it, if there is one.

    Raises:
        ConfigError: The folder cannot be written.
    """
    figure = draw_report(pixels, message, override)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without the date of writing, the same message gives the same file.
        figure.savefig(path, format="pdf", metadata={"CreationDate": None})
        figure.savefig(path.with_suffix(".png"), format="png", dpi=_DPI)


def draw_report(pixels: NDArray[np.uint8], message: Scored, override: Overridden | None = None) -> Figure:
    """The page; a pure function of the picture and of what was said of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    result = fracture_result(message)
    figure = Figure(figsize=PAGE_INCHES, facecolor="white")
    FigureCanvasAgg(figure)
    # What is not much longer than high is larger beside its map, a long surface above it.
    upright = pixels.shape[0] > _BESIDE_RATIO * pixels.shape[1]
    photograph, chart = (
        ((0.07, 0.355, 0.41, 0.41), (0.52, 0.355, 0.41, 0.41))
        if upright
        else ((0.07, 0.58, 0.86, 0.20), (0.07, 0.33, 0.86, 0.20))
    )
    _heading(figure, message, override)
    for place, caption in (
        (photograph, ("Photograph, rated region in blue",)),
        (chart, ("Counted as brittle: orange; dotted: activation 0.25, 0.75", "Dimmed: not rated")),
    ):
        text = ("\n" if upright else ". ").join(caption)
        figure.text(place[0], place[1] + place[3] + 0.025, text, size=9, color=_INK, linespacing=1.4)
    _photograph(figure.add_axes(photograph), pixels, message, result)
    _map(figure.add_axes(chart), pixels, result)
    _gauge(figure.add_axes((0.12, 0.245, 0.76, 0.045)), message, result)
    _facts(figure, message, result)
    if override is not None:
        _operator(figure, override)
    return figure


def _rgb(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def _heading(figure: Figure, message: Scored, override: Overridden | None) -> None:
    """Title, specimen and the verdict that holds, in its colour."""
    verdict = message.verdict if override is None else override.verdict
    figure.text(0.07, 0.955, "Drop-weight tear test: fracture surface", size=15, weight="bold", color=_INK)
    name = message.facts.specimen or "unnamed specimen"
    figure.text(0.07, 0.930, _short(name, 60), size=12, color=_INK)
    by = f"{message.line} / {message.station}, run {message.run}, number {message.sequence}"
    figure.text(0.07, 0.910, f"{by}\n{message.captured_at}", size=8, color=_FAINT, va="top", linespacing=1.5)
    figure.text(
        0.93,
        0.938,
        verdict.upper() + ("" if override is None else "\nby operator"),
        size=15,
        weight="bold",
        color="white",
        ha="right",
        va="center",
        bbox={"boxstyle": "round,pad=0.5", "facecolor": _rgb(VERDICT_RGB[verdict]), "edgecolor": "none"},
    )
    headline = fracture_result(message).headline.replace("+-", "\N{PLUS-MINUS SIGN}")
    figure.text(0.07, 0.85, headline, size=17 if len(headline) < 40 else 11, weight="bold", color=_INK, wrap=True)


def _photograph(axes: Axes, pixels: NDArray[np.uint8], message: Scored, result: FractureResult) -> None:
    """The picture as it was taken, with the rated region, the sides and the scale."""
    from matplotlib.patches import Rectangle

    height, width = pixels.shape
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    box = result.rated_region
    if box is not None:
        corner = box.first_col - 0.5, box.first_row - 0.5
        size = box.stop_col - box.first_col, box.stop_row - box.first_row
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=_rgb(RATED_RGB), linewidth=1.6))
    side = message.facts.notch_side
    if side is not None:
        places = {
            "left": (-0.01, 0.5, 90, "right", "center"),
            "right": (1.01, 0.5, 90, "left", "center"),
            "top": (0.5, 1.01, 0, "center", "bottom"),
            "bottom": (0.5, -0.01, 0, "center", "top"),
        }
        for text, at in (("notch", side), ("hammer", _OTHER_SIDE[side])):
            x, y, turn, across, along = places[at]
            axes.text(x, y, text, rotation=turn, ha=across, va=along, size=8, color=_FAINT, transform=axes.transAxes)
    if message.facts.mm_per_px is not None:
        bar_px = 10.0 / message.facts.mm_per_px
        if bar_px < 0.9 * width:
            row = 0.95 * height
            axes.plot([0.03 * width, 0.03 * width + bar_px], [row, row], color="white", linewidth=3)
            axes.text(0.03 * width + bar_px / 2, row - 0.02 * height, "10 mm", color="white", size=7, ha="center")
    _bare(axes)


def _map(axes: Axes, pixels: NDArray[np.uint8], result: FractureResult) -> None:
    """What was counted as brittle, over the picture, and how sure the map is."""
    axes.imshow(marked(pixels, result))
    levels = activation_levels(result, (pixels.shape[0], pixels.shape[1])) / 255.0
    axes.contour(levels, levels=(0.25, 0.75), colors=[_rgb(BRITTLE_RGB)], linewidths=0.4, linestyles="dotted")
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _gauge(axes: Axes, message: Scored, result: FractureResult) -> None:
    """Shear and its interval on a scale from 0 to 100, with the line of acceptance."""
    limit = result.min_shear_percent
    axes.set(xlim=(0, 100), ylim=(0, 1))
    axes.axvspan(0, limit, color="#f6dedb", lw=0)
    axes.axvspan(limit, 100, color="#dcefe3", lw=0)
    axes.axvline(limit, color=_INK, linewidth=1)
    axes.text(limit, 1.1, f"accepted from {limit:g} %", ha="right", size=8, color=_INK)
    if result.shear_percent is None:
        axes.text(50, 0.5, "not rated", ha="center", va="center", size=10, color=_FAINT)
    else:
        shear, half = result.shear_percent, result.uncertainty_percent
        ends = max(0.0, shear - half), min(100.0, shear + half)
        axes.plot(
            ends, (0.5, 0.5), color=_rgb(VERDICT_RGB[message.verdict]), linewidth=7, alpha=0.35, solid_capstyle="butt"
        )
        axes.plot([shear], [0.5], "o", color=_rgb(VERDICT_RGB[message.verdict]), markersize=8)
    axes.set_yticks([])
    axes.set_xlabel("shear [%], with its 95 % interval", size=8, color=_INK)
    axes.tick_params(labelsize=8)
    for name in ("top", "left", "right"):
        axes.spines[name].set_visible(False)


def _facts(figure: Figure, message: Scored, result: FractureResult) -> None:
    """All figures and where they came from, in two columns."""
    facts, model = message.facts, message.model
    rated = "none" if result.rated_brittle_ratio is None else f"{100 * result.rated_brittle_ratio:.1f} %"
    decided = "" if result.decided_by == "figure" else ", by the lower end of the interval"
    left = (
        ("brittle, rated region", rated),
        ("brittle, whole surface", f"{100 * result.brittle_ratio:.1f} %"),
        ("95 % interval", f"\N{PLUS-MINUS SIGN} {result.uncertainty_percent:.1f} points"),
        ("station's verdict", message.verdict + decided),
        ("thickness", "not given" if facts.thickness_mm is None else f"{facts.thickness_mm:g} mm"),
        ("scale", "not given" if facts.mm_per_px is None else f"{facts.mm_per_px:.4g} mm/px"),
    )
    right = (
        ("model", f"{model.bundle} ({model.backend}, {model.precision})"),
        ("model digest", model.digest[:32]),
        ("", model.digest[32:]),
        ("picture", _short(message.source or "no file", 34)),
        ("picture digest", "none" if message.image_sha256 is None else message.image_sha256[:32]),
        ("", "" if message.image_sha256 is None else message.image_sha256[32:]),
    )
    _column(figure, 0.07, 0.175, left)
    _column(figure, 0.47, 0.175, right)


def _column(figure: Figure, x: float, top: float, rows: Sequence[tuple[str, str]]) -> None:
    for number, (name, value) in enumerate(rows):
        y = top - 0.0165 * number
        figure.text(x, y, name, size=8, color=_FAINT)
        figure.text(
            x + 0.155, y, value, size=8, color=_INK, family="monospace" if "digest" in name or not name else None
        )


def _operator(figure: Figure, override: Overridden) -> None:
    """Who decided otherwise, when and why."""
    text = (
        f"Verdict of the operator: {override.verdict} (the station said {override.verdict_before})\n"
        f"{_short(override.name, 60)}, {override.captured_at}\nReason: {_short(override.reason, 180)}"
    )
    style: dict[str, Any] = {"boxstyle": "round,pad=0.6", "facecolor": "#fff6df", "edgecolor": "#d6a419"}
    figure.text(0.08, 0.035, text, size=8, color=_INK, va="center", wrap=True, bbox=style, linespacing=1.5)


def _short(text: str, most: int) -> str:
    """The text, cut in its middle where it is longer than `most` characters.

    >>> _short("specimens/2026/a7-2.png", 12)
    'speci...2.png'
    """
    half = most // 2 - 1
    return text if len(text) <= most else f"{text[:half]}...{text[len(text) - half :]}"
