"""The loop against every order in which frames, losses, waits and failures can come."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera.base import CameraError, Frame, Lost
from camera.ring import Batch
from runtime.errors import EngineError
from runtime.loop import Loop, LoopSettings
from runtime.messages import Inspected, Missed, ModelIdentity, RunEnded, RunStarted

MODEL = ModelIdentity(bundle="b", digest="0" * 64, backend="none", precision="fp16")
STAGES = ("start", "advance", "finish")


class ScriptedSource:
    """Plays a list of events: counts are batches of so many frames, `lost` are losses, None is a wait."""

    def __init__(self, script: Sequence[int | str | None]) -> None:
        self._script = deque(script)
        self.held = 0
        self.stopped = False
        self._next = 0

    @property
    def ended(self) -> bool:
        return not self._script

    def stop(self) -> None:
        self.stopped = True

    def claim(self, max_frames: int, timeout_s: float, *, fill_s: float) -> Batch | Lost | None:
        event = self._script.popleft()
        if event is None:
            return None
        if event == "gone":
            raise CameraError("camera c: gone")
        if event == "lost":
            self._next += 3
            return Lost("c", self._next - 3, self._next, "camera_lost", "the counter jumped")
        assert isinstance(event, int)
        count = min(event, max_frames)
        first, self._next = self._next, self._next + count
        pixels = np.full((count, 1, 2, 2), first % 256, np.uint8)
        self.held += 1
        return Batch("c", first, pixels, (0,) * count, (0.0,) * count, ("",) * count, self._let_go)

    def _let_go(self) -> None:
        self.held -= 1


@dataclass
class Pending:
    """One batch in the scripted pipeline."""

    count: int
    fails_at: str | None
    needs_segmenter: bool
    done: bool = False


@dataclass
class ScriptedPipeline:
    """Fails where it is told to, and holds what it is given until it is released."""

    failures: Sequence[str | None]
    started: int = 0
    held: int = 0
    most_held: int = 0
    order: list[str] = field(default_factory=list)

    def start(self, frames: Any) -> Pending:
        fails_at = self.failures[self.started % len(self.failures)] if self.failures else None
        self.started += 1
        self._fail_at("start", fails_at)
        self.held += 1
        self.most_held = max(self.most_held, self.held)
        return Pending(len(frames), fails_at, needs_segmenter=self.started % 2 == 0)

    def advance(self, pending: Pending) -> None:
        if pending.fails_at == "advance":
            self.held -= 1
        self._fail_at("advance", pending.fails_at)
        pending.done = not pending.needs_segmenter

    def finish(self, pending: Pending) -> Sequence[int]:
        if pending.fails_at == "finish":
            self.held -= 1
        self._fail_at("finish", pending.fails_at)
        return list(range(pending.count))

    def release(self, pending: Pending) -> None:
        self.held -= 1

    def keep_awake(self) -> None:
        assert not self.held  # a device that works needs no waking

    @staticmethod
    def _fail_at(stage: str, fails_at: str | None) -> None:
        if stage == fails_at:
            raise EngineError(f"engine: broke at {stage}")


@dataclass(frozen=True)
class Answer:
    frame: Frame
    new_defects: tuple[str, ...] = ()

    def message(self, envelope: dict[str, Any], latency_ms: dict[str, float]) -> Inspected:
        return Inspected(
            **envelope, model=MODEL, frame_index=self.frame.index, position_m=None, verdict="clean",
            defect_probability=0.0, segmented=False, defects=(), latency_ms=latency_ms,
        )  # fmt: skip


class Answerer:
    def answer(self, frame: Frame, raw: Any) -> Answer:
        return Answer(frame)

    def gap(self) -> None:
        pass


class Desk:
    """Keeps what is published, and numbers it."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._given = 0

    def envelope(self, captured_ns: int) -> dict[str, Any]:
        self._given += 1
        return {
            "line": "l", "station": "s", "run": "r", "sequence": self._given - 1,
            "captured_at": "2026-01-01T00:00:00.000000+00:00",
        }  # fmt: skip

    def publish(self, messages: Sequence[Any]) -> None:
        self.messages.extend(messages)

    def idle(self, state: str, inspected: int, missed: int) -> None:
        pass


