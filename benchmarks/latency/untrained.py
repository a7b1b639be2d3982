"""The papers' networks as bundles with random weights: what takes time is the arithmetic, whatever it multiplies.

Such a bundle has no head's settings, so no line opens it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.latency.papers import PaperNetwork
from export.bundle import Draft, write_bundle
from export.parity import BACKENDS, Candidate, Comparison, measure
from runtime.bundle import Bundle, Parity, open_bundle
from runtime.errors import BundleError
from runtime.golden.frames import Golden
from runtime.spec import SPEC_FILE, Provenance, read_spec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

Told = Callable[[str], None]
UNTRAINED = "untrained"
"""In the recipe of a bundle's provenance: the seed of its weights."""
SEED = 0
_RECIPE: Mapping[str, Any] = {UNTRAINED: {"seed": SEED}}


def compare_finite(
    found: Mapping[str, NDArray[Any]], torch: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]
) -> Mapping[str, float]:
    """Outputs that are no number, or of another shape than torch's: all that can be asked of random weights."""
    del settings
    return {
        "not_finite": float(sum(np.count_nonzero(~np.isfinite(array)) for array in found.values())),
        "misshapen": float(sum(found[name].shape != array.shape for name, array in torch.items())),
    }


FINITE = Comparison(compare_finite, {"not_finite": 0.0, "misshapen": 0.0})
"""What parity asks of an untrained network, on any backend and on a GPU."""


def untrained_network(network: PaperNetwork) -> nn.Module:
    """The network with its seeded weights, in eval mode on the CPU.

    Raises:
        BundleError: It is not the paper's: it has another number of parameters.
    """
    import torch

    from train.models import build, count_parameters, job_of

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        module = build(job_of(network.trained_task), network.architecture, classes=network.outputs).eval()
    if count_parameters(module) != network.parameters:
        raise BundleError(
            f"{network.name}: found {count_parameters(module):,} parameters, expected the paper's "
            f"{network.parameters:,}. Mend the network, or benchmarks/latency/papers.py."
        )
    return module


def untrained_bundle(
    network: PaperNetwork, size_px: tuple[int, int], cache: Path, tell: Told = lambda _: None
) -> Bundle:
    """The bundle of a paper's network, from the cache or made now.

    Args:
        network: Which.
        size_px: Rows and columns of its golden frame.
        cache: Folder of such bundles.
        tell: Told before it is made, which takes up to a minute.

    Raises:
        BundleError: It cannot be exported.
    """
    folder = cache / network.name
    if (folder / SPEC_FILE).exists() and read_spec(folder).provenance.recipe == _RECIPE:
        return open_bundle(folder)
    tell(f"exporting {network.name}")
    from export.assemble import write_graphs
    from export.tasks import export_task
    from export.to_onnx import torch_outputs
    from export.trained import TrainedGraph

    module = untrained_network(network)
    task = export_task(network.trained_task)
    end = task.graphs[network.graph]
    graph = TrainedGraph(
        task=network.trained_task,
        role=network.graph,
        network=module,
        architecture=network.architecture,
        variant="paper",
        parameters=network.parameters,
        class_names=(),
        recipe=_RECIPE,
        data_digest="",
        git_commit="",
        metrics={},
        data_size_px=None,
    )
    frames = task.golden(1, size_px)
    with tempfile.TemporaryDirectory(prefix="ferrosight-untrained-") as temporary:
        written = write_graphs(graph, end, None if task.free_size else size_px, frames, Path(temporary))
        golden = Golden(frames, {network.graph: torch_outputs(module, end, frames)})
        candidates = [
            Candidate(network.graph, written.spec, precision, backend, backend, path)
            for precision, path in written.files.items()
            for backend in BACKENDS
        ]
        draft = Draft(
            name=network.name,
            task=network.task,
            graphs={network.graph: written.spec},
            onnx={path.name: path for path in written.files.values()},
            settings={},
            provenance=Provenance(
                recipe=dict(_RECIPE), data={}, git_commit="none", created_at="1970-01-01T00:00:00+00:00", metrics={}
            ),
            golden=golden,
            parity=Parity(limits=dict(FINITE.limits), results=measure(candidates, golden, {}, {network.graph: FINITE})),
        )
        return write_bundle(draft, folder, replace=(folder / SPEC_FILE).exists())
