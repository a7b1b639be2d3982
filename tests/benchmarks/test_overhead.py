from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bare import IN_TURN, drive, prepare
from benchmarks.null_pipeline import NullPipeline
from benchmarks.overhead import Bench, measure_overhead, median_interval, profiled, steps_of
from benchmarks.overhead_report import OverheadPlan, OverheadReport, overhead_markdown
from benchmarks.plots import plot_overhead
from runtime.backends import open_engine
from runtime.bundle import open_bundle
from runtime.engine import Engine, EngineSettings
from tests.bundles import CLASS_GREY, plain_frames

SHORT = OverheadPlan(
    turns=1, turn_s=0.2, null_runs=1, null_frames=400, rate_hz=100.0, paced_s=0.2, drawn_frames=16, threads=1
)


def test_all_three_questions_are_answered(tiny: Path, tmp_path: Path) -> None:
    begun: list[str] = []
    report = measure_overhead(tiny, SHORT, begun.append, profiled(tmp_path / "profile.txt"))
    assert len(begun) == steps_of(SHORT)
    assert OverheadReport.model_validate_json(report.to_json()) == report
    cascade, null_line, added = report.cascade, report.null_line, report.added_latency
    assert cascade is not None
    assert null_line is not None
    assert added is not None
    assert len(cascade.bare_fps) == len(cascade.line_fps) + 1 == 2
    mean = sum(cascade.bare_fps) / 2
    assert cascade.ratio == pytest.approx(cascade.line_fps[0] / mean, rel=1e-3)
    assert cascade.ratio_interval is None
    assert cascade.met == (cascade.ratio >= cascade.target_ratio)
    assert cascade.bare_depth in cascade.bare_by_depth_fps
    assert 0 < cascade.passing_ratio < 1
    assert set(cascade.stages_p50_ms) == {"wait", "gate", "segment", "decide", "total"}
    assert null_line.heard_ratio == 1.0
    assert null_line.cpu_us_a_frame > 0
    assert added.frames + added.frames_missed > 0
    assert 0 < added.latency_ms.p50 <= added.latency_ms.max
    text = overhead_markdown(report)
    assert text.count("at least") == 2
    assert "added latency at 100 frames/s" in text
    plot_overhead(report, tmp_path / "overhead.png")
    assert (tmp_path / "overhead.png").stat().st_size > 10_000
    assert "loop.py" in (tmp_path / "profile.txt").read_text()


def test_one_question_without_a_subscriber(tiny: Path) -> None:
    plan = SHORT.model_copy(update={"questions": ("null_line",), "subscribers": 0, "null_frames": 200})
    report = measure_overhead(tiny, plan)
    assert report.cascade is None
    assert report.added_latency is None
    assert report.null_line is not None
    assert report.null_line.heard_ratio is None


def test_the_bare_engines_see_the_frames_that_the_camera_shows(tiny: Path) -> None:
    bench = Bench(open_bundle(tiny), SHORT, (64, 256), lambda _doing: None)
    drawn = bench._drawn()
    strip = bench._camera(frames=1).open_strip()
    assert drawn.shape == (16, 1, 64, 256)
    assert np.array_equal(drawn[7, 0], strip.pixels(7))


def test_the_median_lies_within_its_interval_and_few_values_have_none() -> None:
    assert median_interval([0.9, 0.95, 1.0, 0.94, 0.93]) is None
    interval = median_interval([0.90 + step / 100 for step in range(20)])
    assert interval is not None
    assert interval[0] < 0.995 < interval[1]


class Counted:
    """An engine that notes how many of its batches were in flight at most."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.frames = self.flying = self.most = 0

    def submit(self, frames):
        self.frames += len(frames)
        self.flying += 1
        self.most = max(self.most, self.flying)
        return self._engine.submit(frames)

    def collect(self, ticket):
        return self._engine.collect(ticket)

    def release(self, ticket) -> None:
        self.flying -= 1
        self._engine.release(ticket)


@pytest.mark.parametrize("depth", [IN_TURN, 1, 3])
def test_bare_engines_do_the_whole_work_at_the_depth_asked_for(tiny: Path, depth: int) -> None:
    bundle = open_bundle(tiny)
    frames = plain_frames(10)
    frames[[0, 3, 9], 0, 10:20, 10:20] = CLASS_GREY[0]
    settings = EngineSettings(max_batch=4, slots=3, threads=1)
    with (
        open_engine("openvino", bundle.model_file("gate"), bundle.spec.graphs["gate"], settings) as gate,
        open_engine("openvino", bundle.model_file("segmenter"), bundle.spec.graphs["segmenter"], settings) as segmenter,
    ):
        work = prepare(gate, frames, 4, lambda probability: probability >= 0.5)
        assert [len(batch.frames) for batch in work] == [4, 4, 2]
        assert [None if batch.passing is None else len(batch.passing) for batch in work] == [2, None, 1]
        counted = Counted(gate), Counted(segmenter)
        assert drive(*counted, work, 2, depth) == 20
    assert [each.frames for each in counted] == [20, 6]
    assert [each.flying for each in counted] == [0, 0]
    assert max(each.most for each in counted) == max(depth, 1)


def test_the_null_pipeline_is_done_at_once() -> None:
    with NullPipeline() as pipeline:
        pending = pipeline.start(plain_frames(3))
        pipeline.advance(pending)
        assert pending.done
        assert [(output.gate_probability, output.class_probability) for output in pipeline.finish(pending)] == [
            (0.0, None)
        ] * 3
        pipeline.release(pending)
