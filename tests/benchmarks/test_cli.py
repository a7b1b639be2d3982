from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli import app
from runtime.errors import ConfigError


def run(*arguments: object) -> str:
    """Run a command and give what it prints."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_bench_latency_prints_and_writes_one_report(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    options = (
        "--batch",
        "1, 2",
        "--runs",
        2,
        "--graph",
        "gate",
        "--threads",
        1,
        "--beside",
        "bare",
        "--precision",
        "fp32, fp16",
        "--out",
        out,
        "--json",
    )
    report = json.loads(run("bench", "latency", tiny, *options))
    assert report["schema"] == "ferrosight.bench_latency/3"
    assert [(row["batch"], row["precision"]) for row in report["rows"]] == [
        (1, "fp32"),
        (1, "fp16"),
        (2, "fp32"),
        (2, "fp16"),
    ]
    assert set(report["machine"]) >= {"cpu", "cores", "memory_gib", "flags", "load_average", "libraries"}
    assert json.loads((out / "latency.json").read_text()) == report
    assert (out / "latency.md").read_text().startswith("# Latency of bundle `tiny-strip`")
    assert (out / "latency.png").is_file()


def test_bench_overhead_asks_only_what_it_is_told(tiny: Path, tmp_path: Path) -> None:
    options = ("--only", "null_line", "--null-runs", 1, "--null-frames", 200, "--drawn-frames", 8, "--no-subscriber")
    report = json.loads(run("bench", "overhead", tiny, *options, "--out", tmp_path, "--json"))
    assert report["schema"] == "ferrosight.bench_overhead/2"
    assert report["cascade"] is None
    assert report["null_line"]["frames_a_run"] == 200
    assert (tmp_path / "overhead.png").is_file()


def test_evaluate_is_readable_and_its_json_is_the_same_report(tiny: Path, tmp_path: Path) -> None:
    text = run("evaluate", tiny, "--data", "synthetic=3:4", "--data", "synthetic=4:3", "--out", tmp_path)
    assert text.count("| segmenter alone") == 2
    report = json.loads((tmp_path / "evaluate.json").read_text())
    assert report["schema"] == "ferrosight.evaluate/1"
    assert [data["frames"] for data in report["data"]] == [4, 3]
    assert {"gate", "gate_without_slivers", "with_gate", "without_gate", "all_empty_dice", "defects"} <= set(
        report["data"][0]
    )
    assert set(report["rules"]) == {"dice", "iou", "slivers", "defects"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bench", "latency", "BUNDLE", "--batch", "1,x"), "expected whole numbers"),
        (("bench", "latency", "BUNDLE", "--batch", "0"), "expected whole numbers"),
        (("bench", "latency", "BUNDLE", "--size", "256"), "expected ROWSxCOLUMNS"),
        (("bench", "latency", "BUNDLE", "--beside", "tensorflow"), "expected some of bare, eager, compile, or none"),
        (
            ("bench", "latency", "BUNDLE", "--precision", "fp16,int4"),
            "expected some of fp32, fp16, int8, fp8",
        ),
        (("bench", "latency", "--papers", "--task", "welds"), "found the task 'welds', expected one of strip"),
        (("bench", "latency", "--papers", "--variant", "small"), "found the variant 'small', expected one of compact"),
        (("bench", "overhead", "BUNDLE", "--only", "speed"), "expected one of cascade"),
    ],
)
def test_a_bad_option_is_one_sentence(tiny: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(*(tiny if each == "BUNDLE" else each for each in arguments))
