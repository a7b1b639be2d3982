"""Everything that needs an NVIDIA GPU, in one go: `make gpu-check`, or `python -m benchmarks.gpu_check`.

A GPU is often at hand for minutes only, on a machine that is not one's own. So this runs the tests that need one,
builds plans for it, measures their parity, times them and finds the line's speed, in the order of what matters most,
until its time is up; and it writes one file that says what was done, what was found, and what was not reached.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from benchmarks.latency import LatencyPlan, latency_markdown, measure_latency, run_once
from benchmarks.line_speed import LineSpeedPlan, line_speed_markdown, measure_line_speed
from benchmarks.machine import Machine, read_machine
from benchmarks.report import Report
from runtime.backends import BACKENDS, open_engine
from runtime.bundle import open_bundle
from runtime.cuda import open_cuda
from runtime.doctor.report import Asked, examine
from runtime.engine import EngineSettings
from runtime.errors import EngineError
from runtime.plans.flavours import FLAVOURS, FlavourName

ROOT = Path(__file__).resolve().parent.parent
BUDGET_S = 570.0
"""Just under ten minutes: the time for which a machine is lent."""
TESTS_S = 240.0
BATCH = (1, 8, 32)
IDLE_S = 10.0
"""After so long a GPU has dropped its clocks."""

State = Literal["passed", "failed", "not reached"]


class StepResult(Report):
    """What one step found."""

    name: str
    state: State
    seconds: float
    found: Any = Field(description="the step's own figures, or what went wrong")


class GpuCheck(Report):
    """The one file."""

    schema_version: Literal["ferrosight.gpu_check/1"] = Field(default="ferrosight.gpu_check/1", alias="schema")
    checked_at: str = Field(description="UTC, ISO 8601")
    machine: Machine
    gpu: dict[str, Any]
    steps: tuple[StepResult, ...]

    @property
    def passed(self) -> bool:
        """Whether no step failed; one that was not reached is no failure, and no success either."""
        return all(step.state != "failed" for step in self.steps)


class StepFailedError(Exception):
    """A step ran to its end and did not find what it should; carries what it found."""

    def __init__(self, found: Any) -> None:
        super().__init__("the step did not find what it should")
        self.found = found


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        name: How the file calls it.
        run: Does it, with the seconds that are left; gives what was found.
        least_s: Seconds below which it is not begun.
    """

    name: str
    run: Callable[[float], Any]
    least_s: float = 10.0


def run_steps(
    steps: Sequence[Step],
    budget_s: float,
    clock_s: Callable[[], float] = time.monotonic,
    tell: Callable[[StepResult], None] = lambda _: None,
) -> Iterator[StepResult]:
    """Run steps one by one, each on its own: one that fails does not keep the next from running.

    Args:
        steps: In the order of what matters most.
        budget_s: After so many seconds nothing is begun any more.
        clock_s: A clock in seconds.
        tell: Told of each result.
    """
    end_s = clock_s() + budget_s
    for step in steps:
        begun_s = clock_s()
        state: State = "passed"
        found: Any = None
        if end_s - begun_s < step.least_s:
            state, found = "not reached", f"less than {step.least_s:g} s were left"
        else:
            try:
                found = step.run(end_s - begun_s)
            except StepFailedError as error:
                state, found = "failed", error.found
            except Exception as error:  # noqa: BLE001  whatever it is, it belongs into the file
                state, found = "failed", "".join(traceback.format_exception(error))[-4000:]
        result = StepResult(name=step.name, state=state, seconds=round(clock_s() - begun_s, 1), found=found)
        tell(result)
        yield result


def steps_for(bundles: Sequence[Path], flavours: Sequence[FlavourName], capability: str) -> list[Step]:
    """All steps for some bundles, whose folders get plans."""
    steps = [Step("doctor", lambda _: _doctor(flavours)), Step("tests", _tests, 60.0)]
    for bundle in bundles:
        for flavour in flavours:
            name = f"{bundle.name} on {flavour}"
            steps += [
                Step(f"build {name}", lambda _, b=bundle, f=flavour: _build(b, f, capability)),
                Step(f"parity {name}", lambda _, b=bundle, f=flavour: _parity(b, f)),
                Step(f"latency {name}", lambda _, b=bundle, f=flavour: _latency(b, f), 20.0),
                Step(f"after idling {name}", lambda _, b=bundle, f=flavour: _idle(b, f), 30.0),
            ]
    for bundle in bundles:
        if open_bundle(bundle).spec.task == "strip":
            for flavour in flavours:
                run = functools.partial(_line_speed, bundle, flavour)
                steps.append(Step(f"line speed {bundle.name} on {flavour}", run, 60.0))
    return steps


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; 0 when nothing failed, 1 when something did, 2 when there is no GPU or no TensorRT."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/gpu-check.json"), help="the results file")
    parser.add_argument("--bundle", type=Path, action="append", help="a bundle; repeatable; unset: all in models/")
    parser.add_argument("--budget-s", type=float, default=BUDGET_S, help="seconds after which nothing is begun")
    asked = parser.parse_args(arguments)
    try:
        with open_cuda() as cuda:
            gpu = cuda.gpu
    except EngineError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 2
    flavours: list[FlavourName] = [name for name in FLAVOURS if BACKENDS[name].installed]
    if not flavours:
        print(f"gpu-check: no TensorRT. Run: {FLAVOURS['tensorrt_rtx'].install_command}", file=sys.stderr)
        return 2
    given: list[Path] = asked.bundle or sorted(path.parent for path in (ROOT / "models").glob("*/spec.json"))
    machine = read_machine()
    with tempfile.TemporaryDirectory(prefix="ferrosight-gpu-") as folder:
        # Copies: plans of this GPU are of no use in a checkout.
        bundles = [Path(shutil.copytree(path, Path(folder) / path.name)) for path in given]
        steps = steps_for(bundles, flavours, gpu.capability)
        results = tuple(run_steps(steps, asked.budget_s, tell=_tell))
    check = GpuCheck(
        checked_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=machine,
        gpu={"name": gpu.name, "capability": gpu.capability, "driver_cuda": gpu.driver_cuda},
        steps=results,
    )
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(check.to_json(), encoding="utf-8")
    print(f"gpu-check: {'passed' if check.passed else 'FAILED'}; see {asked.out}", flush=True)
    return 0 if check.passed else 1


