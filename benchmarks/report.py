"""What every benchmark writes: JSON with a schema version, and a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Report(BaseModel):
    """Frozen, a key that does not exist is an error, and so is NaN, which JSON cannot say."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        validate_by_name=True,
        validate_by_alias=True,
    )

    def to_json(self) -> str:
        """The report as a file holds it."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"


class Percentiles(Report):
    """How a time is spread, in milliseconds; each figure is one that was measured, never one in between."""

    p50: float
    p95: float
    p99: float
    max: float


class TailPercentiles(Percentiles):
    """The same with the one in a thousand, which of fewer than 1000 times is the largest seen."""

    p999: float


class BundleName(Report):
    """Which bundle was measured."""

    name: str
    digest: str = Field(description="SHA-256 of its spec.json")


def percentiles_ms(times_ns: ArrayLike, digits: int = 4) -> Percentiles:
    """The spread of times given in nanoseconds.

    Of fewer than 100 times the 99th percentile is the largest: the figure is never better than what was seen.

    Raises:
        ValueError: There are no times.

    >>> percentiles_ms([1_000_000, 2_000_000, 9_000_000])
    Percentiles(p50=2.0, p95=9.0, p99=9.0, max=9.0)
    """
    times = np.asarray(times_ns, np.float64) / 1e6
    if times.size == 0:
        raise ValueError("percentiles: found no times, expected at least one. Measure longer.")
    p50, p95, p99 = (round(float(v), digits) for v in np.percentile(times, (50, 95, 99), method="higher"))
    return Percentiles(p50=p50, p95=p95, p99=p99, max=round(float(times.max()), digits))


def tail_percentiles_ms(times_ns: ArrayLike, digits: int = 4) -> TailPercentiles:
    """The spread of times given in nanoseconds, out to the one in a thousand.

    Raises:
        ValueError: There are no times.

    >>> tail_percentiles_ms([1_000_000, 2_000_000, 9_000_000]).p999
    9.0
    """
    spread = percentiles_ms(times_ns, digits)
    p999 = float(np.percentile(np.asarray(times_ns, np.float64) / 1e6, 99.9, method="higher"))
    return TailPercentiles(**spread.model_dump(), p999=round(p999, digits))


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned for those who read the file as it is.

    >>> print(markdown_table(["batch", "ms"], [["1", "15.2"], ["8", "120.0"]]))
    | batch | ms    |
    |-------|-------|
    | 1     | 15.2  |
    | 8     | 120.0 |
    """
    lines = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    text.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"|-{line}-|" if row == 1 else f"| {line} |" for row, line in enumerate(text))


def write_report(out: Path, name: str, report_json: str, markdown: str) -> None:
    """Write `NAME.json` and `NAME.md` into a folder, which is made if it is absent."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(report_json, encoding="utf-8")
    (out / f"{name}.md").write_text(markdown.rstrip() + "\n", encoding="utf-8")
