from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest

from benchmarks.frames import frame_size, steel_frames
from benchmarks.latency import LEAST_RUNS, LatencyPlan, LatencyReport, latency_markdown, measure_latency
from benchmarks.plots import plot_latency
from benchmarks.report import percentiles_ms
from runtime.errors import ConfigError, EngineError
from runtime.spec import read_spec


def test_every_graph_backend_and_batch_is_a_row(tiny: Path, tmp_path: Path) -> None:
    plan = LatencyPlan(backends=("openvino", "onnxruntime"), batches=(1, 3), runs=6, warm_up=1, threads=1)
    seen: list[str] = []
    report = measure_latency(tiny, plan, lambda cell: seen.append(str(cell)))
    assert [(row.graph, row.backend, row.batch) for row in report.rows] == [
        (graph, backend, batch)
        for graph in ("gate", "segmenter")
        for backend in ("openvino", "onnxruntime")
        for batch in (1, 3)
    ]
    assert len(seen) == len(report.rows)
    for row in report.rows:
        assert (row.runs, row.height_px, row.width_px, row.precision) == (6, 64, 256, "fp16")
        assert 0 < row.batch_ms.p50 <= row.batch_ms.p95 <= row.batch_ms.p99 <= row.batch_ms.max
        assert row.frame_ms.p50 == pytest.approx(row.batch_ms.p50 / row.batch, abs=1e-3)
        assert row.throughput_fps > 0
    assert LatencyReport.model_validate_json(report.to_json()) == report
    assert latency_markdown(report).count("\n| segmenter") == 4
    plot_latency(report, tmp_path / "latency.png")
    assert (tmp_path / "latency.png").stat().st_size > 10_000


def test_a_cell_ends_after_its_time_but_not_before_the_least_runs(tiny: Path) -> None:
    seconds = count()  # each look at the clock is a second later
    plan = LatencyPlan(batches=(1,), graphs=("gate",), runs=50, warm_up=0, most_s=1.0)
    report = measure_latency(tiny, plan, clock_ns=lambda: next(seconds) * 1_000_000_000)
    assert report.rows[0].runs == LEAST_RUNS
    assert report.rows[0].batch_ms.p50 == 1000.0


def test_the_precision_asked_for_is_run(tiny: Path) -> None:
    plan = LatencyPlan(batches=(1,), graphs=("gate",), precision="fp32", runs=1, warm_up=0)
    assert measure_latency(tiny, plan).rows[0].precision == "fp32"


def test_graphs_of_any_size_are_measured_at_the_size_asked_for(tiny_any_size: Path) -> None:
    plan = LatencyPlan(batches=(1,), graphs=("segmenter",), runs=1, size_px=(40, 50))
    row = measure_latency(tiny_any_size, plan).rows[0]
    assert (row.height_px, row.width_px) == (40, 50)
    assert frame_size(read_spec(tiny_any_size).graphs["gate"], None) == (256, 1600)


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        (LatencyPlan(graphs=("crack",)), ConfigError, "found no graph 'crack'"),
        (LatencyPlan(size_px=(32, 256)), ConfigError, "found 32x256 px, expected 64x256"),
        (LatencyPlan(backends=("abacus",)), EngineError, "no such backend"),
    ],
)
def test_what_does_not_fit_is_said(tiny: Path, plan: LatencyPlan, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        measure_latency(tiny, plan)


def test_frames_are_steel_of_the_size() -> None:
    frames = steel_frames(2, (32, 100), seed=3)
    assert frames.shape == (2, 1, 32, 100)
    assert frames.flags.c_contiguous
    assert not np.array_equal(frames[0], frames[1])
    assert np.array_equal(frames, steel_frames(2, (32, 100), seed=3))


def test_a_percentile_is_a_time_that_was_measured() -> None:
    times_ns = np.arange(1, 101) * 1_000_000
    spread = percentiles_ms(times_ns)
    assert (spread.p50, spread.p95, spread.p99, spread.max) == (51.0, 96.0, 100.0, 100.0)
    with pytest.raises(ValueError, match="found no times"):
        percentiles_ms([])
