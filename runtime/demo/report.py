"""The demo's last screen: what a person reads when the strip has passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.strip_map import CLASS_COLOURS

if TYPE_CHECKING:
    from rich.console import Console

STAGES = {
    "wait": "in the ring, until its batch began",
    "gate": "is there a defect at all?",
    "segment": "which pixels, which class",
    "decide": "pixels to defects to verdict",
    "total": "end of exposure to result",
}
"""What each stage of a frame's latency is, in words."""


def show_summary(summary: dict[str, Any], console: Console) -> None:
    """Print the summary of a demo run as two tables and a sentence on coverage."""
    from rich.panel import Panel
    from rich.table import Table

    console.print()
    console.print(
        Panel.fit(
            f"[bold]{summary['strip_m']:.0f} m of strip at {summary['line_speed_mps']:g} m/s[/bold]   "
            f"{summary['throughput_fps']:.1f} frames/s of 256x1600   "
            f"{summary['bundle']} on {summary['backend']} ({summary['precision']})",
            border_style="blue",
        )
    )
    books = Table(show_header=False, box=None, padding=(0, 2))
    books.add_column(style="bold")
    books.add_column(justify="right")
    books.add_column(style="dim")
    missed = summary["frames_missed"]
    whole = summary["coverage_complete"] and not missed
    books.add_row("frames grabbed", str(summary["frames_grabbed"]), "by the camera's own counter")
    books.add_row("inspected", str(summary["frames_inspected"]), "each answered exactly once")
    books.add_row("missed", _mark(str(missed), whole), "nobody looked at these; each is named in a message")
    books.add_row("defects planted", str(summary["defects_planted"]))
    share = summary["defects_found"] / summary["defects_planted"] if summary["defects_planted"] else 1.0
    books.add_row(
        "found",
        _mark(f"{summary['defects_found']} ({share:.1%})", share >= 0.95),
        f"{summary['defects_right_class']} of them under the right class",
    )
    alarms, clean = summary["false_alarms_on_clean_frames"], summary["frames_clean"]
    books.add_row(
        "false alarms",
        _mark(str(summary["false_alarms"]), alarms * 200 <= max(clean, 200)),
        f"{alarms} of them on the {clean} frames of clean steel",
    )
    books.add_row(
        "messages",
        _mark(str(summary["messages_received"]), summary["messages_received"] == summary["messages_published"]),
        f"received of {summary['messages_published']} published, {summary['messages_recovered']} through the replay",
    )
    console.print(books)
    stages = Table(title="latency of a frame [ms]", title_justify="left", box=None, padding=(0, 2))
    stages.add_column("stage", style="bold")
    stages.add_column("p50", justify="right")
    stages.add_column("p99", justify="right")
    stages.add_column("", style="dim")
    for stage, figures in summary["latency_ms"]["stages"].items():
        stages.add_row(stage, f"{figures['p50']:.1f}", f"{figures['p99']:.1f}", STAGES.get(stage, ""))
    console.print(stages)
    for class_id, counts in summary["by_class"].items():
        colour = CLASS_COLOURS[(int(class_id) - 1) % len(CLASS_COLOURS)]
        bar = "●" * counts["found"] + "○" * (counts["planted"] - counts["found"])
        console.print(f"  class {class_id}  [{colour}]{bar}[/]  {counts['found']}/{counts['planted']}", highlight=False)
    console.print(
        f"\nThe strip from above: [cyan]{summary['strip_map']}[/]\n"
        f"Frames with defects:  [cyan]{summary['pictures']}[/]\n"
        "All figures:          [cyan]summary.json[/] beside them; the messages are in journal.sqlite.\n"
    )


def _mark(text: str, good: bool) -> str:
    return f"[green]{text}[/]" if good else f"[bold red]{text}[/]"
