"""The check of a GPU: its steps one by one, and what it says where there is none."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_check
from benchmarks.device import read_device
from benchmarks.gpu_check import GpuCheck, Step, StepFailedError, StepResult, run_steps, steps_for
from benchmarks.machine import read_machine
from tests.gpu import needs_gpu, no_gpu


def fail(_: float) -> Any:
    raise StepFailedError({"dice_loss": 0.5})


def break_down(_: float) -> Any:
    raise RuntimeError("no such kernel")


def test_a_step_that_fails_does_not_keep_the_next_from_running() -> None:
    steps = [Step("a", fail), Step("b", break_down), Step("c", lambda left_s: left_s > 0)]
    told: list[StepResult] = []
    results = list(run_steps(steps, 100.0, tell=told.append))
    assert told == results
    assert [(each.name, each.state) for each in results] == [("a", "failed"), ("b", "failed"), ("c", "passed")]
    assert results[0].found == {"dice_loss": 0.5}
    assert "RuntimeError: no such kernel" in results[1].found
    assert results[2].found is True


def test_nothing_is_begun_when_the_time_is_up() -> None:
    seconds = count(step=30)
    steps = [Step(name, lambda _: None) for name in "abcd"]
    results = list(run_steps(steps, 100.0, clock_s=lambda: float(next(seconds))))
    assert [each.state for each in results] == ["passed", "passed", "not reached", "not reached"]
    assert results[0].seconds == 30.0


def test_the_file_comes_back_and_what_was_not_reached_is_no_failure() -> None:
    reached = StepResult(name="a", state="passed", seconds=1, found=None)
    late = StepResult(name="b", state="not reached", seconds=0, found="too late")
    now = read_device()
    check = GpuCheck(
        checked_at="2024-05-01T00:00:00+00:00",
        machine=read_machine(),
        before=now,
        after=now,
        gpu={},
        steps=(reached, late),
    )
    assert check.passed
    assert GpuCheck.model_validate_json(check.to_json()) == check
    assert not check.model_copy(update={"steps": (reached.model_copy(update={"state": "failed"}),)}).passed


def test_a_plan_is_proven_before_it_is_timed(tiny: Path) -> None:
    names = [step.name for step in steps_for([tiny], ["tensorrt_rtx"], "8.9")]
    kinds = [name.split()[0] for name in names]
    assert kinds == ["doctor", "tests", "build", "parity", "latency", "papers", "line", *["papers"] * 4]
    assert names[5] == "papers fracture on tensorrt_rtx", "the paper that tells its own latency comes first"


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--out", str(tmp_path / "check.json")]) == 2
    assert "CUDA (cuda_bindings): found no" in capsys.readouterr().err
    assert not (tmp_path / "check.json").exists()


@pytest.mark.parametrize("step", ["build", "parity", "latency"], ids=str)
@pytest.mark.parametrize("_", [pytest.param(None, marks=needs_gpu, id="gpu")])
def test_the_steps_run_on_a_gpu(step: str, _: None, tiny: Path, tmp_path: Path) -> None:
    import shutil

    from runtime.cuda import open_cuda

    with open_cuda() as cuda:
        capability = cuda.gpu.capability
    bundle = Path(shutil.copytree(tiny, tmp_path / "tiny"))
    wanted = ["build", "parity", "latency"]
    steps = [each for each in steps_for([bundle], ["tensorrt_rtx"], capability) if each.name.split()[0] in wanted]
    results = list(run_steps(steps[: wanted.index(step) + 1], 300.0))
    assert [each.state for each in results] == ["passed"] * len(results), [each.found for each in results]
