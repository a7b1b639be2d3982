"""Two reports of one benchmark side by side: what became faster, what slower, and what cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, ValidationError

from benchmarks.latency.report import LatencyReport
from benchmarks.line_speed import LineSpeedReport
from benchmarks.report import Report, markdown_table
from runtime.errors import ConfigError

Better = Literal["lower", "higher"]
Row = tuple[str, str, Better, float]
"""What was measured, the figure, which way is better, and the value."""
LATENCY_SCHEMA = "ferrosight.bench_latency/3"
SAME_AS: Mapping[str, str] = MappingProxyType({"ferrosight.bench_latency/2": LATENCY_SCHEMA})
"""Earlier schemas that a later one reads as they are."""


class ComparedRow(Report):
    """One figure in both reports."""

    what: str
    figure: str
    better: Better
    first: float
    second: float

    @property
    def gain(self) -> float:
        """How many times better the second is; below 1 it is worse."""
        if not (self.first and self.second):
            return 1.0 if self.first == self.second else float("nan")
        return self.second / self.first if self.better == "higher" else self.first / self.second


class Comparison(Report):
    """What `ferrosight bench compare` writes."""

    schema_version: Literal["ferrosight.bench_compare/1"] = Field(default="ferrosight.bench_compare/1", alias="schema")
    compared: str = Field(description="schema of the two reports")
    first: str
    second: str
    machines: tuple[str, str]
    bundles: tuple[str, str]
    rows: tuple[ComparedRow, ...]
    only_first: tuple[str, ...] = Field(description="measured in the first alone")
    only_second: tuple[str, ...]


def _latency_rows(report: Any) -> Iterator[Row]:
    for row in LatencyReport.model_validate(report).rows:
        size = f"{row.height_px}x{row.width_px}"
        what = f"{row.title} {size}, {row.backend} {row.precision}, batch {row.batch}"
        yield what, "p50 ms", "lower", row.batch_ms.p50
        yield what, "p99 ms", "lower", row.batch_ms.p99
        yield what, "frames/s", "higher", row.throughput_fps
        if row.memory_mib is not None:
            yield what, "memory MiB", "lower", row.memory_mib
        for rival in row.rivals:
            yield what, f"times faster than {rival.name}", "higher", rival.times_faster


def _line_speed_rows(report: Any) -> Iterator[Row]:
    found = LineSpeedReport.model_validate(report)
    plan = found.plan
    frame = f"{found.height_px}x{found.width_px} at {plan.mm_per_px:g} mm/px"
    what = f"{frame}, {plan.backend}, within {plan.deadline_ms:g} ms"
    if found.highest_mps is not None:
        yield what, "m/s", "higher", found.highest_mps


def _gpu_check_rows(report: Any) -> Iterator[Row]:
    """Of all its steps that timed networks."""
    for step in report["steps"]:
        found = step["found"]
        if isinstance(found, dict) and _current(found).get("schema") == LATENCY_SCHEMA:
            yield from _latency_rows(_current(found))


READERS: Mapping[str, Callable[[Any], Iterator[Row]]] = MappingProxyType(
    {
        LATENCY_SCHEMA: _latency_rows,
        "ferrosight.gpu_check/2": _gpu_check_rows,
        "ferrosight.bench_line_speed/1": _line_speed_rows,
    }
)
"""From a report's JSON to its figures, by its schema."""


def compare(first: Path, second: Path) -> Comparison:
    """Hold two reports against each other.

    Args:
        first: The JSON of one, such as of yesterday.
        second: The JSON of the other.

    Raises:
        ConfigError: One cannot be read, or they are not of one kind.
    """
    reports = (_read(first), _read(second))
    kinds = [report.get("schema") for report in reports]
    if kinds[0] != kinds[1] or kinds[0] not in READERS:
        raise ConfigError(
            f"bench compare: found reports of {kinds[0]} and {kinds[1]}, expected two of one kind among "
            f"{', '.join(READERS)}. Give two files of the same benchmark."
        )
    kind = str(kinds[0])
    found = [_rows(path, kind, report) for path, report in zip((first, second), reports, strict=True)]
    return Comparison(
        compared=kind,
        first=str(first),
        second=str(second),
        machines=(_machine(reports[0]), _machine(reports[1])),
        bundles=(_bundles(reports[0]), _bundles(reports[1])),
        rows=tuple(
            ComparedRow(what=what, figure=figure, better=better, first=value, second=found[1][what, figure][1])
            for (what, figure), (better, value) in found[0].items()
            if (what, figure) in found[1]
        ),
        only_first=tuple(dict.fromkeys(what for what, figure in found[0] if (what, figure) not in found[1])),
        only_second=tuple(dict.fromkeys(what for what, figure in found[1] if (what, figure) not in found[0])),
    )


def compare_markdown(comparison: Comparison) -> str:
    """The comparison for people."""
    rows = [
        (row.what, row.figure, f"{row.first:.4g}", f"{row.second:.4g}", f"{row.gain:.2f}") for row in comparison.rows
    ]
    lines = [f"# {comparison.first} against {comparison.second}", ""]
    for name, machine, bundle in zip("AB", comparison.machines, comparison.bundles, strict=True):
        lines.append(f"- {name}: {machine}; bundle {bundle}")
    if comparison.machines[0] != comparison.machines[1]:
        lines += ["", "**Not the same machine**: what differs may be that."]
    lines += ["", markdown_table(("what", "figure", "A", "B", "times better"), rows), ""]
    lines += [f"- only in A: {what}" for what in comparison.only_first]
    lines += [f"- only in B: {what}" for what in comparison.only_second]
    return "\n".join(lines).rstrip() + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"bench compare: {path} cannot be read ({error}), expected a report's JSON.") from error
    if not isinstance(report, dict):
        raise ConfigError(f"bench compare: found no report in {path}, expected one with a 'schema'.")
    return _current(report)


def _current(report: dict[str, Any]) -> dict[str, Any]:
    """The report under the schema that reads it."""
    schema = report.get("schema")
    return {**report, "schema": SAME_AS.get(str(schema), schema)}


def _rows(path: Path, kind: str, report: Any) -> dict[tuple[str, str], tuple[Better, float]]:
    try:
        return {(what, figure): (better, value) for what, figure, better, value in READERS[kind](report)}
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"bench compare: {path} is not valid at {place}: {first['msg']}. Measure again with this ferrosight."
        ) from error


def _bundles(report: Mapping[str, Any]) -> str:
    """Digests of one bundle or of several, which a latency report may have."""
    named = report.get("bundles") or [report[key] for key in ("bundle",) if key in report]
    return ", ".join(f"{each['name']} {each['digest'][:12]}" for each in named) or "as its steps name them"


def _machine(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average'][0]:g} at the start"
