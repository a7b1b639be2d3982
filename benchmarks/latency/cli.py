"""What stands between the options of `ferrosight bench latency` and a session of measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from benchmarks.latency.measure import Session, cells_of, measure_latency
from benchmarks.latency.networks import Network, PaperChoice, bundle_networks, paper_networks
from benchmarks.latency.plans import with_plans
from benchmarks.latency.report import Beside, LatencyPlan, LatencyReport
from runtime.bundle import open_bundle
from runtime.errors import ConfigError
from runtime.spec import Precision

Progress = Callable[[int], AbstractContextManager[Callable[[str], None]]]
"""From a number of steps to a bar, which is told of each."""
NOTHING = "none"
SUBJECTS: Mapping[frozenset[str], str] = MappingProxyType(
    {
        frozenset({"compact"}): "the shipped networks at the papers' sizes",
        frozenset({"paper"}): "the papers' own networks",
        frozenset({"compact", "paper"}): "the shipped networks and the papers' own",
    }
)
"""What a report is about, by the variants that were asked for."""


@dataclass(frozen=True, slots=True)
class Papers:
    """What of the papers is measured, as the command line says it.

    Attributes:
        tasks: Empty takes all.
        variants: With commas between.
        lead: Of the papers' own networks, only the leading ones.
        shipped: Folder of the shipped bundles.
        cache: Where the papers' networks are kept.
    """

    tasks: tuple[str, ...]
    variants: str
    lead: bool
    shipped: Path
    cache: Path


def plan_of(beside: str, precision: str | None, **asked: Any) -> LatencyPlan:
    """A plan from options.

    Args:
        beside: Names with commas between, or `none`.
        precision: Names with commas between, `all`, or None.
        asked: The other fields of the plan.

    Raises:
        ConfigError: There is no such thing to be held against, or no such precision.
    """
    known = get_args(Beside)
    named = [] if beside == NOTHING else [each.strip() for each in beside.split(",")]
    for each in named:
        if each not in known:
            raise ConfigError(f"--beside {each!r}: expected some of {', '.join(known)}, or {NOTHING}.")
    asked |= {"beside": tuple(dict.fromkeys(named)), "precision": _precisions(precision)}
    return LatencyPlan.model_validate(asked)


def _precisions(text: str | None) -> tuple[str, ...] | str | None:
    """From `fp16,int8` to names."""
    if text is None or text == "all":
        return text
    known = get_args(Precision)
    names = tuple(dict.fromkeys(each.strip() for each in text.split(",")))
    for each in names:
        if each not in known:
            raise ConfigError(f"--precision {each!r}: expected some of {', '.join(known)} with commas between, or all.")
    return names


def run_bundle(path: Path, plan: LatencyPlan, progress: Progress) -> LatencyReport:
    """Measure the graphs of one bundle; see `benchmarks.latency.measure.measure_latency`."""
    networks = bundle_networks(open_bundle(path), plan.graphs, plan.size_px, plan.precision)
    with progress(len(cells_of(networks, plan))) as begin:
        return measure_latency(path, plan, lambda cell: begin(str(cell)))


def run_papers(papers: Papers, plan: LatencyPlan, progress: Progress, tell: Callable[[str], None]) -> LatencyReport:
    """Measure the papers' workloads; a cell that fails is noted and left out.

    Args:
        papers: Which.
        plan: How, and how long.
        progress: A bar.
        tell: Told of each network that has to be exported or built first.

    Raises:
        BundleError: A bundle is refused.
        ConfigError: No such task or variant.
        EngineError: A backend is absent.
    """
    variants: list[Any] = [each.strip() for each in papers.variants.split(",")]
    choice = PaperChoice(papers.tasks, tuple(variants), papers.lead, plan.graphs, plan.precision)
    workloads = paper_networks(choice, papers.shipped, papers.cache, tell)
    found = list(with_plans(workloads, plan, papers.cache, tell))
    networks = [each for each in found if isinstance(each, Network)]
    notes = [each for each in found if isinstance(each, str)]
    if not networks:
        raise ConfigError(
            f"bench latency: found nothing to measure ({'; '.join(notes) or 'no such network'}), expected at least one "
            "network. Ask for other tasks, variants or graphs, or mend what is said."
        )
    with progress(len(cells_of(networks, plan))) as begin:
        session = Session(plan, lambda cell: begin(str(cell)), keep_going=True)
        return session.measure(networks, SUBJECTS[frozenset(variants)], notes)
