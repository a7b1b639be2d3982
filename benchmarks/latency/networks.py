"""What is measured: graphs of one bundle, or all that the papers' tasks run, ours and theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.frames import frame_size
from benchmarks.latency.papers import NETWORKS, PAPERS, PaperNetwork
from benchmarks.latency.report import Asked, Published
from benchmarks.latency.untrained import UNTRAINED, Told, untrained_bundle
from runtime.bundle import QUANTISED, Bundle, open_bundle
from runtime.errors import ConfigError
from runtime.spec import GraphSpec, Precision

Variant = Literal["compact", "paper"]
VARIANTS: tuple[Variant, ...] = ("compact", "paper")


@dataclass(frozen=True, slots=True)
class Network:
    """One graph at one size.

    Attributes:
        bundle: Where it lies, opened.
        role: Of the graph.
        size_px: Rows and columns of its frames.
        precisions: In which of its files it is measured.
        published: What its paper says of its speed.
    """

    bundle: Bundle
    role: str
    size_px: tuple[int, int]
    precisions: tuple[Precision, ...]
    published: Published | None = None

    @property
    def graph(self) -> GraphSpec:
        """Its contract."""
        return self.bundle.spec.graphs[self.role]

    @property
    def task(self) -> str:
        """As its bundle names it."""
        return self.bundle.spec.task

    @property
    def trained(self) -> bool:
        """Whether its weights were trained; random ones are as fast."""
        return UNTRAINED not in self.bundle.spec.provenance.recipe

    def __str__(self) -> str:
        height_px, width_px = self.size_px
        role = "" if len(self.bundle.spec.graphs) == 1 and self.role == "model" else f" {self.role}"
        return f"{self.task}{role} {self.graph.architecture} {height_px}x{width_px}"


@dataclass(frozen=True, slots=True)
class PaperChoice:
    """Which of the papers' workloads are measured.

    Attributes:
        tasks: Keys of `PAPERS`; empty takes all.
        variants: Ours, theirs, or both.
        lead: Of theirs, only what a paper proposes or compares its speed with, at its first size.
        graphs: Roles; None takes all.
        precisions: In which files.
    """

    tasks: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = VARIANTS
    lead: bool = False
    graphs: tuple[str, ...] | None = None
    precisions: Asked = None

    def __post_init__(self) -> None:
        for name, found, known in (("task", self.tasks, tuple(PAPERS)), ("variant", self.variants, VARIANTS)):
            for each in found:
                if each not in known:
                    raise ConfigError(
                        f"bench latency: found the {name} {each!r}, expected one of {', '.join(known)}. Give one of "
                        "these."
                    )


def carried(bundle: Bundle, role: str, asked: Asked) -> tuple[Precision, ...]:
    """Those of the precisions asked for in which a bundle has a graph; None asks for what the bundle prefers."""
    files = bundle.spec.graphs[role].files
    if asked is None:
        return (bundle.precision_of(role),)
    return tuple(files if asked == "all" else (each for each in asked if each in files))


def named(asked: Asked) -> tuple[Precision, ...]:
    """The precisions that were asked for by name."""
    return asked if isinstance(asked, tuple) else ()


def absent(bundle: Bundle, roles: Sequence[str], asked: Asked) -> Iterator[str]:
    """Of each graph and each precision that it was asked for in and does not have: what it has, and how to get it."""
    for role in roles:
        files = bundle.spec.graphs[role].files
        for each in named(asked):
            if each not in files:
                yield (
                    f"{bundle.spec.name} {role}: its bundle carries {', '.join(files)}, and no {each}. "
                    f"{bundle.how_to_have(each)}"
                )


def bundle_networks(
    bundle: Bundle,
    graphs: Sequence[str] | None = None,
    size_px: tuple[int, int] | None = None,
    asked: Asked = None,
) -> list[Network]:
    """The graphs of one bundle that have one of the precisions asked for.

    Args:
        bundle: Opened.
        graphs: Roles; None takes all.
        size_px: Rows and columns where a graph leaves them open; None takes a strip's.
        asked: In which precisions.

    Raises:
        BundleError: No graph has a precision that was asked for.
        ConfigError: The bundle has no such graph, or it is made for another size.
    """
    known = bundle.spec.graphs
    for role in graphs or ():
        if role not in known:
            raise ConfigError(
                f"bench latency: found no graph {role!r} in {bundle.path}, expected one of {sorted(known)}. "
                "Give one of these with --graph."
            )
    roles = tuple(graphs or known)
    for each in named(asked):
        if not any(each in known[role].files for role in roles):
            bundle.precision_of(roles[0], each)  # says what is missing
    try:
        sizes_px = {role: frame_size(known[role], size_px) for role in roles}
    except ValueError as error:
        raise ConfigError(f"bench latency, {bundle.path}: {error}. Leave --size away.") from error
    found = (Network(bundle, role, sizes_px[role], carried(bundle, role, asked)) for role in roles)
    return [network for network in found if network.precisions]


def paper_networks(
    choice: PaperChoice, shipped: Path, cache: Path, tell: Told = lambda _: None
) -> Iterator[Network | str]:
    """All workloads of the papers: the shipped bundles' graphs, then the papers' networks with random weights.

    Args:
        choice: Which.
        shipped: Folder of the shipped bundles, by task.
        cache: Where the papers' networks are kept as bundles; those that are there are not made again.
        tell: Told of each network that is made.

    Yields:
        A network, or why one that was asked for is not there.

    Raises:
        BundleError: A bundle is refused, or a network cannot be exported.
    """
    tasks = choice.tasks or tuple(PAPERS)
    if "compact" in choice.variants:
        for task in tasks:
            yield from _shipped_networks(choice, task, shipped)
    if "paper" in choice.variants:
        for network in NETWORKS:
            left_out = network.task not in tasks or (choice.lead and not network.lead)
            if not (left_out or (choice.graphs is not None and network.graph not in choice.graphs)):
                yield from _untrained_networks(choice, network, cache, tell)


def _shipped_networks(choice: PaperChoice, task: str, shipped: Path) -> Iterator[Network | str]:
    """The graphs of a task's shipped bundle; in a precision that it lacks, those of the bundle quantised from it."""
    if not (shipped / task).is_dir():
        yield f"{task}, compact: there is no bundle {shipped / task}"
        return
    bundle = open_bundle(shipped / task)
    quantised = {
        each: open_bundle(shipped / f"{task}-{each}")
        for each in named(choice.precisions)
        if each in QUANTISED and (shipped / f"{task}-{each}").is_dir()
    }
    for role, graph in bundle.spec.graphs.items():
        if choice.graphs is not None and role not in choice.graphs:
            continue
        sizes_px = [_own_or(graph, size_px) for size_px in PAPERS[task].sizes_px]
        own = carried(bundle, role, choice.precisions)
        yield from (Network(bundle, role, size_px, own) for size_px in sizes_px if own)
        for each in named(choice.precisions):
            if each in own:
                continue
            other = quantised.get(each)
            if other is not None and each in other.spec.graphs[role].files:
                yield from (Network(other, role, size_px, (each,)) for size_px in sizes_px)
            else:
                yield from absent(bundle if other is None else other, (role,), (each,))


def _untrained_networks(choice: PaperChoice, network: PaperNetwork, cache: Path, tell: Told) -> Iterator[Network | str]:
    """A paper's network at the sizes of its pictures; random weights are never quantised."""
    for each in named(choice.precisions):
        if each in QUANTISED:
            yield f"{network.name}, {each}: random weights are not quantised, since nothing says what they may lose"
    if choice.precisions and not set(choice.precisions) - QUANTISED:
        return
    sizes_px = PAPERS[network.task].sizes_px
    bundle = untrained_bundle(network, sizes_px[0], cache, tell)
    precisions = carried(bundle, network.graph, choice.precisions)
    for size_px in sizes_px[:1] if choice.lead else sizes_px:
        yield Network(bundle, network.graph, size_px, precisions, network.published)


def _own_or(graph: GraphSpec, size_px: tuple[int, int]) -> tuple[int, int]:
    """The size that a graph is made for; the paper's where it leaves its own free."""
    height, width = (
        own if isinstance(own, int) else want for own, want in zip(graph.input.shape[2:], size_px, strict=True)
    )
    return height, width
