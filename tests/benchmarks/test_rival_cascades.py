from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.rival_cascades import RivalPlan, chosen_frames, measure_rivals, rivals_markdown
from camera.steel.strip import SyntheticStrip
from runtime.errors import ConfigError
from tests.bundles import make_strip_bundle

SIZE = (64, 256)
PLAN = RivalPlan(threads=(1,), batches=(1, 3), frames=8, defective_percent=25.0, rounds=2)


def test_the_stated_share_of_frames_is_defective() -> None:
    strip = SyntheticStrip(PLAN.seed, height_px=SIZE[0], width_px=SIZE[1])
    truth = {strip.pixels(index).tobytes(): bool(strip.planted(index, index + 1)) for index in range(200)}
    kinds = [truth[frame.tobytes()] for frame in chosen_frames(PLAN, SIZE)]
    assert sum(kinds) == 2
    assert not all(kinds[:2])
    assert len(chosen_frames(PLAN.model_copy(update={"defective_percent": 0.0}), SIZE)) == 8


def test_a_strip_without_enough_frames_of_a_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.rival_cascades._SEARCHED", 1)
    with pytest.raises(ConfigError, match="Give another seed or share"):
        chosen_frames(PLAN.model_copy(update={"defective_percent": 100.0}), SIZE)


def test_a_bundle_decides_as_itself_and_gains_nothing(tiny: Path) -> None:
    clock = itertools.count(step=1_000_000)  # every look at the clock is a millisecond later
    told: list[str] = []
    report = measure_rivals(tiny, tiny, PLAN, told.append, clock_ns=lambda: next(clock))
    assert told == ["1 threads, batch 1", "1 threads, batch 3"]
    for cell in report.cells:
        assert cell.gain == pytest.approx(1.0)
        assert (len(cell.first_fps), len(cell.second_fps)) == (3, 2)
        assert cell.first_passing == cell.second_passing
        assert cell.decided_otherwise == 0
    assert (report.precisions, report.height_px, report.width_px) == (("fp16", "fp16"), *SIZE)
    assert "Aim: 1.5 times as fast" in rivals_markdown(report)


def test_the_command_writes_both_files(tiny: Path, tmp_path: Path) -> None:
    arguments = ["bench", "cascade", str(tiny), str(tiny), "--frames", "4", "--rounds", "1", "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, "--batch", "2", "--out", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "cascade.json").read_text(encoding="utf-8"))
    assert report["schema"] == "ferrosight.bench_cascade/1"
    assert np.isfinite(report["cells"][0]["gain"])
    assert (tmp_path / "cascade.md").is_file()


def test_bundles_of_two_sizes_are_refused(tiny: Path, tmp_path: Path) -> None:
    other = make_strip_bundle(tmp_path / "other", 64, 64)
    with pytest.raises(ConfigError, match="expected one size"):
        measure_rivals(tiny, other, PLAN)
