"""The strip from above: what was planted, what was found, what nobody saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CLASS_COLOURS = ("#d1495b", "#2e9e4f", "#2f6fde", "#e0a100", "#8e44ad", "#0fa3b1")
"""One colour a class, in the order of the class ids; told apart also in grey and by the colour-blind."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One defect on the map.

    Attributes:
        class_id: 1-based class.
        along_m: Middle of the defect along the strip.
        across_mm: Middle of the defect across the strip.
        length_m: Extent along the strip.
        width_mm: Extent across the strip.
        state: `found` (planted and found), `missed` (planted, not found) or `false_alarm` (not planted).
    """

    class_id: int
    along_m: float
    across_mm: float
    length_m: float
    width_mm: float
    state: str


def draw_strip_map(
    path: Path,
    planted: Sequence[Mark],
    found: Sequence[Mark],
    *,
    class_names: Sequence[str],
    length_m: float,
    width_mm: float,
    not_inspected_m: Sequence[tuple[float, float]] = (),
    title: str = "",
) -> None:
    """Write the map as PNG: boxes are planted defects, filled dots what was found, in stretches of the strip.

    Args:
        path: Where the picture goes.
        planted: What truly lies on the strip; state `found` or `missed`.
        found: What was reported; state `found` or `false_alarm`.
        class_names: Names by class id - 1.
        length_m: Length of the strip.
        width_mm: Width of the picture across the strip.
        not_inspected_m: Stretches (first, stop) in metres that nobody saw.
        title: A line above the map.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch, Rectangle

    rows = max(1, min(6, math.ceil(length_m / 12.0)))
    per_row_m = length_m / rows
    figure = Figure(figsize=(15, 1.5 + 1.75 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for row, axis in enumerate(axes):
        first, stop = row * per_row_m, (row + 1) * per_row_m
        axis.set(xlim=(first, stop), ylim=(width_mm, 0))
        axis.set_facecolor("#eceae6")
        axis.tick_params(labelsize=8)
        axis.set_ylabel("across [mm]", fontsize=8)
        for begin, end in not_inspected_m:
            if begin < stop and end > first:
                axis.axvspan(begin, end, facecolor="#bbbbbb", edgecolor="#555555", hatch="///", lw=0)
        for mark in planted:
            if first <= mark.along_m < stop:
                # A defect of a few centimetres would vanish on 12 m of paper: no box under a visible size.
                long = max(mark.length_m, per_row_m / 130)
                wide = max(mark.width_mm, width_mm / 14)
                missed = mark.state == "missed"
                axis.add_patch(
                    Rectangle(
                        (mark.along_m - long / 2, mark.across_mm - wide / 2), long, wide, fill=False,
                        ec="#c00000" if missed else _colour(mark.class_id), lw=2.6 if missed else 1.3,
                        ls=(0, (2, 1)) if missed else "-",
                    )
                )  # fmt: skip
        for state, marker, size in (("found", "o", 26), ("false_alarm", "X", 60)):
            shown = [m for m in found if m.state == state and first <= m.along_m < stop]
            if shown:
                axis.scatter(
                    [m.along_m for m in shown], [m.across_mm for m in shown], marker=marker, s=size,
                    c=[_colour(m.class_id) for m in shown], edgecolors="black" if state != "found" else "none",
                    zorder=3,
                )  # fmt: skip
    axes[-1].set_xlabel("along the strip [m]", fontsize=9)
    handles: list[Patch | Line2D] = [
        Patch(color=_colour(k + 1), label=f"{k + 1} {name}") for k, name in enumerate(class_names)
    ]
    handles += [
        Patch(fill=False, ec="#444444", label="planted"),
        Line2D([], [], marker="o", ls="", color="#444444", label="found"),
        Patch(fill=False, ec="#c00000", ls=(0, (2, 1)), lw=2.4, label="planted, not found"),
        Line2D([], [], marker="X", ls="", mfc="#888888", mec="black", ms=9, label="false alarm"),
        Patch(facecolor="#bbbbbb", hatch="///", ec="#555555", label="not inspected"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
    if title:
        figure.suptitle(title, fontsize=12, fontweight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _colour(class_id: int) -> str:
    return CLASS_COLOURS[(class_id - 1) % len(CLASS_COLOURS)]
