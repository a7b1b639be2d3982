"""How the commands of this folder show what they are doing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from export.time_left import in_words

if TYPE_CHECKING:
    from rich.console import Console

    from export.to_tensorrt import BuildState


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is done, with the time left, on standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield report


@contextmanager
def building(console: Console | None = None) -> Iterator[Callable[[BuildState], None]]:
    """How far a build of plans has come, and about how long it will take: one line that changes, gone at the end.

    Where nobody looks at a terminal, it is a line of plain text for each plan.

    Args:
        console: Where it is shown; None takes standard error.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    shown = Console(stderr=True) if console is None else console
    if not shown.is_terminal:
        yield _line_for_each_plan(shown)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=shown, transient=True) as progress:
        task = progress.add_task("reading", total=None, left="")

        def report(state: BuildState) -> None:
            description = f"{_which(state)}: {state.phase}"
            progress.update(
                task, description=description, completed=state.done, total=state.steps, left=in_words(state.left_s)
            )

        yield report


def _line_for_each_plan(console: Console) -> Callable[[BuildState], None]:
    said: set[int] = set()

    def report(state: BuildState) -> None:
        if state.number not in said:
            said.add(state.number)
            left = in_words(state.left_s)
            console.print(f"building {_which(state)}{left and f', {left}'}", highlight=False, soft_wrap=True)

    return report


def _which(state: BuildState) -> str:
    return state.role if state.count == 1 else f"{state.role} ({state.number} of {state.count})"
