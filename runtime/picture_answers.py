"""Answers of the tasks that judge a picture as a whole: a head says how it judges one, and the rest is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runtime.messages import ModelIdentity, Scored

if TYPE_CHECKING:
    from camera.base import Frame
    from runtime.facts import Facts
    from runtime.scored import Result, Score


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a head makes of one picture.

    Attributes:
        verdict: By the station's rules.
        result: What was measured.
        new_defects: By class name, how many defects the picture shows; empty where the task does not count.
    """

    verdict: Score
    result: Result
    new_defects: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PictureAnswer:
    """What is to be said of one picture; see `runtime.pipeline.Answer`."""

    frame_index: int
    source: str
    facts: Facts
    judgement: Judgement
    model: ModelIdentity

    @property
    def verdict(self) -> Score:
        """By the station's rules."""
        return self.judgement.verdict

    @property
    def result(self) -> Result:
        """What was measured."""
        return self.judgement.result

    @property
    def new_defects(self) -> Mapping[str, int]:
        """Of this picture alone."""
        return self.judgement.new_defects

    def message(self, envelope: Mapping[str, Any], latency_ms: Mapping[str, float]) -> Scored:
        """The message of the picture."""
        return Scored(
            **envelope,
            model=self.model,
            frame_index=self.frame_index,
            source=self.source,
            facts=self.facts,
            verdict=self.verdict,
            result=self.result,
            latency_ms=dict(latency_ms),
        )


class PictureAnswerer:
    """Answers for one picture a frame; see `runtime.pipeline.Answerer`.

    Args:
        judge: What a head makes of a frame, of its raw outputs, which are borrowed, and of what is known of it.
        model: Named in every message.
        facts: What is known of every picture of the run.
    """

    def __init__(
        self, judge: Callable[[Frame, Mapping[str, Any], Facts], Judgement], model: ModelIdentity, facts: Facts
    ) -> None:
        self._judge = judge
        self._model = model
        self._facts = facts

    def answer(self, frame: Frame, raw: Mapping[str, Any], facts: Facts | None = None) -> PictureAnswer:
        """Answer for a frame; borrows its outputs for this call alone."""
        known = self._facts if facts is None else facts
        return PictureAnswer(frame.index, frame.source, known, self._judge(frame, raw, known), self._model)

    def gap(self) -> None:
        """Nothing passes from one picture to the next."""

    def follow(self, before: object) -> None:
        """Nothing passes from one picture to the next, whichever bundle judged it."""
