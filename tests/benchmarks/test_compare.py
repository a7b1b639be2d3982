from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import ComparedRow, compare, compare_markdown
from benchmarks.latency.measure import measure_latency
from benchmarks.latency.report import LatencyPlan, LatencyReport
from runtime.errors import ConfigError


@pytest.fixture(scope="module")
def report(tiny: Path) -> LatencyReport:
    return measure_latency(
        tiny, LatencyPlan(graphs=("gate",), batches=(1, 2), runs=5, warm_up=0, threads=1, beside=("bare",))
    )


def write(path: Path, report: LatencyReport, **changes: Any) -> Path:
    text = json.loads(report.to_json()) | changes
    path.write_text(json.dumps(text), encoding="utf-8")
    return path


def test_a_report_is_as_good_as_itself(report: LatencyReport, tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", report)
    comparison = compare(first, first)
    assert {row.figure for row in comparison.rows} >= {"p50 ms", "frames/s", "times faster than openvino, bare"}
    assert {row.gain for row in comparison.rows} == {1.0}
    assert "Not the same machine" not in compare_markdown(comparison)


def test_a_report_of_the_version_before_still_reads(report: LatencyReport, tmp_path: Path) -> None:
    plan = {**json.loads(report.to_json())["plan"], "precision": "fp16"}
    before = write(tmp_path / "a.json", report, schema="ferrosight.bench_latency/2", plan=plan)
    assert compare(before, write(tmp_path / "b.json", report)).rows == compare(before, before).rows


def test_what_became_faster_and_what_is_not_in_both(report: LatencyReport, tmp_path: Path) -> None:
    one, two = json.loads(report.to_json())["rows"]
    faster = {**one, "batch_ms": {name: value / 2 for name, value in one["batch_ms"].items()}, "throughput_fps": 1e9}
    machine = {**json.loads(report.to_json())["machine"], "cpu": "another"}
    first = write(tmp_path / "a.json", report, rows=[one, two])
    second = write(tmp_path / "b.json", report, rows=[faster, {**two, "batch": 16}], machine=machine)
    comparison = compare(first, second)
    gains = {row.figure: row.gain for row in comparison.rows}
    assert gains["p50 ms"] == pytest.approx(2.0)
    assert gains["frames/s"] == pytest.approx(1e9 / one["throughput_fps"])
    assert [what.rpartition(" ")[2] for what in comparison.only_first + comparison.only_second] == ["2", "16"]
    said = compare_markdown(comparison)
    assert "Not the same machine" in said
    assert "- only in B: strip gate: tiny-gate 64x256, openvino fp16, batch 16" in said


def test_lower_is_better_for_times_and_higher_for_rates() -> None:
    row = ComparedRow(what="gate", figure="p50 ms", better="lower", first=2.0, second=4.0)
    assert (row.gain, row.model_copy(update={"better": "higher"}).gain) == (0.5, 2.0)


def test_reports_of_two_kinds_are_refused(report: LatencyReport, tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", report)
    with pytest.raises(ConfigError, match=r"found reports of ferrosight.bench_latency/3 and ferrosight.other/1"):
        compare(first, write(tmp_path / "b.json", report, schema="ferrosight.other/1"))
    with pytest.raises(ConfigError, match=r"b.json is not valid at rows"):
        compare(first, write(tmp_path / "b.json", report, rows=[{"graph": "gate"}]))
    with pytest.raises(ConfigError, match="cannot be read"):
        compare(first, tmp_path / "gone.json")


def test_two_checks_of_a_gpu_are_compared_by_what_they_timed(report: LatencyReport, tmp_path: Path) -> None:
    said = json.loads(report.to_json())
    steps = [{"name": "tests", "found": ["12 passed"]}, {"name": "latency tiny", "found": said}]
    check = {"schema": "ferrosight.gpu_check/2", "machine": said["machine"], "steps": steps}
    (tmp_path / "check.json").write_text(json.dumps(check), encoding="utf-8")
    comparison = compare(tmp_path / "check.json", tmp_path / "check.json")
    assert {row.what.rpartition(" ")[2] for row in comparison.rows} == {"1", "2"}
