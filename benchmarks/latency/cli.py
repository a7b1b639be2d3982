"""What stands between the options of `ferrosight bench latency` and a session of measurements."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from benchmarks.latency.measure import Session, cells_of, measure_latency
from benchmarks.latency.networks import Network, PaperChoice, bundle_networks, paper_networks
from benchmarks.latency.plans import with_plans
from benchmarks.latency.report import Beside, LatencyPlan, LatencyReport
from runtime.bundle import open_bundle
from runtime.errors import ConfigError

Progress = Callable[[int], AbstractContextManager[Callable[[str], None]]]
"""From a number of steps to a bar, which is told of each."""
NOTHING = "none"


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


def plan_of(beside: str, **asked: Any) -> LatencyPlan:
    """A plan from options.

    Args:
        beside: Names with commas between, or `none`.
        asked: The other fields of the plan.

    Raises:
        ConfigError: There is no such thing to be held against.
    """
    known = get_args(Beside)
    named = [] if beside == NOTHING else [each.strip() for each in beside.split(",")]
    for each in named:
        if each not in known:
            raise ConfigError(f"--beside {each!r}: expected some of {', '.join(known)}, or {NOTHING}.")
    return LatencyPlan.model_validate({**asked, "beside": tuple(dict.fromkeys(named))})


def run_bundle(path: Path, plan: LatencyPlan, progress: Progress) -> LatencyReport:
    """Measure the graphs of one bundle; see `benchmarks.latency.measure.measure_latency`."""
    networks = bundle_networks(open_bundle(path), plan.graphs, plan.size_px)
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
    names = [each.strip() for each in papers.variants.split(",")]
    variants: list[Any] = names
    choice = PaperChoice(papers.tasks, tuple(variants), papers.lead)
    found = list(with_plans(paper_networks(choice, papers.shipped, papers.cache, tell), plan, papers.cache, tell))
    networks = [each for each in found if isinstance(each, Network) and _asked(each, plan)]
    notes = [each for each in found if isinstance(each, str)]
    if not networks:
        raise ConfigError(
            f"bench latency: found nothing to measure ({'; '.join(notes) or 'no such network'}), expected at least one "
            "network. Ask for other tasks, variants or graphs, or mend what is said."
        )
    with progress(len(cells_of(networks, plan))) as begin:
        session = Session(plan, lambda cell: begin(str(cell)), keep_going=True)
        return session.measure(networks, "the papers' networks and the shipped ones", notes)


def _asked(network: Network, plan: LatencyPlan) -> bool:
    """Whether the plan asks for its graph, and its bundle carries what is asked for."""
    named = plan.graphs is None or network.role in plan.graphs
    return named and (plan.precision in (None, "all") or plan.precision in network.graph.files)
