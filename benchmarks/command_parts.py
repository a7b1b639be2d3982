"""What the measuring commands have in common: options, progress, and how a report is told."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

BackendOption = Annotated[str, typer.Option(help="Inference backend.")]
PrecisionOption = Annotated[
    Literal["fp32", "fp16", "int8", "fp8"] | None,
    typer.Option(help="Which files are run; unset: the bundle's preference."),
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of an engine; unset: the backend's choice.")
]
OutOption = Annotated[Path, typer.Option(help="Folder for the JSON, the Markdown table and the plot.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def tell(report_json: str, markdown: str, out: Path | None, name: str, *, as_json: bool) -> None:
    """Print the report, as JSON or for people, and write both where a folder is given."""
    from benchmarks.report import write_report

    if out is not None:
        write_report(out, name, report_json, markdown)
    typer.echo(report_json if as_json else markdown)


def report_console() -> Console:
    """Where progress goes: never between the lines of a report."""
    from rich.console import Console

    return Console(stderr=True)


@contextlib.contextmanager
def step_progress(steps: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A bar over steps, in a log a line for each; gives what is to be called when a step begins."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = report_console()
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("opening", total=steps, completed=-1)
        begun = itertools.count(1)

        def begin(doing: str) -> None:
            progress.update(task, description=doing, advance=1)
            if not (quiet or console.is_terminal):
                typer.echo(f"{min(next(begun), steps)}/{steps} {doing}", err=True)

        yield begin
        begin("done")
