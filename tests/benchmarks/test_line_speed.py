from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.line_speed import (
    CLOSE_RATIO,
    LineSpeedPlan,
    LineSpeedReport,
    line_speed_markdown,
    measure_line_speed,
    search,
)
from benchmarks.plots import plot_line_speed
from runtime.errors import ConfigError
from tests.bundles import seal


@given(limit=st.floats(0.01, 1000), start=st.floats(0.1, 100))
def test_the_search_ends_just_below_what_no_longer_holds(limit: float, start: float) -> None:
    tried: list[float] = []

    def holds(speed: float) -> bool:
        tried.append(speed)
        return speed <= limit

    found = search(holds, start, lambda: len(tried) < 100)
    assert found is not None
    assert found <= limit < found * CLOSE_RATIO
    assert len(tried) < 40


@given(tries=st.integers(1, 12), limit=st.floats(0.01, 1000))
def test_out_of_time_it_gives_the_best_that_held(tries: int, limit: float) -> None:
    held: list[float] = []
    left = iter(range(tries))

    def holds(speed: float) -> bool:
        if speed <= limit:
            held.append(speed)
        return speed <= limit

    assert search(holds, 2.0, lambda: next(left, None) is not None) == max(held, default=None)


def test_frames_come_when_the_strip_brings_them(tiny: Path, tmp_path: Path) -> None:
    seconds = count()  # four looks at the clock: the start, and after each of three runs
    plan = LineSpeedPlan(start_mps=1.0, seconds=0.5, most_s=3.0, deadline_ms=10_000.0, batch=4, threads=1)
    report = measure_line_speed(tiny, plan, clock_s=lambda: float(next(seconds)))
    assert len(report.rows) == 3
    first = min(report.rows, key=lambda row: abs(row.speed_mps - 1.0))
    assert first.rate_hz == pytest.approx(1.0 / (64 * 0.5e-3))
    assert all(row.frames >= 20 for row in report.rows)
    for row in report.rows:
        assert row.holds is (row.missed == 0 and row.latency_ms is not None)
    assert LineSpeedReport.model_validate_json(report.to_json()) == report
    assert line_speed_markdown(report).count("\n| ") == 1 + len(report.rows)
    plot_line_speed(report, tmp_path / "line_speed.png")
    assert (tmp_path / "line_speed.png").stat().st_size > 10_000


def test_only_a_strip_moves(tiny: Path) -> None:
    seal(tiny, task="grain")
    try:
        with pytest.raises(ConfigError, match="the task 'grain', expected 'strip'"):
            measure_line_speed(tiny, LineSpeedPlan())
    finally:
        seal(tiny, task="strip")
