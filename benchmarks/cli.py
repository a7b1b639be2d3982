"""The measuring commands: bench latency, bench overhead, bench line-speed, evaluate."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.command_parts import (
    BackendOption,
    JsonOption,
    OutOption,
    PrecisionOption,
    ThreadsOption,
    report_console,
    step_progress,
    tell,
)
from benchmarks.evaluate_command import evaluate
from benchmarks.rival_cascades_command import cascade
from runtime.errors import ConfigError

app = typer.Typer(no_args_is_help=True)
bench = typer.Typer(no_args_is_help=True)
app.add_typer(bench, name="bench", help="Measure how fast the models and the line are, on this machine.")
bench.command()(cascade)
app.command()(evaluate)

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "strip"
"""The bundle of a source checkout."""


@bench.command()
def latency(
    bundle: Annotated[Path, typer.Argument(help="The bundle.")] = SHIPPED,
    papers: Annotated[
        bool,
        typer.Option(help="Instead: every network of the five papers' tasks, shipped and the papers' own."),
    ] = False,
    task: Annotated[list[str] | None, typer.Option(help="Of --papers, only this task. More than once.")] = None,
    variant: Annotated[str, typer.Option(help="Of --papers: compact, paper or both.")] = "compact,paper",
    lead: Annotated[
        bool, typer.Option(help="Of the papers' own networks, only what a paper proposes or compares its speed with.")
    ] = False,
    cache: Annotated[
        Path, typer.Option(help="Where the papers' networks are kept, exported with random weights.")
    ] = Path("out/papers"),
    backend: Annotated[list[str] | None, typer.Option(help="Backend; may be given more than once.")] = None,
    batch: Annotated[str, typer.Option(help="Batches, with commas between.")] = "1,2,4,8",
    graph: Annotated[
        list[str] | None, typer.Option(help="Graph of the bundle, such as gate; unset: all. More than once.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Files, with commas between, or all; unset: the bundle's preference; int8 is in TASK-int8."),
    ] = None,
    beside: Annotated[
        str, typer.Option(help="What each row is held against in the same minutes: bare, eager, compile, or none.")
    ] = "bare,eager,compile",
    idle_s: Annotated[
        float | None, typer.Option(min=0.1, help="Also the first batch after so many idle seconds.")
    ] = None,
    runs: Annotated[
        int, typer.Option(min=1, help="Batches timed in each cell; below 1000 the p99.9 is the max, below 100 the p99.")
    ] = 100,
    warm_up: Annotated[int, typer.Option(min=0, help="Batches before, not timed.")] = 5,
    most_s: Annotated[float, typer.Option(min=0.01, help="Seconds after which each way in a cell ends early.")] = 30.0,
    compile_most_s: Annotated[float, typer.Option(min=0.0, help="Seconds of torch.compile, all in all.")] = 120.0,
    most_total_s: Annotated[float | None, typer.Option(min=1.0, help="Seconds after which no cell is begun.")] = None,
    slots: Annotated[int, typer.Option(min=1, help="Batches in flight for the frames a second.")] = 2,
    threads: ThreadsOption = None,
    size: Annotated[
        str | None, typer.Option(help="Frame as ROWSxCOLUMNS, for graphs that leave it open; 256x1600 if unset.")
    ] = None,
    out: OutOption = Path("out/bench"),
    as_json: JsonOption = False,
) -> None:
    """Latency of networks, by backend, precision and batch: percentiles, stages, memory, and beside torch.

    Each cell opens an engine for its batch and times 'submit' to 'collect' with nothing else in flight, in turns with
    torch and with the backend's own API; then frames a second with all slots taken. With --papers at the sizes of the
    papers' pictures, with the papers' own figures beside it.
    """
    from benchmarks.latency.cli import Papers, plan_of, run_bundle, run_papers
    from benchmarks.latency.markdown import latency_markdown
    from benchmarks.latency.plot import plot_latency

    plan = plan_of(
        beside,
        precision,
        backends=tuple(backend or ("openvino",)),
        batches=_batches(batch),
        graphs=tuple(graph) if graph else None,
        runs=runs,
        warm_up=warm_up,
        most_s=most_s,
        compile_most_s=compile_most_s,
        most_total_s=most_total_s,
        idle_s=idle_s,
        slots=slots,
        threads=threads,
        size_px=None if size is None else _size(size),
    )
    if papers:
        asked = Papers(tuple(task or ()), variant, lead, SHIPPED.parent, cache)
        report = run_papers(asked, plan, lambda steps: step_progress(steps, quiet=as_json), report_console().print)
    else:
        report = run_bundle(bundle, plan, lambda steps: step_progress(steps, quiet=as_json))
    tell(report.to_json(), latency_markdown(report), out, "latency", as_json=as_json)
    plot_latency(report, out / "latency.png")


@bench.command()
def overhead(
    bundle: Annotated[Path, typer.Argument(help="A strip bundle.")] = SHIPPED,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Ask only this: cascade, null_line or added_latency. More than once."),
    ] = None,
    backend: BackendOption = "openvino",
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Most frames in a batch.")] = 8,
    turns: Annotated[
        int, typer.Option(min=1, help="Turns of the line beside the bare engines; the median counts.")
    ] = 24,
    turn_s: Annotated[float, typer.Option(min=0.1, help="Length of one turn, about.")] = 3.0,
    null_runs: Annotated[int, typer.Option(min=1, help="Runs with the null engine; the median counts.")] = 5,
    null_frames: Annotated[int, typer.Option(min=100, help="Frames of one such run.")] = 40_000,
    rate_hz: Annotated[float, typer.Option(min=1.0, help="Camera's pace for the added latency, frames/s.")] = 1250.0,
    paced_s: Annotated[float, typer.Option(min=0.1, help="Length of the run at that pace, about.")] = 10.0,
    drawn_frames: Annotated[int, typer.Option(min=1, help="Different frames that the camera shows in a loop.")] = 64,
    defects_per_frame: Annotated[
        float, typer.Option(min=0.0, help="Decides the share of frames that pass the gate.")
    ] = 0.7,
    subscriber: Annotated[bool, typer.Option(help="Subscribe in a process of its own.")] = True,
    profile: Annotated[
        bool, typer.Option("--profile", help="Profile the loop with the null engine; its figures are then too low.")
    ] = False,
    out: OutOption = Path("out/bench"),
    as_json: JsonOption = False,
) -> None:
    """What the line costs around its engines: throughput kept, frames a second without a model, latency added.

    One process, one run: the whole line and its bare engines take turns; then the line runs with an engine that
    answers clean at once, as fast as it can and at a camera's pace.
    """
    from benchmarks.overhead import measure_overhead, profiled, steps_of
    from benchmarks.overhead_report import QUESTIONS, OverheadPlan, overhead_markdown
    from benchmarks.plots import plot_overhead

    unknown = sorted(set(only or ()) - set(QUESTIONS))
    if unknown:
        raise ConfigError(f"bench overhead: found --only {unknown[0]}, expected one of {', '.join(QUESTIONS)}.")
    plan = OverheadPlan(
        questions=tuple(question for question in QUESTIONS if not only or question in only),
        backend=backend,
        precision=precision,
        threads=threads,
        batch=batch,
        turns=turns,
        turn_s=turn_s,
        null_runs=null_runs,
        null_frames=null_frames,
        rate_hz=rate_hz,
        paced_s=paced_s,
        drawn_frames=drawn_frames,
        defects_per_frame=defects_per_frame,
        subscribers=1 if subscriber else 0,
    )
    around = profiled(out / "overhead_profile.txt") if profile else contextlib.nullcontext
    with step_progress(steps_of(plan), quiet=as_json) as begin:
        report = measure_overhead(bundle, plan, begin, around)
    tell(report.to_json(), overhead_markdown(report), out, "overhead", as_json=as_json)
    plot_overhead(report, out / "overhead.png")


@bench.command("line-speed")
def line_speed(
    bundle: Annotated[Path, typer.Argument(help="A strip bundle.")] = SHIPPED,
    backend: BackendOption = "openvino",
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Most frames in a batch.")] = 8,
    speed_mps: Annotated[float, typer.Option(min=0.01, help="The first speed that is tried, in m/s.")] = 2.0,
    mm_per_px: Annotated[float, typer.Option(min=1e-3, help="Length of a pixel on the strip, in mm.")] = 0.5,
    deadline_ms: Annotated[
        float, typer.Option(min=0.1, help="The p99 from exposure to message stays under it.")
    ] = 100.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of one run.")] = 4.0,
    most_s: Annotated[float, typer.Option(min=0.1, help="Seconds after which no run is begun.")] = 120.0,
    defects_per_frame: Annotated[
        float, typer.Option(min=0.0, help="Decides the share of frames that are segmented.")
    ] = 0.05,
    out: OutOption = Path("out/bench"),
    as_json: JsonOption = False,
) -> None:
    """How fast the strip may run: the highest speed at which no frame is missed and the p99 is within the deadline.

    The camera keeps the strip's time whatever the line does; what it cannot take is missed and counted.
    """
    from benchmarks.line_speed import LineSpeedPlan, line_speed_markdown, measure_line_speed
    from benchmarks.plots import plot_line_speed

    plan = LineSpeedPlan(
        backend=backend,
        precision=precision,
        threads=threads,
        batch=batch,
        mm_per_px=mm_per_px,
        deadline_ms=deadline_ms,
        start_mps=speed_mps,
        seconds=seconds,
        most_s=most_s,
        defects_per_frame=defects_per_frame,
    )
    console = report_console()
    report = measure_line_speed(bundle, plan, lambda run: None if as_json else console.print(run))
    tell(report.to_json(), line_speed_markdown(report), out, "line_speed", as_json=as_json)
    plot_line_speed(report, out / "line_speed.png")


@bench.command("compare")
def compare_reports(
    first: Annotated[
        Path,
        typer.Argument(metavar="A.json", help="A report of 'bench latency', 'bench line-speed' or 'make gpu-check'."),
    ],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Another one of the same benchmark.")],
    as_json: JsonOption = False,
) -> None:
    """Two reports side by side: each figure of both, and how many times better the second is."""
    from benchmarks.compare import compare, compare_markdown

    comparison = compare(first, second)
    typer.echo(comparison.to_json() if as_json else compare_markdown(comparison))


def _batches(text: str) -> tuple[int, ...]:
    """From `1,2,4` to numbers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--batch {text!r}: expected whole numbers from 1 up with commas between, such as 1,2,4,8.")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _size(text: str) -> tuple[int, int]:
    """From `256x1600` to rows and columns."""
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise ConfigError(f"--size {text!r}: expected ROWSxCOLUMNS, such as 256x1600.")
    return int(rows), int(columns)
