"""`ferrosight bench cascade`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.errors import ConfigError


def cascade(
    first: Annotated[Path, typer.Argument(metavar="A", help="A strip bundle.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The one that may take its place.")],
    defective_percent: Annotated[
        float, typer.Option(min=0, max=100, help="Share of the frames that have a defect.")
    ] = 5.0,
    backend: Annotated[str, typer.Option(help="Inference backend.")] = "openvino",
    threads: Annotated[str, typer.Option(help="CPU threads of an engine, with commas between.")] = "1,2",
    batch: Annotated[str, typer.Option(help="Batches, with commas between.")] = "1,8",
    frames: Annotated[int, typer.Option(min=1, help="Different frames, shown in every turn.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Which synthetic strip.")] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of B; the median counts.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder for the JSON and the Markdown table.")] = Path("out/bench"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Two strip bundles through the line's own cascade, in turns: frames a second, and whether they decide alike."""
    from rich.console import Console

    from benchmarks.report import write_report
    from benchmarks.rival_cascades import RivalPlan, measure_rivals, rivals_markdown

    plan = RivalPlan(
        backend=backend,
        threads=_numbers("--threads", threads),
        batches=_numbers("--batch", batch),
        frames=frames,
        defective_percent=defective_percent,
        seed=seed,
        rounds=rounds,
    )
    console = Console(stderr=True, quiet=as_json)
    report = measure_rivals(first, second, plan, console.print)
    write_report(out, "cascade", report.to_json(), rivals_markdown(report))
    typer.echo(report.to_json() if as_json else rivals_markdown(report))


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """From `1,2` to numbers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"{option} {text!r}: expected whole numbers from 1 up with commas between, such as 1,2.")
    return tuple(dict.fromkeys(map(int, parts)))
