"""What `watch` writes: a line a message under a live header, or JSON lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from runtime.delivery.client import GapError, Received, Subscriber
from runtime.messages import (
    Inspected,
    Message,
    Missed,
    Overridden,
    RunEnded,
    RunStarted,
    Scored,
    Swapped,
    SwapRefused,
    json_of,
)
from runtime.watch.command import Show, Tally

SILENT_S = 3.0
"""A station that was not heard for so long is shown as silent; a good one is heard each second."""


_VERDICT_STYLES = {"accepted": "bold green", "rejected": "bold red"}


class Screen(Protocol):
    """Where `watch` writes."""

    def message(self, received: Received) -> None:
        """Write one message."""
        ...

    def gap(self, gap: GapError) -> None:
        """Write that messages are gone."""
        ...


class JsonLines:
    """Messages as on the wire, one a line, and nothing else."""

    def __init__(self, console: Console) -> None:
        self._file = console.file

    def message(self, received: Received) -> None:
        """Write one message, and let a pipe have it at once."""
        self._file.write(json_of(received.message).decode() + "\n")
        self._file.flush()

    def gap(self, gap: GapError) -> None:
        """Raise it: a program that reads the lines must not take what follows for the whole."""
        raise gap

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LiveScreen:
    """A line a message, and below the lines a header that stays: what was seen of the run so far."""

    def __init__(
        self, console: Console, tally: Tally, subscriber: Subscriber, show: Show, clock_s: Callable[[], float]
    ) -> None:
        self._tally = tally
        self._subscriber = subscriber
        self._show = show
        self._clock_s = clock_s
        self._live = Live(console=console, get_renderable=self._header, refresh_per_second=4)

    def message(self, received: Received) -> None:
        """Write one line, unless it is of a clean frame that nobody asked to see."""
        message = received.message
        if self._show == "defective" and isinstance(message, Inspected) and message.verdict == "clean":
            return
        self._live.console.print(line_of(received), highlight=False, soft_wrap=True)

    def gap(self, gap: GapError) -> None:
        """Write that messages are gone."""
        self._live.console.print(Text(str(gap), style="bold red"))

    def __enter__(self) -> LiveScreen:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def _header(self) -> Table:
        return header(self._tally, self._tally.rate_hz(self._clock_s()), self._subscriber.silence_s)


def header(tally: Tally, rate_hz: float, silence_s: float) -> Table:
    """The run so far, in one row."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    cells = {
        "station": Text(tally.station, style="bold"),
        "run": Text(tally.run or "-"),
        "frames": Text(f"{tally.frames:,}"),
        "missed": Text(f"{tally.missed:,}", style="bold red" if tally.missed else ""),
        "defects": Text(_counts(tally.defects) or "none"),
        "frames/s": Text(f"{rate_hz:.0f}"),
        "recovered": Text(f"{tally.recovered:,}", style="yellow" if tally.recovered else ""),
    }
    if tally.gone:
        cells["gone"] = Text(f"{tally.gone:,}", style="bold red")
    if silence_s > SILENT_S:
        cells["silent"] = Text(f"{silence_s:.0f} s", style="bold red")
    for name in cells:
        table.add_column(name, no_wrap=name != "defects")
    table.add_row(*cells.values())
    return table


def line_of(received: Received) -> Text:
    """One message in one line."""
    message = received.message
    line = Text.assemble((message.captured_at[11:23], "dim"), f"{message.sequence:>9}  ", *_words(message))
    if received.recovered:
        line.append("  recovered", style="yellow")
    return line


def _words(message: Message) -> list[str | tuple[str, str]]:
    match message:
        case RunStarted(model=model):
            named = f"{model.bundle} {model.digest[:8]} on {model.backend} {model.precision}"
            return [("run starts ", "bold"), f"{message.run}, camera {message.camera}, {named}"]
        case Inspected(defects=defects):
            style = "bold magenta" if message.verdict == "defective" else "green"
            place = "" if message.position_m is None else f"  {message.position_m:9.2f} m"
            found = _counts(Counter(defect.class_name for defect in defects))
            return [
                f"frame {message.frame_index:>8}{place}  ",
                (f"{message.verdict:<10}", style),
                f"gate {message.defect_probability:.2f}  {message.latency_ms.get('total', 0.0):6.1f} ms  {found}",
            ]
        case Scored(result=result):
            named = message.facts.specimen or message.source or f"picture {message.frame_index}"
            style = _VERDICT_STYLES.get(message.verdict, "")
            return [
                f"{named}  ",
                (f"{message.verdict:<10}", style),
                f"{result.headline}  {message.latency_ms.get('total', 0.0):6.1f} ms",
            ]
        case Overridden():
            style = _VERDICT_STYLES[message.verdict]
            named = message.specimen or f"message {message.scored_sequence}"
            return [
                f"{named}  ",
                (f"{message.verdict:<10}", style),
                f"by {message.name}, {message.verdict_before} in message {message.scored_sequence}: {message.reason}",
            ]
        case Swapped(model=model):
            named = f"{model.bundle} {model.digest[:8]} instead of {message.before.digest[:8]}"
            return [("bundle swapped ", "bold"), f"{named}, asked by {message.name}. {message.reason}"]
        case SwapRefused():
            asked = f"{message.bundle}, asked by {message.name}; {message.model.digest[:8]} serves on: {message.detail}"
            return [("swap refused ", "bold red"), asked]
        case Missed(source=source) if source:
            return [f"{Path(source).name}  ", ("missed", "bold red"), f": {message.reason} {message.detail}"]
        case Missed():
            frames = f"frames {message.first_index} to {message.stop_index - 1} "
            return [(f"{frames}missed", "bold red"), f": {message.reason} {message.detail}"]
        case RunEnded(coverage=coverage):
            books = f"{coverage.frames_inspected} of {coverage.frames_expected} frames inspected"
            style = "bold" if coverage.complete else "bold red"
            state = "complete" if coverage.complete else "incomplete"
            return [
                (f"run {message.reason} ", style),
                f"{message.run}, {books}, {coverage.frames_missed} missed, {state}. {_counts(message.defects)}",
            ]
        case _:
            return [message.kind]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
