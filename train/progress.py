"""What a training tells the person who waits for it."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Report(Protocol):
    """Told by the fit loop how far it is."""

    def start(self, steps: int, done: int) -> None:
        """All steps of the training, and those done before a resume."""
        ...

    def step(self, loss: float) -> None:
        """One batch learnt."""
        ...

    def epoch(self, row: dict[str, float], *, best: bool) -> None:
        """One epoch learnt and perhaps validated."""
        ...


class Silent:
    """Says nothing; for tests, and for all processes but the first."""

    def start(self, steps: int, done: int) -> None:
        """Nothing."""

    def step(self, loss: float) -> None:
        """Nothing."""

    def epoch(self, row: dict[str, float], *, best: bool) -> None:
        """Nothing."""


class Bar:
    """A progress bar with the time left, and a line an epoch; on standard error, so that `--json` stays clean."""

    def __init__(self, title: str) -> None:
        self._console = Console(stderr=True, soft_wrap=True)
        self._progress = Progress(
            TextColumn(f"[bold]{title}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start(self, steps: int, done: int) -> None:
        """Draw the bar."""
        self._task = self._progress.add_task("", total=steps, completed=done, loss=float("nan"))

    def step(self, loss: float) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(self._task, advance=1, loss=loss)

    def epoch(self, row: dict[str, float], *, best: bool) -> None:
        """Print the epoch's figures above the bar."""
        shown = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key not in ("epoch", "phase"))
        self._console.print(f"epoch {row['epoch']:.0f}  {shown}{'  [green]best[/]' if best else ''}", highlight=False)
