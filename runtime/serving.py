"""What serves at a station, and what its loop asks of a change to another bundle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from runtime.errors import EngineError

if TYPE_CHECKING:
    from runtime.messages import Message
    from runtime.pipeline import Answerer


class Owned(Protocol):
    """Engines that belong to one thread at a time; see `runtime.engine.Engine`."""

    def hand_over(self) -> None:
        """Give the engines up: the next call is another thread's `take_over`.

        Raises:
            EngineError: A batch is on its way, or the device refuses.
        """
        ...

    def take_over(self) -> None:
        """Become the thread that owns the engines, after their last owner's `hand_over`.

        Raises:
            EngineError: They were not handed over, or the device refuses.
        """
        ...

    def close(self) -> None:
        """Free the engines; calling it again does nothing."""
        ...


E = TypeVar("E", bound=Owned)


@dataclass(slots=True)
class Serving(Generic[E]):
    """A bundle at work.

    Attributes:
        engines: What runs its graphs: a `runtime.pipeline.Pipeline` for frames of one size,
            `runtime.sized_engines.SizedEngines` for single pictures.
        answerer: Turns a frame's raw outputs into its message; keeps the state that passes from frame to frame.
    """

    engines: E
    answerer: Answerer


class Change(Protocol[E]):
    """A bundle that is ready to take over, or the news that one could not be made ready; see `runtime.swap`."""

    def take(self, old: Serving[E]) -> Serving[E]:
        """Called by the loop with nothing on its way: what serves from now on, which may be the old one.

        Raises:
            EngineError: Neither can serve any more.
        """
        ...

    def message(self, envelope: dict[str, Any], next_index: int | None) -> Message:
        """What is published of it, once it was taken."""
        ...

    def done(self, message: Message) -> None:
        """It was published."""
        ...


def take_over_all(engines: Iterable[Owned]) -> None:
    """Become the owner of all of some engines, or of none of them.

    Raises:
        EngineError: One could not be taken over; those before it were handed back.
    """
    taken: list[Owned] = []
    try:
        for each in engines:
            each.take_over()
            taken.append(each)
    except EngineError:
        for each in taken:
            each.hand_over()
        raise
