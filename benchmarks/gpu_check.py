"""Everything that needs an NVIDIA GPU, in one go: `make gpu-check`, or `python -m benchmarks.gpu_check`.

A GPU is often at hand for minutes only, on a machine that is not one's own. So this runs the tests that need one,
builds plans for it, measures their parity, times them beside torch, finds the line's speed and times the papers' own
networks, in the order of what matters most, until its time is up; and it writes one file that says what was done, what
was found, and what was not reached. `ferrosight bench compare` reads two such files.
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

from benchmarks.device import DeviceState, read_device
from benchmarks.latency.markdown import latency_markdown
from benchmarks.latency.measure import Session, measure_latency
from benchmarks.latency.networks import Network, PaperChoice, paper_networks
from benchmarks.latency.papers import PAPERS
from benchmarks.latency.plans import with_plans
from benchmarks.latency.report import LatencyPlan, LatencyReport
from benchmarks.line_speed import LineSpeedPlan, line_speed_markdown, measure_line_speed
from benchmarks.machine import Machine, read_machine
from benchmarks.report import Report
from runtime.backends import BACKENDS
from runtime.bundle import open_bundle
from runtime.cuda import open_cuda
from runtime.doctor.report import Asked, examine
from runtime.errors import EngineError
from runtime.plans.flavours import FLAVOURS, FlavourName

ROOT = Path(__file__).resolve().parent.parent
BUDGET_S = 570.0
"""Just under ten minutes: the time for which a machine is lent."""
TESTS_S = 240.0
BATCH = (1, 8, 32)
IDLE_S = 10.0
"""After so long a GPU has dropped its clocks."""
COMPILE_S = 25.0
"""Of torch.compile in a step: for the first network and batch, and no more."""
PAPERS_FIRST = "fracture"
"""The one paper that tells its own latency."""
LATENCY = LatencyPlan(
    batches=BATCH, runs=1000, most_s=2.0, slots=3, beside=("bare", "eager", "compile"), compile_most_s=COMPILE_S
)
"""How networks are timed; each step says of which backend, and how much of this there is time for."""

State = Literal["passed", "failed", "not reached"]


class StepResult(Report):
    """What one step found."""

    name: str
    state: State
    seconds: float
    found: Any = Field(description="the step's own figures, or what went wrong")


class GpuCheck(Report):
    """The one file."""

    schema_version: Literal["ferrosight.gpu_check/2"] = Field(default="ferrosight.gpu_check/2", alias="schema")
    checked_at: str = Field(description="UTC, ISO 8601")
    machine: Machine
    before: DeviceState
    after: DeviceState
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
    """All steps for some bundles, whose folders get plans; the papers' networks lie beside them."""
    steps = [Step("doctor", lambda _: _doctor(flavours)), Step("tests", _tests, 60.0)]
    strips = [bundle for bundle in bundles if open_bundle(bundle).spec.task == "strip"]
    for bundle in (*strips, *(bundle for bundle in bundles if bundle not in strips)):
        for flavour in flavours:
            name = f"{bundle.name} on {flavour}"
            steps += [
                Step(f"build {name}", functools.partial(_build, bundle, flavour, capability)),
                Step(f"parity {name}", functools.partial(_parity, bundle, flavour)),
                Step(f"latency {name}", functools.partial(_latency, bundle, flavour), 20.0),
            ]
    cache = (bundles[0].parent if bundles else ROOT / "out") / "papers"
    for task in (PAPERS_FIRST, *(task for task in PAPERS if task != PAPERS_FIRST)):
        for flavour in flavours:
            steps.append(Step(f"papers {task} on {flavour}", functools.partial(_papers, task, flavour, cache), 60.0))
        if task == PAPERS_FIRST:
            steps += [
                Step(f"line speed {strip.name} on {flavour}", functools.partial(_line_speed, strip, flavour), 60.0)
                for strip in strips
                for flavour in flavours
            ]
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
    machine, before = read_machine(), read_device()
    with tempfile.TemporaryDirectory(prefix="ferrosight-gpu-") as folder:
        # Copies: plans of this GPU are of no use in a checkout.
        bundles = [Path(shutil.copytree(path, Path(folder) / path.name)) for path in given]
        steps = steps_for(bundles, flavours, gpu.capability)
        results = tuple(run_steps(steps, asked.budget_s, tell=_tell))
    check = GpuCheck(
        checked_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=machine,
        before=before,
        after=read_device(),
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


def _build(bundle: Path, flavour: FlavourName, capability: str, left_s: float) -> Any:
    from export.to_tensorrt import Sizes, build_plans

    del left_s  # a build cannot be cut short
    height_px, width_px = _golden_size(bundle)
    sizes = Sizes(BATCH, (height_px, height_px, height_px), (width_px, width_px, width_px))
    plans = build_plans(bundle, sizes, flavour=flavour, targets=(capability,))
    return [{"plan": plan.path.name, "size_bytes": plan.size_bytes} for plan in plans]


def _parity(bundle: Path, flavour: FlavourName, left_s: float) -> Any:
    from export.on_device import prove_plans

    del left_s
    proofs = prove_plans(bundle, flavour)
    found = [result.model_dump() for proof in proofs for result in proof.record.results]
    if not all(proof.holds for proof in proofs):
        raise StepFailedError(found)
    return found


def _latency(bundle: Path, flavour: FlavourName, left_s: float) -> Any:
    """Every graph of a bundle; for a strip, whose line stands still between coils, the first batch after that too."""
    strip = open_bundle(bundle).spec.task == "strip"
    changes = {
        "backends": (flavour,),
        "size_px": _free_size(bundle),
        "most_total_s": left_s,
        "compile_most_s": COMPILE_S if strip else 0.0,
        "idle_s": IDLE_S if strip else None,
    }
    return _said(measure_latency(bundle, LATENCY.model_copy(update=changes)))


def _papers(task: str, flavour: FlavourName, cache: Path, left_s: float) -> Any:
    """What a paper proposes, with random weights at the size of its pictures: exported, built, proven and timed."""
    begun_s = time.monotonic()
    plan = LATENCY.model_copy(update={"backends": (flavour,)})
    choice = PaperChoice((task,), ("paper",), lead=True)
    found = list(with_plans(paper_networks(choice, ROOT / "models", cache), plan, cache))
    networks = [each for each in found if isinstance(each, Network)]
    notes = [each for each in found if isinstance(each, str)]
    if not networks:
        raise StepFailedError(notes)
    plan = plan.model_copy(update={"most_total_s": max(1.0, left_s - (time.monotonic() - begun_s))})
    return _said(Session(plan, keep_going=True).measure(networks, f"the paper's networks of {task}", notes))


def _said(report: LatencyReport) -> Any:
    print(latency_markdown(report), flush=True)
    return report.model_dump(mode="json", by_alias=True)


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
