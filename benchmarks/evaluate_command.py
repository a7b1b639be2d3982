"""`ferrosight evaluate`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmarks.command_parts import BackendOption, JsonOption, PrecisionOption, ThreadsOption, report_console, tell

if TYPE_CHECKING:
    from benchmarks.evaluation_data import EvaluationSet


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A bundle of any task.")],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=PATH",
            help="synthetic=SEED[:PICTURES], or a dataset that the task reads, such as severstal=FOLDER; repeatable.",
        ),
    ],
    part: Annotated[
        Literal["test", "validation", "train", "all"],
        typer.Option(help="Which part of a dataset, split as the bundle's recipes split it."),
    ] = "test",
    backend: BackendOption = "openvino",
    precision: PrecisionOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Most frames in a batch; the figures do not depend on it.")] = 8,
    threads: ThreadsOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the JSON and the Markdown table; unset: only printed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How right a bundle is, against the truth and beside a trivial answer, in the units of its task.

    The exported graphs and the line's own heads are judged, not the network that was trained. For a strip: gate, masks
    and defects, with its gate and without; beside the competition's Dice stand the Dice of an empty answer and the
    Dice over frames with defects alone.
    """
    from benchmarks.accuracy import AccuracyPlan, accuracy_markdown
    from benchmarks.accuracy import evaluate as judge
    from benchmarks.picture_accuracy import evaluate_pictures, picture_markdown
    from runtime.spec import read_spec

    plan = AccuracyPlan(tuple(data), part, backend, precision, batch, threads)
    with _frames_progress(quiet=as_json) as advance:
        if read_spec(bundle).task == "strip":
            frames = judge(bundle, plan, advance)
            report_json, markdown = frames.to_json(), accuracy_markdown(frames)
        else:
            pictures = evaluate_pictures(bundle, plan, advance)
            report_json, markdown = pictures.to_json(), picture_markdown(pictures)
    tell(report_json, markdown, out, "evaluate", as_json=as_json)


@contextlib.contextmanager
def _frames_progress(*, quiet: bool) -> Iterator[Callable[[EvaluationSet, int], None]]:
    """A bar for each set; gives what is to be called with a set and the frames that were judged."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[tuple[str, str], TaskID] = {}
    with Progress(*columns, console=report_console(), disable=quiet) as progress:

        def advance(data: EvaluationSet, frames: int) -> None:
            key = (data.kind, data.source)
            if key not in tasks:
                tasks[key] = progress.add_task(data.kind, total=data.count)
            progress.update(tasks[key], advance=frames)

        yield advance
