from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest

from benchmarks.frames import frame_size, steel_frames
from benchmarks.latency.markdown import latency_markdown
from benchmarks.latency.measure import Session, measure_latency
from benchmarks.latency.networks import bundle_networks
from benchmarks.latency.plot import plot_latency
from benchmarks.latency.report import LEAST_RUNS, LatencyPlan, LatencyReport
from benchmarks.report import Report, percentiles_ms, tail_percentiles_ms
from benchmarks.schemas import FOLDER, MODELS, schema_file, schema_text
from export.bundle import write_spec
from runtime.bundle import open_bundle
from runtime.errors import BundleError, ConfigError, EngineError
from runtime.spec import read_spec
from tests.bundles import make_strip_bundle


def test_every_graph_backend_and_batch_is_a_row(tiny: Path, tmp_path: Path) -> None:
    plan = LatencyPlan(backends=("openvino", "onnxruntime"), batches=(1, 3), runs=6, warm_up=1, threads=1)
    seen: list[str] = []
    report = measure_latency(tiny, plan, lambda cell: seen.append(str(cell)))
    assert [(row.graph, row.backend, row.batch) for row in report.rows] == [
        (graph, backend, batch)
        for graph in ("gate", "segmenter")
        for batch in (1, 3)
        for backend in ("openvino", "onnxruntime")
    ]
    assert len(seen) == len(report.rows)
    for row in report.rows:
        assert (row.runs, row.height_px, row.width_px, row.precision) == (6, 64, 256, "fp16")
        assert 0 < row.batch_ms.p50 <= row.batch_ms.p95 <= row.batch_ms.p99 <= row.batch_ms.max
        assert row.frame_ms.p50 == pytest.approx(row.batch_ms.p50 / row.batch, abs=1e-3)
        assert row.batch_ms.p99 == row.batch_ms.p999 == row.batch_ms.max
        assert row.throughput_fps > 0
        # A CPU copies nothing; the head has its say only behind the network.
        assert (row.stages_ms.upload, row.stages_ms.download, row.after_idle) == (None, None, None)
        assert row.stages_ms.submit + row.stages_ms.compute <= 2 * row.batch_ms.max
        assert row.stages_ms.post is not None
        assert row.stages_ms.post > 0
        assert (row.trained, row.published, row.rivals) == (True, None, ())
    assert LatencyReport.model_validate_json(report.to_json()) == report
    said = latency_markdown(report)
    assert said.count("\n| strip segmenter") == 2 * 4
    assert f"({report.rows[0].batch_ms.p999:.2f})" in said
    assert "## Beside it" not in said
    for name, rows in (("batches", report.rows), ("one_batch", tuple(row for row in report.rows if row.batch == 1))):
        plot_latency(report.model_copy(update={"rows": rows}), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_a_cell_ends_after_its_time_but_not_before_the_least_runs(tiny: Path) -> None:
    seconds = count()  # each look at the clock is a second later
    plan = LatencyPlan(batches=(1,), graphs=("gate",), runs=50, warm_up=0, most_s=1.0)
    report = measure_latency(tiny, plan, clock_ns=lambda: next(seconds) * 1_000_000_000)
    assert report.rows[0].runs == LEAST_RUNS
    # The clock is looked at before, between submit and collect, and behind.
    assert report.rows[0].batch_ms.p50 == 2000.0
    assert (report.rows[0].stages_ms.submit, report.rows[0].stages_ms.compute) == (1000.0, 1000.0)


def test_the_bare_engine_does_the_same_work_in_turns(tiny: Path) -> None:
    plan = LatencyPlan(
        backends=("openvino", "onnxruntime"), batches=(2,), graphs=("gate",), runs=6, threads=1, beside=("bare",)
    )
    report = measure_latency(tiny, plan)
    for row in report.rows:
        (rival,) = row.rivals
        assert (rival.name, rival.runs) == (f"{row.backend}, bare", 6)
        assert rival.times_faster == pytest.approx(rival.p50_ms / row.batch_ms.p50, rel=0.05, abs=0.01)
    said = latency_markdown(report)
    assert "| bare " in said
    assert f"{report.rows[1].rivals[0].p50_ms:.2f} [{report.rows[1].rivals[0].times_faster:.2f}]" in said


def test_the_first_batch_after_idling_is_asked_once_a_backend_and_task(tiny: Path) -> None:
    slept: list[float] = []
    now_ns = [0]

    def clock_ns() -> int:
        now_ns[0] += 1_000_000
        return now_ns[0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now_ns[0] += int(seconds * 1e9)

    plan = LatencyPlan(batches=(1, 2), runs=1, warm_up=0, idle_s=10.0)
    session = Session(plan, clock_ns=clock_ns, sleep=sleep)
    report = session.measure(bundle_networks(open_bundle(tiny)), "tiny")
    first, *others = report.rows
    assert first.after_idle is not None
    assert (first.after_idle.idle_s, first.after_idle.left_alone_ms) == (10.0, 1.0)
    assert [row.after_idle for row in others] == [None] * 3
    assert sum(slept) == pytest.approx(20.0, abs=0.5)


def test_what_is_not_reached_or_fails_is_said(tiny: Path) -> None:
    networks = bundle_networks(open_bundle(tiny), ("gate",))
    seconds = count()
    plan = LatencyPlan(batches=(1, 2), runs=1, warm_up=0, most_total_s=1.0)
    late = Session(plan, clock_ns=lambda: next(seconds) * 1_000_000_000).measure(networks, "tiny")
    assert len(late.rows) == 1
    assert late.left_out == ("strip gate tiny-gate 64x256, openvino fp16, batch 2: the time was up",)
    assert "## Left out\n\n- strip gate" in latency_markdown(late)

    def refuse(*_: object) -> None:
        raise EngineError("engine openvino: found no memory, expected some.")

    plan = LatencyPlan(batches=(1,), runs=1)
    left = Session(plan, keep_going=True, open_engine=refuse).measure(networks, "tiny", ["phase: nobody made one"])  # pyright: ignore[reportArgumentType]
    assert left.rows == ()
    assert [each.rpartition(": ")[2] for each in left.left_out] == [
        "nobody made one",
        "found no memory, expected some.",
    ]
    with pytest.raises(EngineError, match="found no memory"):
        Session(plan, open_engine=refuse).measure(networks, "tiny")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("model", MODELS, ids=schema_file)
def test_every_report_has_its_schema_in_the_docs(model: type[Report]) -> None:
    stored = Path(__file__).parents[2] / FOLDER / schema_file(model)
    assert stored.read_text(encoding="utf-8") == schema_text(model), (
        "give the report the next version in its 'schema_version', then run 'python -m benchmarks.schemas'"
    )


def test_the_precision_asked_for_is_run(tiny: Path) -> None:
    plan = LatencyPlan(batches=(1,), graphs=("gate",), precision=("fp32",), runs=1, warm_up=0)
    assert [row.precision for row in measure_latency(tiny, plan).rows] == ["fp32"]
    both = measure_latency(tiny, plan.model_copy(update={"precision": "all"}))
    assert sorted((row.precision, row.arithmetic) for row in both.rows) == [
        ("fp16", "backend's choice"),
        ("fp32", "fp32"),
    ]


def test_both_precisions_of_a_bundle_that_has_both_are_rows(tmp_path: Path) -> None:
    both = make_strip_bundle(tmp_path / "both", precisions=("fp16", "int8"))
    plan = LatencyPlan(batches=(1,), precision=("fp16", "int8"), runs=1, warm_up=0)
    rows = measure_latency(both, plan).rows
    assert [(row.graph, row.precision) for row in rows] == [
        (graph, precision) for graph in ("gate", "segmenter") for precision in ("fp16", "int8")
    ]


def test_a_precision_that_the_bundle_lacks_is_refused_with_the_command_that_gives_it(tiny: Path) -> None:
    plan = LatencyPlan(batches=(1,), precision=("int8",), runs=1)
    with pytest.raises(
        BundleError, match=r"found no int8 file of graph 'gate'.*ferrosight quantise .*--precision int8"
    ):
        measure_latency(tiny, plan)


def test_a_graph_that_stayed_half_is_left_out_of_the_int8_rows_and_said(tmp_path: Path) -> None:
    path = make_strip_bundle(tmp_path / "mixed", precisions=("fp16", "int8"))
    spec = read_spec(path)
    half = spec.graphs["segmenter"].model_copy(update={"files": {"fp16": spec.graphs["segmenter"].files["fp16"]}})
    write_spec(path, spec.model_copy(update={"graphs": {**spec.graphs, "segmenter": half}}))
    report = measure_latency(path, LatencyPlan(batches=(1,), precision=("int8",), runs=1, warm_up=0))
    assert [(row.graph, row.precision) for row in report.rows] == [("gate", "int8")]
    (note,) = report.left_out
    assert note.startswith("tiny-strip segmenter: its bundle carries fp16, and no int8.")


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


def test_one_in_a_thousand_is_the_largest_of_fewer() -> None:
    assert tail_percentiles_ms(np.arange(1, 500) * 1e6).p999 == 499.0
    assert tail_percentiles_ms(np.arange(1, 10_001) * 1e6).p999 == 9991.0
