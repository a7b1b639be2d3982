"""A bundle against its golden frames, on the backend that is to serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.backends import open_engine
from runtime.bundle import ParityResult
from runtime.errors import BundleError
from runtime.golden import comparisons_of
from runtime.golden.frames import Compare, outputs_of, read_golden

if TYPE_CHECKING:
    from runtime.bundle import Bundle
    from runtime.engine import EngineSettings
    from runtime.spec import Precision

GOLDEN_BATCH = 2
"""Golden frames go through in pairs, as everywhere parity is measured: the batch is exercised too."""


def measure_golden(
    bundle: Bundle,
    backend: str,
    settings: EngineSettings,
    precision: Precision | None = None,
    comparisons: Mapping[str, Compare] | None = None,
) -> tuple[ParityResult, ...]:
    """Run the golden frames through engines of their size, and hold the outputs against torch's.

    Args:
        bundle: The bundle, opened.
        backend: A key of `runtime.backends.BACKENDS`.
        settings: How the engines that serve are opened; threads, arithmetic and the like are taken from there.
        precision: Which files are run; the bundle's preference where it is None.
        comparisons: By role; None takes the task's.

    Raises:
        BundleError: The bundle has no golden frames, is of no known task, or has no limit for a figure.
        EngineError: A graph does not run on the backend.
    """
    known = comparisons_of(bundle.spec.task) if comparisons is None else comparisons
    golden = read_golden(bundle)
    height_px, width_px = golden.frames.shape[2:]
    own = replace(settings, max_batch=GOLDEN_BATCH, slots=1, height_px=height_px, width_px=width_px)
    results: list[ParityResult] = []
    for role, graph in bundle.spec.graphs.items():
        compare = known.get(role)
        if compare is None:
            raise BundleError(
                f"golden frames: found a graph {role!r}, expected one of {', '.join(known)}. "
                "Use the ferrosight that exported the bundle."
            )
        chosen = bundle.precision_of(role, precision)
        with open_engine(backend, bundle.model_file(role, precision), graph, own) as engine:
            found = outputs_of(engine, golden.frames)
        for figure, value in compare(found, golden.outputs[role], bundle.spec.settings).items():
            limit = limit_of(bundle, role, chosen, figure)
            results.append(
                ParityResult(
                    graph=role,
                    precision=chosen,
                    backend=backend,
                    figure=figure,
                    value=value,
                    limit=limit,
                    passed=value <= limit,
                )
            )
    return tuple(results)


def require_golden(results: tuple[ParityResult, ...]) -> None:
    """Refuse results of which one is beyond its limit.

    Raises:
        BundleError: Names the graph, precision, backend, figure, value and limit of the first that is.
    """
    for result in results:
        if not result.holds:
            raise BundleError(
                f"golden frames of {result.graph} ({result.precision}, {result.backend}): found {result.figure} "
                f"{result.value:.6g}, expected at most {result.limit:.6g}. This bundle does not decide here as it was "
                "trained: see 'ferrosight doctor', and export it again with layers kept in FP32."
            )


def limit_of(bundle: Bundle, role: str, precision: Precision, figure: str) -> float:
    """The largest value of a figure that the export allowed.

    Raises:
        BundleError: It allowed none.
    """
    limits = {
        result.limit
        for result in bundle.parity.results
        if (result.graph, result.precision, result.figure) == (role, precision, figure)
    }
    if not limits:
        raise BundleError(
            f"bundle {bundle.path}: found no limit for {figure} of {role} ({precision}) in its parity, expected one. "
            "Export it again with this version of ferrosight."
        )
    return min(limits)
