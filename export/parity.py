"""Parity: do the exported graphs decide as the trained network did?

The golden frames go through the runtime's own engines, on every backend, and the outputs are compared with what torch
gave, in the task's units. A gate must not change its mind on any frame; a segmenter's masks must stay the same but for
a few pixels at their borders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends import open_engine
from runtime.bundle import ParityResult
from runtime.engine import EngineSettings
from runtime.errors import BundleError
from runtime.spec import GraphSpec, Precision

BACKENDS = ("openvino", "onnxruntime")
"""Where every graph is run."""

LIMITS: Mapping[str, float] = MappingProxyType(
    {
        "gate_flips": 0.0,
        "probability_max_abs": 0.03,
        "dice_loss": 0.002,
        "level_mean_abs": 0.25,
        "level_max_abs": 64.0,
    }
)
"""The largest value of each figure that a bundle may have.

- `gate_flips`: frames on the other side of the gate's threshold.
- `probability_max_abs`: of the gate's probability. bfloat16, which OpenVINO chooses on CPUs that have it, moves it by
  some thousandths.
- `dice_loss`: 1 - Dice of the thresholded masks, all classes and frames pooled; pixels on the fence are left out.
- `level_mean_abs`, `level_max_abs`: of the class probability in levels of 1/255, over all pixels and at the worst one.
"""


ON_THE_FENCE = 0.05
"""How near to its threshold torch's own probability of a pixel leaves it open on which side it belongs.

A model of few trainings has most of its pixels there, and a difference of one level of 255 would cost it its Dice; what
may happen to these pixels is bounded by the level figures.
"""


@dataclass(frozen=True, slots=True)
class Golden:
    """Frames, and what torch gave for them.

    Attributes:
        frames: (n, 1, H, W) uint8.
        outputs: By role, then by the name of the output.
    """

    frames: NDArray[np.uint8]
    outputs: Mapping[str, Mapping[str, NDArray[Any]]]

    def arrays(self, most: int | None = None) -> dict[str, NDArray[Any]]:
        """What `golden.npz` holds: `frames` and `<role>.<output>`, of the first `most` frames."""
        named = {
            f"{role}.{output}": array[:most]
            for role, outputs in self.outputs.items()
            for output, array in outputs.items()
        }
        return {"frames": self.frames[:most], **named}


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


Figures = Mapping[str, float]
Compare = Callable[[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]], Mapping[str, Any]], Figures]


def compare_gate(
    found: Mapping[str, NDArray[Any]], torch: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]
) -> Figures:
    """Flips at `gate_threshold` and the largest difference; both outputs `defect_probability` (n,) float32."""
    ours, theirs = found["defect_probability"], torch["defect_probability"]
    threshold = float(settings["gate_threshold"])
    return {
        "gate_flips": float(np.count_nonzero((ours >= threshold) != (theirs >= threshold))),
        "probability_max_abs": _worst(np.abs(ours.astype(np.float64) - theirs)),
    }


def compare_segmenter(
    found: Mapping[str, NDArray[Any]], torch: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]
) -> Figures:
    """Lost Dice at `pixel_thresholds` and level differences; both `class_probability` (n, C, H, W) uint8."""
    ours, theirs = found["class_probability"], torch["class_probability"]
    thresholds = np.asarray(settings["pixel_thresholds"], np.float32).reshape(1, -1, 1, 1)
    clear = np.abs(theirs / np.float32(255.0) - thresholds) >= ON_THE_FENCE
    mask, truth = (ours >= thresholds * 255.0) & clear, (theirs >= thresholds * 255.0) & clear
    both, either = np.count_nonzero(mask & truth), np.count_nonzero(mask) + np.count_nonzero(truth)
    difference = np.abs(ours.astype(np.int16) - theirs)
    return {
        "dice_loss": 1.0 - 2.0 * both / either if either else 0.0,
        "level_mean_abs": float(difference.mean()),
        "level_max_abs": float(difference.max()),
    }


COMPARE: Mapping[str, Compare] = MappingProxyType({"gate": compare_gate, "segmenter": compare_segmenter})


def measure(
    candidates: Iterable[Candidate],
    golden: Golden,
    settings: Mapping[str, Any],
    *,
    limits: Mapping[str, float] = LIMITS,
    threads: int | None = None,
    report: Callable[[Candidate], None] = lambda _: None,
) -> tuple[ParityResult, ...]:
    """Run every candidate on the golden frames and compare.

    Args:
        candidates: What to run.
        golden: Frames and torch outputs.
        settings: The head's settings, with the thresholds at which a decision could flip.
        limits: Largest value of each figure.
        threads: CPU threads of an engine.
        report: Told of each candidate before it runs.

    Raises:
        EngineError: A backend is not installed, or cannot run a graph.
        BundleError: No comparison is known for a role.
    """
    results: list[ParityResult] = []
    for candidate in candidates:
        report(candidate)
        if candidate.role not in COMPARE:
            raise BundleError(
                f"parity: found a graph {candidate.role!r}, expected one of {', '.join(COMPARE)}. "
                "Add its figures to export.parity.COMPARE."
            )
        found = run(candidate, golden.frames, threads)
        for figure, value in COMPARE[candidate.role](found, golden.outputs[candidate.role], settings).items():
            results.append(
                ParityResult(
                    graph=candidate.role,
                    precision=candidate.precision,
                    backend=candidate.backend,
                    figure=figure,
                    value=value,
                    limit=limits[figure],
                    passed=value <= limits[figure],
                )
            )
    return tuple(results)


def run(candidate: Candidate, frames: NDArray[np.uint8], threads: int | None = None) -> dict[str, NDArray[Any]]:
    """A candidate's outputs by name; frames in pairs, so that the batch is exercised too.

    Raises:
        EngineError: The backend is not installed, or cannot run the graph.
    """
    height, width = frames.shape[2:]
    settings = EngineSettings(max_batch=2, slots=1, height_px=height, width_px=width, threads=threads)
    parts: dict[str, list[NDArray[Any]]] = {output.name: [] for output in candidate.graph.outputs}
    with open_engine(candidate.engine, candidate.file, candidate.graph, settings) as engine:
        for first in range(0, len(frames), settings.max_batch):
            ticket = engine.submit(np.ascontiguousarray(frames[first : first + settings.max_batch]))
            for name, array in engine.collect(ticket).items():
                parts[name].append(np.array(array))
            engine.release(ticket)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


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
                "lose precision in FP32, or train on with weights that a smaller type can hold."
            )


def _worst(difference: NDArray[np.floating[Any]]) -> float:
    """The largest difference; a NaN anywhere is infinitely far."""
    return float("inf") if np.isnan(difference).any() else float(difference.max())
