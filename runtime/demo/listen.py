"""What the demo hears of its station: a subscriber like any other, with a line of live progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.delivery.client import Subscriber
from runtime.demo.settings import STATION
from runtime.errors import EngineError
from runtime.messages import Inspected, Missed, RunEnded, RunStarted

if TYPE_CHECKING:
    from rich.console import Console

SILENCE_S = 60.0


@dataclass(slots=True)
class Heard:
    """What the subscriber received."""

    inspected: list[Inspected] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)
    started: RunStarted | None = None
    ended: RunEnded | None = None
    messages: int = 0
    recovered: int = 0


def listen(
    frames: int,
    endpoints: Mapping[str, str],
    is_alive: Callable[[], bool],
    last_words: Callable[[], str],
    console: Console,
) -> Heard:
    """Subscribe until the run has ended, with a line of live progress.

    Args:
        frames: Of the whole run.
        endpoints: Of the station.
        is_alive: Whether the station still runs.
        last_words: What it said before it went, for the error's text.
        console: Where progress is shown.

    Raises:
        EngineError: The station ended early or fell silent.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    heard = Heard()
    columns = (
        TextColumn("[bold]strip"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames  {task.fields[live]}"),
        TimeRemainingColumn(),
    )
    with (
        Progress(*columns, console=console) as progress,
        Subscriber(endpoints["publish"], endpoints["replay"], station=STATION) as subscriber,
    ):
        task = progress.add_task("strip", total=frames, live="waiting for the first frame")
        quiet_s = 0.0
        while heard.ended is None:
            received = subscriber.receive(timeout_s=0.5)
            if received is None:
                quiet_s += 0.5
                if not is_alive() or quiet_s > SILENCE_S:
                    raise EngineError(last_words())
                continue
            quiet_s = 0.0
            heard.messages += 1
            heard.recovered += received.recovered
            _file(heard, received.message)
            progress.update(task, completed=len(heard.inspected), live=_live(heard))
    return heard


def _file(heard: Heard, message: object) -> None:
    """Put one message where it belongs."""
    match message:
        case Inspected():
            heard.inspected.append(message)
        case Missed():
            heard.missed.append(message)
        case RunStarted():
            heard.started = message
        case RunEnded():
            heard.ended = message
        case _:
            raise TypeError(f"a message of a kind that the demo does not know: {type(message).__name__}")


def _live(heard: Heard) -> str:
    last = heard.inspected[-1] if heard.inspected else None
    if last is None:
        return "waiting for the first frame"
    lost = sum(m.stop_index - m.first_index for m in heard.missed)
    defective = sum(m.verdict == "defective" for m in heard.inspected)
    place = f"{last.position_m:6.1f} m  " if last.position_m is not None else ""
    return f"{place}{defective} defective  {lost} missed  {last.latency_ms['total']:.0f} ms"
