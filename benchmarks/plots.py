"""The pictures of the reports; matplotlib is loaded only when one is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.latency import LatencyReport, LatencyRow

INK, GRID = "#22313f", "#d5dbe1"
COLOURS = ("#1b6ca8", "#e08e0b", "#3a9d5d", "#a23b72", "#5c677d", "#c8553d")
DPI = 120


def panels(count: int, width_in: float = 5.2, height_in: float = 3.8) -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes side by side, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in * count, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, count, place + 1) for place in range(count)]
    for axis in axes:
        axis.grid(color=GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(colors=INK)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG into a folder, which is made if it is absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)


def plot_latency(report: LatencyReport, path: Path) -> None:
    """Milliseconds a frame against the batch: p50 as a line, a whisker to p99, a panel for each graph."""
    by_graph: dict[str, list[LatencyRow]] = {}
    for row in report.rows:
        by_graph.setdefault(row.graph, []).append(row)
    figure, axes = panels(len(by_graph))
    for axis, (graph, rows) in zip(axes, by_graph.items(), strict=True):
        _plot_graph(axis, rows)
        axis.set_title(f"{graph}: {rows[0].architecture}, {rows[0].height_px}x{rows[0].width_px}", color=INK)
    axes[0].set_ylabel("ms a frame: p50, whisker to p99", color=INK)
    figure.suptitle(report.machine.heading, fontsize=7, color=INK)
    save(figure, path)


def _plot_graph(axis: Axes, rows: Sequence[LatencyRow]) -> None:
    batches = sorted({row.batch for row in rows})
    backends = list(dict.fromkeys(row.backend for row in rows))
    for backend, colour in zip(backends, COLOURS, strict=False):
        own = sorted((row for row in rows if row.backend == backend), key=lambda row: row.batch)
        middle = [row.frame_ms.p50 for row in own]
        reach = [row.frame_ms.p99 - row.frame_ms.p50 for row in own]
        axis.errorbar(
            [row.batch for row in own],
            middle,
            yerr=[[0.0] * len(own), reach],
            marker="o",
            capsize=3,
            color=colour,
            label=f"{backend}, {own[0].precision}",
        )
    axis.set_xscale("log", base=2)
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("frames in a batch", color=INK)
    axis.legend(frameon=False)