def make_loop(
    source: ScriptedSource,
    pipeline: ScriptedPipeline,
    desk: Desk,
    *,
    batch: int = 4,
    engine_failures: int = 1000,
) -> Loop:
    return Loop(
        source, pipeline, Answerer(), desk, LoopSettings(batch=batch, engine_failures=engine_failures),
        lambda envelope: RunStarted(**envelope, model=MODEL, camera="c", mm_per_px=None),
    )  # fmt: skip


def answered(messages: Sequence[Any]) -> list[tuple[int, int]]:
    return [m.frame_range() for m in messages if isinstance(m, Inspected | Missed)]


events = st.lists(st.one_of(st.integers(1, 6), st.just("lost"), st.none()), max_size=40)
failures = st.lists(st.sampled_from([None, None, None, *STAGES]), max_size=9)


@given(events, failures)
@settings(max_examples=300, deadline=None)
def test_every_frame_is_answered_once_and_in_order_whatever_fails(
    script: list[int | str | None], fails: list[str | None]
) -> None:
    source, pipeline, desk = ScriptedSource(script), ScriptedPipeline(fails), Desk()
    ended = make_loop(source, pipeline, desk).run()
    assert isinstance(desk.messages[0], RunStarted)
    assert desk.messages[-1] is ended
    assert [m.sequence for m in desk.messages] == list(range(len(desk.messages)))
    due = 0
    for first, stop in answered(desk.messages):
        assert first == due
        due = stop
    assert due == ended.coverage.frames_expected == ended.coverage.frames_inspected + ended.coverage.frames_missed
    assert ended.coverage.complete
    assert source.held == 0
    assert pipeline.held == 0
    assert pipeline.most_held <= 3


def test_neighbouring_batches_overlap() -> None:
    source, pipeline, desk = ScriptedSource([2] * 10), ScriptedPipeline([]), Desk()
    make_loop(source, pipeline, desk).run()
    assert pipeline.most_held > 1


@pytest.mark.parametrize("stage", STAGES)
def test_a_failed_batch_is_missed_and_the_run_goes_on(stage: str) -> None:
    source, pipeline, desk = ScriptedSource([2, 2, 2, 2]), ScriptedPipeline([None, stage, None, None]), Desk()
    ended = make_loop(source, pipeline, desk).run()
    (missed,) = [m for m in desk.messages if isinstance(m, Missed)]
    assert missed.frame_range() == (2, 4)
    assert missed.reason == "engine_failed"
    assert stage in missed.detail
    assert ended.coverage.frames_inspected == 6


@pytest.mark.parametrize("stage", STAGES)
def test_an_engine_that_keeps_failing_ends_the_run_with_every_frame_named(stage: str) -> None:
    source, pipeline, desk = (
        ScriptedSource([4, 4, 4, "lost", 4, 4, None, 4]),
        ScriptedPipeline([stage]),
        Desk(),
    )
    with pytest.raises(EngineError, match="2 batches failed in a row"):
        make_loop(source, pipeline, desk, engine_failures=2).run()
    ended = desk.messages[-1]
    assert isinstance(ended, RunEnded)
    assert ended.reason == "failed"
    assert ended.coverage.frames_missed == ended.coverage.frames_expected == 27
    assert source.stopped
    assert source.held == 0


def test_a_stop_still_inspects_what_the_camera_had_delivered() -> None:
    source, pipeline, desk = ScriptedSource([3, 3, 3]), ScriptedPipeline([]), Desk()
    ended = make_loop(source, pipeline, desk).run(stopped=lambda: True)
    assert source.stopped
    assert ended.reason == "stopped"
    assert ended.coverage.frames_inspected == 9


def test_a_camera_gone_for_good_ends_the_run_as_failed_with_its_frames_inspected() -> None:
    source, pipeline, desk = ScriptedSource([3, 3, "gone"]), ScriptedPipeline([]), Desk()
    with pytest.raises(CameraError):
        make_loop(source, pipeline, desk).run()
    assert desk.messages[-1].reason == "failed"
    assert desk.messages[-1].coverage.frames_inspected == 6
