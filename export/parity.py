"""Parity: do the exported graphs decide as the trained network did?

The golden frames go through the runtime's own engines, on every backend, and the outputs are compared with what torch
gave, in the task's units: what is compared, and how far it may differ, is the task's own (`export.tasks`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends import open_engine
from runtime.bundle import ParityResult
from runtime.engine import EngineSettings
from runtime.errors import BundleError
from runtime.golden.frames import Compare, Golden, outputs_of
from runtime.spec import GraphSpec, Precision

BACKENDS = ("openvino", "onnxruntime")
"""Where every graph is run."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What parity asks of one graph.

    Attributes:
        compare: Gives the figures.
        limits: The largest value of each figure that a bundle may have.
        fp32_limits: The same for the FP32 file, where it is held to less.
        int8_limits: The same for an INT8 or an FP8 file, where it may have more.
    """

    compare: Compare
    limits: Mapping[str, float]
    fp32_limits: Mapping[str, float] = field(default_factory=dict)
    int8_limits: Mapping[str, float] = field(default_factory=dict)

    def limits_of(self, precision: Precision) -> dict[str, float]:
        """The largest value of every figure of a file."""
        own: Mapping[Precision, Mapping[str, float]] = {
            "fp32": self.fp32_limits,
            "int8": self.int8_limits,
            "fp8": self.int8_limits,
        }
        return {**self.limits, **own.get(precision, {})}

    def limit(self, figure: str, precision: Precision) -> float:
        """The largest value of a figure of a file.

        Raises:
            BundleError: None is given.
        """
        limits = self.limits_of(precision)
        if figure not in limits:
            raise BundleError(
                f"parity: found the figure {figure!r} without a limit, expected one of {', '.join(limits)}. "
                "Give it a limit in the task's module."
            )
        return limits[figure]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One file to compare.

    Attributes:
        role: Whose graph it is.
        graph: Its contract.
        precision: Under which the contract names it.
        backend: How the results name it.
        engine: Key of the backend that runs it.
        file: The ONNX file.
    """

    role: str
    graph: GraphSpec
    precision: Precision
    backend: str
    engine: str
    file: Path


def measure(
    candidates: Iterable[Candidate],
    golden: Golden,
    settings: Mapping[str, Any],
    comparisons: Mapping[str, Comparison],
    *,
    threads: int | None = None,
    report: Callable[[Candidate], None] = lambda _: None,
) -> tuple[ParityResult, ...]:
    """Run every candidate on the golden frames and compare.

    Args:
        candidates: What to run.
        golden: Frames and torch outputs.
        settings: The head's settings, with the thresholds at which a decision could flip.
        comparisons: By role.
        threads: CPU threads of an engine.
        report: Told of each candidate before it runs.

    Raises:
        EngineError: A backend is not installed, or cannot run a graph.
        BundleError: No comparison is known for a role, or no limit for a figure.
    """
    results: list[ParityResult] = []
    for candidate in candidates:
        report(candidate)
        comparison_of(candidate.role, comparisons)  # before minutes are spent on running it
        found = run(candidate, golden.frames, threads)
        results += compare(candidate, found, golden, settings, comparisons)
    return tuple(results)


def compare(
    candidate: Candidate,
    found: Mapping[str, NDArray[Any]],
    golden: Golden,
    settings: Mapping[str, Any],
    comparisons: Mapping[str, Comparison],
) -> tuple[ParityResult, ...]:
    """Hold a candidate's outputs against torch's.

    Args:
        candidate: Whose they are.
        found: By name, for all golden frames.
        golden: Frames and torch outputs.
        settings: The head's settings.
        comparisons: By role.

    Raises:
        BundleError: No comparison is known for the role, or no limit for a figure.
    """
    comparison = comparison_of(candidate.role, comparisons)
    results: list[ParityResult] = []
    for figure, value in comparison.compare(found, golden.outputs[candidate.role], settings).items():
        limit = comparison.limit(figure, candidate.precision)
        results.append(
            ParityResult(
                graph=candidate.role,
                precision=candidate.precision,
                backend=candidate.backend,
                figure=figure,
                value=value,
                limit=limit,
                passed=value <= limit,
            )
        )
    return tuple(results)


def comparison_of(role: str, comparisons: Mapping[str, Comparison]) -> Comparison:
    """What parity asks of a role.

    Raises:
        BundleError: Nothing is known of it.
    """
    if role not in comparisons:
        raise BundleError(
            f"parity: found a graph {role!r}, expected one of {', '.join(comparisons)}. "
            "Give it a comparison in the task's module."
        )
    return comparisons[role]


def worst(results: Iterable[ParityResult]) -> tuple[ParityResult, ...]:
    """Of the results of several sets of frames, the worst of each figure of each file on each backend."""
    found: dict[tuple[str, ...], ParityResult] = {}
    for result in results:
        key = (result.graph, result.precision, result.backend, result.figure)
        kept = found.get(key)
        # A NaN is worse than any number.
        if kept is None or (not math.isnan(kept.value) and not result.value <= kept.value):
            found[key] = result
    return tuple(found.values())


def run(candidate: Candidate, frames: NDArray[np.uint8], threads: int | None = None) -> dict[str, NDArray[Any]]:
    """A candidate's outputs by name; frames in pairs, so that the batch is exercised too.

    Raises:
        EngineError: The backend is not installed, or cannot run the graph.
    """
    height, width = frames.shape[2:]
    settings = EngineSettings(max_batch=2, slots=1, height_px=height, width_px=width, threads=threads)
    with open_engine(candidate.engine, candidate.file, candidate.graph, settings) as engine:
        return outputs_of(engine, frames)


def check(results: Sequence[ParityResult]) -> None:
    """Refuse results of which one is beyond its limit.

    Raises:
        BundleError: Names the graph, precision, backend, figure, value and limit of the first that fails.
    """
    for result in results:
        if not result.holds:
            raise BundleError(
                f"parity of {result.graph} ({result.precision}, {result.backend}): found {result.figure} "
                f"{result.value:.6g}, expected at most {result.limit:.6g}. Nothing was written. Keep the layers that "
                "lose precision in FP32, give the graph FP32 arithmetic where a CPU's bfloat16 is at fault, or train "
                "on with weights that a smaller type can hold."
            )
