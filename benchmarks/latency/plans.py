"""Before networks are timed on a GPU: their bundles copied to a place of their own, built for it, and proven on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.latency.networks import Network
from benchmarks.latency.report import LatencyPlan
from benchmarks.latency.untrained import FINITE, Told
from runtime.backends import BACKENDS
from runtime.bundle import GOLDEN_FILE, Bundle, open_bundle
from runtime.cuda import open_cuda
from runtime.errors import BundleError, EngineError
from runtime.plans.flavours import FLAVOURS, FlavourName
from runtime.spec import SPEC_FILE, Precision, read_spec


def with_plans(
    networks: Iterable[Network | str], plan: LatencyPlan, cache: Path, tell: Told = lambda _: None
) -> Iterator[Network | str]:
    """The networks, in bundles that have a proven plan for every TensorRT that is asked for.

    Args:
        networks: What is to be measured; notes of what is left out pass through.
        plan: Backends, batches and precision.
        cache: Where copies of bundles go; plans of one GPU are of no use in a checkout.
        tell: Told of each bundle that is built.

    Yields:
        A network in its copy, or why there is no plan of it. Without a backend of a GPU, all as they are.
    """
    flavours: list[FlavourName] = [name for name in FLAVOURS if name in plan.backends and BACKENDS[name].on_gpu]
    ready: dict[Path, Bundle | str] = {}
    found = list(networks)
    for network in found:
        if isinstance(network, str) or not flavours:
            yield network
            continue
        path = network.bundle.path
        if path not in ready:
            same = [each for each in found if isinstance(each, Network) and each.bundle.path == path]
            tell(f"building {network.bundle.spec.name} for {' and '.join(flavours)}")
            try:
                ready[path] = _built(same, flavours, plan, cache / "plans" / path.name)
            except (BundleError, EngineError) as error:
                ready[path] = f"{network}: no plan: {error}"
        bundle = ready[path]
        yield bundle if isinstance(bundle, str) else replace(network, bundle=bundle)


def _built(networks: Sequence[Network], flavours: Sequence[FlavourName], plan: LatencyPlan, copy: Path) -> Bundle:
    """The copy of the networks' one bundle, with plans for all their sizes and batches, proven on this GPU.

    Raises:
        BundleError: The bundle is not sound, or its parity fails on the GPU.
        EngineError: A graph cannot be built.
    """
    from export.on_device import prove_plans
    from export.to_tensorrt import Sizes, build_plans

    bundle = networks[0].bundle
    if not _is_copy(copy, bundle):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(bundle.path, copy, ignore=shutil.ignore_patterns("engines"))
    with np.load(copy / GOLDEN_FILE) as arrays:
        # The golden frames are run too: parity is measured on them.
        height_px, width_px = (int(each) for each in arrays["frames"].shape[2:])
    heights, widths = zip((height_px, width_px), *(each.size_px for each in networks), strict=True)
    largest = max(*plan.batches, 2)
    usual = networks[0].size_px
    asked = Sizes((1, min(8, largest), largest), _range(heights, usual[0]), _range(widths, usual[1]))
    for flavour in flavours:
        for precision in _whole(networks):
            with open_cuda() as cuda:
                targets = (cuda.gpu.capability,)
            build_plans(copy, asked, flavour=flavour, targets=targets, precision=precision)
        untrained = dict.fromkeys(bundle.spec.graphs, FINITE)
        proofs = prove_plans(copy, flavour, comparisons=None if networks[0].trained else untrained)
        for proof in proofs:
            if not proof.holds:
                failed = [f"{each.figure} {each.value:.4g}" for each in proof.record.results if not each.holds]
                raise BundleError(f"{proof.plan_file}: parity fails on this GPU: {', '.join(failed)}")
    return open_bundle(copy)


def _whole(networks: Sequence[Network]) -> tuple[Precision | None, ...]:
    """For which precisions a bundle is built; None, its preference, where not every graph has the one asked for."""
    graphs = networks[0].bundle.spec.graphs.values()
    asked: list[Precision] = [each for network in networks for each in network.precisions]
    whole: list[Precision | None] = [each if all(each in graph.files for graph in graphs) else None for each in asked]
    return tuple(dict.fromkeys(whole))


def _is_copy(folder: Path, bundle: Bundle) -> bool:
    """Whether a folder holds a bundle's graphs as they are now."""
    if not (folder / SPEC_FILE).exists():
        return False
    spec = read_spec(folder)
    files = [file for graph in bundle.spec.graphs.values() for file in graph.files.values()]
    return all(spec.files.get(file) == bundle.spec.files[file] for file in files)


def _range(sizes: Sequence[int], usual: int) -> tuple[int, int, int]:
    return min(sizes), usual, max(sizes)
