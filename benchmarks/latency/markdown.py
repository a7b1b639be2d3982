"""A latency report for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from benchmarks.latency.papers import PAPERS
from benchmarks.latency.report import TAIL_RUNS, LatencyReport, LatencyRow, Rival
from benchmarks.report import markdown_table

NONE = "-"
P99_RUNS = 100
"""Batches from which a p99 is more than the largest seen."""
Column = Callable[[LatencyRow], str]


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _rare_ms(value: float, runs: int, enough: int) -> str:
    """A rare percentile; in parentheses where so few runs only show the largest time."""
    return f"{value:.2f}" if runs >= enough else f"({value:.2f})"


def _widened(row: LatencyRow) -> str:
    """Whether a half file is computed in FP32, as some measures ask for."""
    return " as fp32" if row.precision != "fp32" and row.arithmetic == "fp32" else ""


_WHO: Mapping[str, Column] = MappingProxyType(
    {
        "network": lambda row: row.title + ("" if row.trained else " *"),
        "pixels": lambda row: f"{row.height_px}x{row.width_px}",
        "backend": lambda row: f"{row.backend}, {row.precision}{_widened(row)}",
        "batch": lambda row: str(row.batch),
    }
)
_TIMES: Mapping[str, Column] = MappingProxyType(
    {
        "p50 ms": lambda row: _ms(row.batch_ms.p50),
        "p95 ms": lambda row: _ms(row.batch_ms.p95),
        "p99 ms": lambda row: _rare_ms(row.batch_ms.p99, row.runs, P99_RUNS),
        "p99.9 ms": lambda row: _rare_ms(row.batch_ms.p999, row.runs, TAIL_RUNS),
        "max ms": lambda row: _ms(row.batch_ms.max),
        "ms a frame": lambda row: _ms(row.frame_ms.p50),
        "frames/s": lambda row: f"{row.throughput_fps:.1f}",
        "runs": lambda row: str(row.runs),
    }
)
_STAGES: Mapping[str, Column] = MappingProxyType(
    {
        "submit ms": lambda row: _ms(row.stages_ms.submit),
        "upload ms": lambda row: _ms(row.stages_ms.upload),
        "compute ms": lambda row: _ms(row.stages_ms.compute),
        "download ms": lambda row: _ms(row.stages_ms.download),
        "post ms": lambda row: _ms(row.stages_ms.post),
        "memory MiB": lambda row: NONE if row.memory_mib is None else f"{row.memory_mib:.0f}",
        "after idle ms": lambda row: NONE if row.after_idle is None else _ms(row.after_idle.left_alone_ms),
        "kept awake ms": lambda row: NONE if row.after_idle is None else _ms(row.after_idle.kept_awake_ms),
    }
)


def latency_markdown(report: LatencyReport) -> str:
    """The report as Markdown."""
    return "\n\n".join(_sections(report)) + "\n"


def _sections(report: LatencyReport) -> Iterator[str]:
    plan = report.plan
    yield f"# Latency of {report.subject}"
    threads = "each library's own choice" if plan.threads is None else str(plan.threads)
    yield (
        f"{report.machine.heading}.\n\n- before: {report.before.heading}\n- after: {report.after.heading}\n"
        f"- CPU threads: {threads}\n"
        f"- libraries: {', '.join(f'{name} {version}' for name, version in report.machine.libraries.items())}"
    )
    yield f"## A batch, from `submit` to the end of `collect`\n\n{_table(report.rows, _TIMES)}"
    random_weights = (
        " \\* a paper's network with random weights: as fast as with trained ones, and good for nothing else."
    )
    yield (
        "Nothing else is in flight; `ms a frame` is the p50 divided by the batch; frames/s is with "
        f"{plan.slots} batches in flight. In parentheses: of fewer than {P99_RUNS} runs the p99, and of fewer than "
        f"{TAIL_RUNS} the p99.9, is the largest time seen."
        + ("" if all(row.trained for row in report.rows) else random_weights)
    )
    yield f"## Where the time goes\n\n{_table(report.rows, _STAGES)}"
    yield (
        "Medians of the same batches. `submit`: the host's checks, and the start. On a GPU `upload`, `compute` and "
        "`download` are by the device's own events; a CPU copies nothing, and its `compute` is the wait in `collect`. "
        "`post` is the task's head over all frames of the batch, from outputs to answers; random weights have none. "
        "Memory is the device's on a GPU, else the growth of the process's peak."
    )
    names = list(dict.fromkeys(_short(row, rival) for row in report.rows for rival in row.rivals))
    if names:
        columns: dict[str, Column] = {"ours ms": lambda row: _ms(row.batch_ms.p50)}
        for name in names:
            columns[name] = lambda row, name=name: _beside(row, name)
        yield f"## Beside it, in the same minutes\n\n{_table(report.rows, columns)}"
        yield (
            "p50 of the same batches done otherwise, in turns with ours, and in brackets how many times faster ours "
            "is: above 1 ours is the faster one. `bare` is the backend by its own API, without slots, checks and "
            "contract. torch runs the same network with the same ends from the same frames on the host to outputs on "
            "the host."
        )
    tasks = [task for task in PAPERS if any(row.task == task and row.variant == "paper" for row in report.rows)]
    if tasks:
        yield "## What the papers say\n\n" + "\n".join(_paper_lines(report.rows, tasks))
    if report.left_out:
        yield "## Left out\n\n" + "\n".join(f"- {each}" for each in report.left_out)


def _table(rows: Sequence[LatencyRow], columns: Mapping[str, Column]) -> str:
    every = {**_WHO, **columns}
    return markdown_table(tuple(every), [tuple(column(row) for column in every.values()) for row in rows])


def _short(row: LatencyRow, rival: Rival) -> str:
    return rival.name.removeprefix(f"{row.backend}, ")


def _beside(row: LatencyRow, name: str) -> str:
    found = next((rival for rival in row.rivals if _short(row, rival) == name), None)
    return NONE if found is None else f"{found.p50_ms:.2f} [{found.times_faster:.2f}]"


def _paper_lines(rows: Sequence[LatencyRow], tasks: Sequence[str]) -> Iterator[str]:
    for task in tasks:
        paper = PAPERS[task]
        yield f"- {task} ({paper.about}), {paper.sizes_from}: {paper.speed}."
        for row in rows:
            if row.task == task and row.published is not None and row.batch == 1:
                yield (
                    f"  - {row.architecture}: {row.published.latency_ms:g} ms on {row.published.device} "
                    f"({row.published.place}); here p50 {row.batch_ms.p50:.1f} ms on {row.backend}, {row.precision}."
                )
