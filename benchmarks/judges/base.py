"""What a judge of a task is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from benchmarks.evaluation_data import Picture
    from runtime.messages import Scored
    from runtime.spec import ModelSpec


class Judge(Protocol):
    """Holds the answers to one set of pictures against their truth."""

    def add(self, picture: Picture, raw: Any, message: Scored) -> None:
        """Count one picture.

        Args:
            picture: With its truth.
            raw: What the task's pipeline gave for it; borrowed for this call alone.
            message: What the head said of it, as the line would publish it.
        """
        ...

    def figures(self) -> dict[str, float]:
        """All figures of the set, by name, with the unit as suffix."""
        ...

    def baseline(self) -> dict[str, float]:
        """The same figures, where they make sense, of the trivial answer that the task's `BASELINE` names."""
        ...


class TaskJudge(Protocol):
    """What a module of `benchmarks.judges` gives."""

    RULES: Mapping[str, str]
    """How the figures are counted, by what is explained; goes into every report."""
    BASELINE: str
    """What the trivial answer is, such as `every picture gets the mean grade`."""

    def synthetic(self, seed: int, count: int) -> Iterator[Picture]:
        """`count` pictures of a seed that no recipe trains on unless it names it."""
        ...

    def open_judge(self, spec: ModelSpec) -> Judge:
        """A judge of one set, for a bundle."""
        ...