def _tell(result: StepResult) -> None:
    print(f"{result.state:12}{result.seconds:7.1f} s  {result.name}", flush=True)
    if result.state == "failed":
        print(f"  {result.found if isinstance(result.found, str) else json.dumps(result.found)[:2000]}", flush=True)


def _doctor(flavours: Sequence[str]) -> Any:
    findings = examine(Asked(backends=frozenset(flavours)))
    return [f"{each.state}: {each.area}, {each.what}: {each.found}" for each in findings]


def _tests(left_s: float) -> Any:
    """The tests marked `gpu`, in a process of their own: a device that fails would take this one with it."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "tests"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=min(TESTS_S, left_s), check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StepFailedError(f"not done after {error.timeout:.0f} s") from error
    found = done.stdout.splitlines()[-40:]
    if done.returncode:
        raise StepFailedError(found)
    return found


def _build(bundle: Path, flavour: FlavourName, capability: str) -> Any:
    from export.to_tensorrt import Sizes, build_plans

    height_px, width_px = _golden_size(bundle)
    sizes = Sizes(BATCH, (height_px, height_px, height_px), (width_px, width_px, width_px))
    plans = build_plans(bundle, sizes, flavour=flavour, targets=(capability,))
    return [{"plan": plan.path.name, "size_bytes": plan.size_bytes} for plan in plans]


def _parity(bundle: Path, flavour: FlavourName) -> Any:
    from export.on_device import prove_plans

    proofs = prove_plans(bundle, flavour)
    found = [result.model_dump() for proof in proofs for result in proof.record.results]
    if not all(proof.holds for proof in proofs):
        raise StepFailedError(found)
    return found


def _latency(bundle: Path, flavour: FlavourName) -> Any:
    plan = LatencyPlan(backends=(flavour,), batches=BATCH, runs=200, most_s=6.0, slots=3, size_px=_free_size(bundle))
    report = measure_latency(bundle, plan)
    print(latency_markdown(report), flush=True)
    return [row.model_dump() for row in report.rows]


def _idle(bundle: Path, flavour: FlavourName) -> Any:
    """The first batch after the device stood still, left alone and kept awake."""
    import numpy as np

    opened = open_bundle(bundle)
    height_px, width_px = _golden_size(bundle)
    settings = EngineSettings(max_batch=1, slots=1, height_px=height_px, width_px=width_px)
    frames = np.zeros((1, 1, height_px, width_px), np.uint8)
    role = next(iter(opened.spec.graphs))
    found: dict[str, float] = {}
    with open_engine(flavour, opened.model_file(role), opened.spec.graphs[role], settings) as engine:
        for name, kept_awake in (("left_alone_ms", False), ("kept_awake_ms", True)):
            for _ in range(50):
                run_once(engine, frames)
            until = time.monotonic() + IDLE_S
            while time.monotonic() < until:
                time.sleep(0.2)
                if kept_awake:
                    engine.keep_awake()
            before_ns = time.perf_counter_ns()
            run_once(engine, frames)
            found[name] = round((time.perf_counter_ns() - before_ns) / 1e6, 3)
    return found


def _line_speed(bundle: Path, flavour: FlavourName, left_s: float) -> Any:
    plan = LineSpeedPlan(backend=flavour, most_s=min(left_s - 30.0, 120.0))
    report = measure_line_speed(bundle, plan)
    print(line_speed_markdown(report), flush=True)
    return report.model_dump(mode="json", exclude={"machine"})


def _golden_size(bundle: Path) -> tuple[int, int]:
    """Rows and columns of the golden frames: what parity needs within a plan."""
    import numpy as np

    with np.load(bundle / "golden.npz") as arrays:
        height_px, width_px = arrays["frames"].shape[2:]
    return int(height_px), int(width_px)


def _free_size(bundle: Path) -> tuple[int, int] | None:
    """The golden frames' size where a graph leaves its own free."""
    graphs = open_bundle(bundle).spec.graphs.values()
    fixed = all(isinstance(size, int) for graph in graphs for size in graph.input.shape[2:])
    return None if fixed else _golden_size(bundle)


if __name__ == "__main__":
    sys.exit(main())
