"""A latency report as a picture: milliseconds a frame against the batch, or of one batch, network below network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from benchmarks.latency.report import LatencyReport, LatencyRow
from benchmarks.plots import COLOURS, INK, TARGET, log_scale, panel_grid, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4
"""Most panels side by side."""
MOST_ABOVE = 4.0
"""A panel reaches so many times as high as its highest p50, at most."""
MARKERS: Mapping[str, str] = MappingProxyType(
    {
        "torch eager, bf16": "x",
        "torch eager, fp16": "*",
        "torch eager, fp32": "+",
        "torch compiled, bf16": "1",
        "torch compiled, fp16": "2",
        "torch compiled, fp32": "3",
    }
)
"""Of what is held against an engine, the same in every panel."""


def plot_latency(report: LatencyReport, path: Path) -> None:
    """p50 with a whisker to p99 for each backend, and a mark for everything that was held against it.

    A panel for each network, with a line over the batches; of a report of one batch, one panel with a row for each.
    """
    by_network: dict[tuple[str, int, int], list[LatencyRow]] = {}
    for row in report.rows:
        by_network.setdefault((row.title, row.height_px, row.width_px), []).append(row)
    batches = {row.batch for row in report.rows}
    if len(batches) == 1 and len(by_network) > 1:
        figure, (axis,) = panel_grid(1, 1, 11.0, 1.6 + 0.32 * len(by_network))
        _plot_rows(axis, by_network)
        axis.set_xlabel(f"ms a frame, batches of {batches.pop()}: p50, whisker to p99", color=INK)
    else:
        figure, axes = panel_grid(len(by_network), COLUMNS)
        for axis, ((title, height_px, width_px), rows) in zip(axes, by_network.items(), strict=True):
            _plot_network(axis, rows)
            axis.set_title(f"{title}\n{height_px}x{width_px}, {rows[0].parameters / 1e6:.1f} M", color=INK, fontsize=9)
        for axis in axes[::COLUMNS]:
            axis.set_ylabel("ms a frame: p50, whisker towards p99", color=INK)
    threads = "" if report.plan.threads is None else f"; CPU threads {report.plan.threads}"
    load = f"at the end {report.after.load_average[0]:.2f}"
    figure.suptitle(f"{report.machine.heading}, {load}{threads}", fontsize=8, color=INK)
    save(figure, path)


def _plot_rows(axis: Axes, by_network: Mapping[tuple[str, int, int], Sequence[LatencyRow]]) -> None:
    """A row for each network, on a logarithmic axis, so that factors can be compared across networks."""
    rows = [(place, row) for place, rows in enumerate(by_network.values()) for row in rows]
    engines = list(dict.fromkeys((row.backend, row.precision) for _, row in rows))
    for number, engine in enumerate(engines):
        own = [(place, row.frame_ms) for place, row in rows if (row.backend, row.precision) == engine]
        axis.errorbar(
            [spread.p50 for _, spread in own],
            [place for place, _ in own],
            xerr=[[0.0] * len(own), [spread.p99 - spread.p50 for _, spread in own]],
            marker="o",
            linestyle="none",
            capsize=3,
            color=COLOURS[number % len(COLOURS)],
            label=", ".join(engine),
        )
    first = [(place, row) for place, row in rows if (row.backend, row.precision) == engines[0]]
    for name, marker in MARKERS.items():
        points = [(each.p50_ms / row.batch, place) for place, row in first for each in row.rivals if each.name == name]
        if points:
            axis.plot(*zip(*points, strict=True), marker, color=INK, linestyle="none", label=name)
    published = [(row.published.latency_ms, place) for place, row in first if row.published is not None]
    if published:
        axis.plot(*zip(*published, strict=True), "D", color=TARGET, linestyle="none", label="the paper's, on its GPU")
    log_scale(axis, "x")
    axis.margins(y=0.5 / len(by_network))
    axis.set_yticks(range(len(by_network)), [f"{title}, {height}x{width}" for title, height, width in by_network])
    axis.invert_yaxis()
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _plot_network(axis: Axes, rows: Sequence[LatencyRow]) -> None:
    batches = sorted({row.batch for row in rows})
    engines = list(dict.fromkeys((row.backend, row.precision) for row in rows))
    for number, engine in enumerate(engines):
        own = sorted((row for row in rows if (row.backend, row.precision) == engine), key=lambda row: row.batch)
        middle = [row.frame_ms.p50 for row in own]
        reach = [row.frame_ms.p99 - row.frame_ms.p50 for row in own]
        axis.errorbar(
            [row.batch for row in own],
            middle,
            yerr=[[0.0] * len(own), reach],
            marker="o",
            capsize=3,
            color=COLOURS[number % len(COLOURS)],
            label=", ".join(engine),
        )
    # Torch is the same beside every backend of a device: the first one's turns stand for all.
    first = [row for row in rows if (row.backend, row.precision) == engines[0]]
    for name, marker in MARKERS.items():
        points = [(row.batch, rival.p50_ms / row.batch) for row in first for rival in row.rivals if rival.name == name]
        if points:
            axis.plot(*zip(*points, strict=True), marker, color=INK, label=name)
    published = next((row.published for row in rows if row.published is not None), None)
    if published is not None:
        axis.axhline(published.latency_ms, color=TARGET, linestyle="--", label=f"paper: {published.latency_ms:g} ms")
    axis.set_xscale("log", base=2)
    axis.margins(x=0.12)
    axis.set_xticks(batches, [str(batch) for batch in batches])
    # A single late batch may lift a p99 far above all else: its whisker then leaves the panel.
    highest = max(
        time_ms for row in rows for time_ms in (row.frame_ms.p50, *(r.p50_ms / row.batch for r in row.rivals))
    )
    axis.set_ylim(0, min(axis.get_ylim()[1], MOST_ABOVE * highest))
    axis.set_xlabel("frames in a batch", color=INK)
    axis.legend(frameon=False, fontsize=7)
