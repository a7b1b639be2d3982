"""What is measured: graphs of one bundle, or all that the papers' tasks run, ours and theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.frames import frame_size
from benchmarks.latency.papers import NETWORKS, PAPERS
from benchmarks.latency.report import Published
from benchmarks.latency.untrained import UNTRAINED, Told, untrained_bundle
from runtime.bundle import Bundle, open_bundle
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
        published: What its paper says of its speed.
    """

    bundle: Bundle
    role: str
    size_px: tuple[int, int]
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

    def precisions(self, asked: Precision | Literal["all"] | None) -> tuple[Precision, ...]:
        """In which of its files it is measured.

        Raises:
            BundleError: The bundle does not carry the precision asked for.
        """
        if asked == "all":
            return tuple(self.graph.files)
        return (self.bundle.precision_of(self.role, asked),)

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
    """

    tasks: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = VARIANTS
    lead: bool = False

    def __post_init__(self) -> None:
        for name, found, known in (("task", self.tasks, tuple(PAPERS)), ("variant", self.variants, VARIANTS)):
            for each in found:
                if each not in known:
                    raise ConfigError(
                        f"bench latency: found the {name} {each!r}, expected one of {', '.join(known)}. Give one of "
                        "these."
                    )


def bundle_networks(
    bundle: Bundle, graphs: Sequence[str] | None = None, size_px: tuple[int, int] | None = None
) -> list[Network]:
    """The graphs of one bundle.

    Args:
        bundle: Opened.
        graphs: Roles; None takes all.
        size_px: Rows and columns where a graph leaves them open; None takes a strip's.

    Raises:
        ConfigError: The bundle has no such graph, or it is made for another size.
    """
    known = bundle.spec.graphs
    for role in graphs or ():
        if role not in known:
            raise ConfigError(
                f"bench latency: found no graph {role!r} in {bundle.path}, expected one of {sorted(known)}. "
                "Give one of these with --graph."
            )
    try:
        return [Network(bundle, role, frame_size(known[role], size_px)) for role in graphs or tuple(known)]
    except ValueError as error:
        raise ConfigError(f"bench latency, {bundle.path}: {error}. Leave --size away.") from error


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
            if not (shipped / task).is_dir():
                yield f"{task}, compact: there is no bundle {shipped / task}"
                continue
            bundle = open_bundle(shipped / task)
            for role, graph in bundle.spec.graphs.items():
                for size_px in PAPERS[task].sizes_px:
                    yield Network(bundle, role, _own_or(graph, size_px))
    if "paper" in choice.variants:
        for network in NETWORKS:
            if network.task not in tasks or (choice.lead and not network.lead):
                continue
            sizes = PAPERS[network.task].sizes_px
            bundle = untrained_bundle(network, sizes[0], cache, tell)
            for size_px in sizes[:1] if choice.lead else sizes:
                yield Network(bundle, network.graph, size_px, network.published)


def _own_or(graph: GraphSpec, size_px: tuple[int, int]) -> tuple[int, int]:
    """The size that a graph is made for; the paper's where it leaves its own free."""
    height, width = (
        own if isinstance(own, int) else want for own, want in zip(graph.input.shape[2:], size_px, strict=True)
    )
    return height, width
