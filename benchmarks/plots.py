"""The pictures of the reports; matplotlib is loaded only when one is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.line_speed import LineSpeedReport
    from benchmarks.overhead_report import AddedLatency, CascadeOverhead, NullLine, OverheadReport

INK, GRID = "#22313f", "#d5dbe1"
TARGET = "#c8553d"
COLOURS = ("#1b6ca8", "#e08e0b", "#3a9d5d", "#a23b72", "#5c677d")
DPI = 120


def panels(count: int, width_in: float = 5.2, height_in: float = 3.8) -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes side by side, drawn without a display."""
    return panel_grid(count, count, width_in, height_in)


def panel_grid(
    count: int, most_columns: int, width_in: float = 5.2, height_in: float = 3.8
) -> tuple[Figure, list[Axes]]:
    """The same in rows of at most so many."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(count, most_columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(width_in * columns, height_in * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for axis in axes:
        axis.grid(color=GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(colors=INK)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def log_scale(axis: Axes, which: Literal["x", "y"], subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """A logarithmic axis with plain numbers at these multiples of each power of ten."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set(**{f"{which}scale": "log"})
    scale = axis.xaxis if which == "x" else axis.yaxis
    scale.set_major_locator(LogLocator(subs=subs))
    scale.set_major_formatter("{x:g}")
    scale.set_minor_locator(NullLocator())


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG into a folder, which is made if it is absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)


def plot_line_speed(report: LineSpeedReport, path: Path) -> None:
    """Latency against load: p50 and p99 by the speed of the strip, the deadline dashed, missed frames crossed out."""
    figure, (axis,) = panels(1, 8.6, 4.2)
    rows = [row for row in report.rows if row.latency_ms is not None]
    speeds = [row.speed_mps for row in rows]
    for name, colour in zip(("p50", "p99"), COLOURS, strict=False):
        axis.plot(speeds, [getattr(row.latency_ms, name) for row in rows], "o-", color=colour, label=name)
    lost = [row for row in rows if row.missed]
    if lost:
        worst = [row.latency_ms.p99 for row in lost if row.latency_ms is not None]
        axis.plot([row.speed_mps for row in lost], worst, "x", color=TARGET, markersize=12, label="frames missed")
    axis.axhline(
        report.plan.deadline_ms, color=TARGET, linestyle="--", label=f"deadline {report.plan.deadline_ms:g} ms"
    )
    if report.highest_mps is not None:
        axis.axvline(report.highest_mps, color=INK, linestyle=":", label=f"holds up to {report.highest_mps:g} m/s")
    log_scale(axis, "x", tuple(range(1, 10)))
    log_scale(axis, "y")
    axis.set_xlabel("speed of the strip, m/s", color=INK)
    axis.set_ylabel("exposure to message, ms", color=INK)
    axis.set_title(f"{report.bundle.name} on {report.plan.backend}", color=INK)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(report.machine.heading, fontsize=7, color=INK)
    save(figure, path)


def plot_overhead(report: OverheadReport, path: Path) -> None:
    """A panel for each question that was asked, with its target as a dashed line."""
    answers: list[tuple[Callable[[Axes, Any], None], object]] = [
        (draw, answer)
        for draw, answer in (
            (_plot_cascade, report.cascade),
            (_plot_null_line, report.null_line),
            (_plot_added_latency, report.added_latency),
        )
        if answer is not None
    ]
    figure, axes = panels(len(answers))
    for axis, (draw, answer) in zip(axes, answers, strict=True):
        draw(axis, answer)
    figure.suptitle(report.machine.heading, fontsize=7, color=INK)
    save(figure, path)


def _plot_cascade(axis: Axes, answer: CascadeOverhead) -> None:
    axis.plot(range(1, len(answer.ratios) + 1), answer.ratios, "o", color=COLOURS[0], label="one turn")
    axis.axhline(answer.ratio, color=COLOURS[0], label="median")
    if answer.ratio_interval is not None:
        axis.axhspan(*answer.ratio_interval, color=COLOURS[0], alpha=0.2, linewidth=0, label="95 % interval")
    axis.axhline(answer.target_ratio, color=TARGET, linestyle="--", label=f"target: {answer.target_ratio:g}")
    axis.set_ylim(0, max(1.15, 1.15 * max(answer.ratios)))
    axis.set_xlabel("turns, in the order they ran", color=INK)
    axis.set_ylabel("line / bare engines before and after it", color=INK)
    axis.set_title(f"line / bare engines = {answer.ratio:.3f}", color=INK)
    axis.legend(frameon=False, loc="lower left", ncols=2)


def _plot_null_line(axis: Axes, answer: NullLine) -> None:
    axis.bar(range(1, len(answer.line_fps) + 1), answer.line_fps, color=COLOURS[0], width=0.6)
    axis.axhline(answer.target_fps, color=TARGET, linestyle="--", label=f"target: {answer.target_fps:,.0f}")
    axis.set_ylim(0, 1.25 * max(answer.target_fps, *answer.line_fps))
    axis.set_xticks(range(1, len(answer.line_fps) + 1))
    axis.set_xlabel("run", color=INK)
    axis.set_ylabel("frames/s", color=INK)
    axis.set_title(f"null engine: {answer.fps:,.0f} frames/s", color=INK)
    axis.legend(frameon=False, loc="upper left")


def _plot_added_latency(axis: Axes, answer: AddedLatency) -> None:
    spread = answer.latency_ms.model_dump()
    bars = axis.bar(list(spread), list(spread.values()), color=COLOURS[0], width=0.6)
    axis.bar_label(bars, fmt="%.3f", color=INK)
    for place, name in enumerate(spread):
        if name in answer.target_ms:
            axis.plot([place - 0.4, place + 0.4], [answer.target_ms[name]] * 2, "--", color=TARGET)
    log_scale(axis, "y")
    axis.set_ylim(min(spread.values()) / 2, 2 * max(*spread.values(), *answer.target_ms.values()))
    axis.set_ylabel("ms, dashed: target", color=INK)
    axis.set_title(f"added latency at {answer.rate_hz:,.0f} frames/s", color=INK)
