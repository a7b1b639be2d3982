"""The loop through changes of the bundle: at any batch, with any failures, no frame is lost or answered twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from camera.base import Frame
from runtime.loop import Loop, LoopSettings
from runtime.messages import Inspected, Missed, ModelIdentity, RunStarted, Swapped, SwapRefused
from runtime.serving import Serving
from tests.runtime.test_loop import Desk, ScriptedPipeline, ScriptedSource, failures


def named(number: int) -> ModelIdentity:
    return ModelIdentity(bundle="b", digest=f"{number:064x}", backend="none", precision="fp16")


@dataclass(frozen=True)
class Answer:
    frame: Frame
    model: ModelIdentity
    new_defects: tuple[str, ...] = ()

    def message(self, envelope: dict[str, Any], latency_ms: dict[str, float]) -> Inspected:
        return Inspected(
            **envelope, model=self.model, frame_index=self.frame.index, position_m=None, verdict="clean",
            defect_probability=0.0, segmented=False, defects=(), latency_ms=latency_ms,
        )  # fmt: skip


@dataclass
class Answerer:
    model: ModelIdentity

    def answer(self, frame: Frame, raw: Any) -> Answer:
        return Answer(frame, self.model)

    def gap(self) -> None:
        pass


@dataclass
class ScriptedChange:
    """The next bundle, or the news that there is none; notes what the loop did with it."""

    number: int
    fails: Sequence[str | None]
    refused: bool
    old: ScriptedPipeline | None = None
    said: list[Any] = field(default_factory=list)

    def take(self, old: Serving[Any]) -> Serving[Any]:
        assert isinstance(old.engines, ScriptedPipeline)
        assert not old.engines.held  # nothing is on its way when the bundle changes
        if self.refused:
            return old
        self.old = old.engines
        return Serving(ScriptedPipeline(self.fails), Answerer(named(self.number)))  # type: ignore[arg-type]

    def message(self, envelope: dict[str, Any], next_index: int | None) -> Swapped | SwapRefused:
        if self.refused:
            return SwapRefused(**envelope, model=named(0), bundle="b", name="n", reason="", detail="no")
        return Swapped(
            **envelope, before=named(0), model=named(self.number), next_index=next_index, name="n", reason=""
        )

    def done(self, message: Any) -> None:
        self.said.append(message)


changes = st.lists(st.one_of(st.none(), st.none(), st.booleans()), max_size=40)
events = st.lists(st.one_of(st.integers(1, 6), st.just("lost"), st.none()), min_size=1, max_size=40)


@given(events, failures, changes)
@settings(max_examples=300, deadline=None)
def test_a_change_at_any_batch_loses_and_doubles_nothing(
    script: list[int | str | None], fails: list[str | None], plan: list[bool | None]
) -> None:
    made: list[ScriptedChange] = []
    turns = iter(plan)

    def due() -> ScriptedChange | None:
        refused = next(turns, None)
        if refused is None:
            return None
        made.append(ScriptedChange(len(made) + 1, fails, refused))
        return made[-1]

    source, desk = ScriptedSource(script), Desk()
    loop = Loop(
        source,
        ScriptedPipeline(fails),  # type: ignore[arg-type]
        Answerer(named(0)),  # type: ignore[arg-type]
        desk,
        LoopSettings(batch=4, engine_failures=1000),
        lambda envelope: RunStarted(**envelope, model=named(0), camera="c", mm_per_px=None),
        due_change=due,
    )
    ended = loop.run()
    assert [m.sequence for m in desk.messages] == list(range(len(desk.messages)))
    serving, expected = named(0), 0
    for message in desk.messages:
        if isinstance(message, Swapped):
            serving = message.model
            assert message.next_index == (expected or None)
        elif isinstance(message, Inspected | Missed):
            first, stop = message.frame_range()
            assert first == expected
            expected = stop
        if isinstance(message, Inspected):
            assert message.model == serving
    assert ended.coverage.complete
    assert ended.coverage.frames_expected == expected
    assert source.held == 0
    for change in made:
        assert [type(message) for message in change.said] == [SwapRefused if change.refused else Swapped]
        assert change.old is None or change.old.held == 0
    swaps = [change.number for change in made if not change.refused]
    assert serving == named(swaps[-1] if swaps else 0)
