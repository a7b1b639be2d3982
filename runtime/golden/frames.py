"""The golden frames of a bundle, what torch gave for them, and what an engine gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import GOLDEN_FILE
from runtime.errors import BundleError

if TYPE_CHECKING:
    from runtime.bundle import Bundle
    from runtime.engine import Engine

Outputs = Mapping[str, NDArray[Any]]
"""Arrays by the name of the output, first axis the frames."""
Figures = Mapping[str, float]
Compare = Callable[[Outputs, Outputs, Mapping[str, Any]], Figures]
"""From an engine's outputs, torch's outputs and the head's settings to deviations: the smaller the better."""


@dataclass(frozen=True, slots=True)
class Golden:
    """Frames, and what torch gave for them.

    Attributes:
        frames: (n, 1, H, W) uint8.
        outputs: By role, then by the name of the output.
    """

    frames: NDArray[np.uint8]
    outputs: Mapping[str, Outputs]

    def arrays(self, most: int | None = None) -> dict[str, NDArray[Any]]:
        """What `golden.npz` holds: `frames` and `<role>.<output>`, of the first `most` frames."""
        named = {
            f"{role}.{output}": array[:most]
            for role, outputs in self.outputs.items()
            for output, array in outputs.items()
        }
        return {"frames": self.frames[:most], **named}


def read_golden(bundle: Bundle) -> Golden:
    """The golden frames of a bundle, and what torch gave for them.

    Raises:
        BundleError: It has none, or not for every output of its graphs.
    """
    if GOLDEN_FILE not in bundle.spec.files:
        raise BundleError(f"bundle {bundle.path}: found no {GOLDEN_FILE}, expected golden frames. Export it again.")
    try:
        with np.load(bundle.path / GOLDEN_FILE) as arrays:
            outputs = {
                role: {output.name: arrays[f"{role}.{output.name}"] for output in graph.outputs}
                for role, graph in bundle.spec.graphs.items()
            }
            return Golden(frames=arrays["frames"], outputs=outputs)
    except KeyError as error:
        raise BundleError(
            f"bundle {bundle.path}: {GOLDEN_FILE} lacks {error}, expected frames and every output of every graph. "
            "Export it again."
        ) from error


def outputs_of(engine: Engine, frames: NDArray[np.uint8], batch: int | None = None) -> dict[str, NDArray[Any]]:
    """An engine's outputs by name, for frames (n, 1, H, W) uint8 in batches of one size; None takes its largest.

    Raises:
        EngineError: It failed.
    """
    parts: dict[str, list[NDArray[Any]]] = {output.name: [] for output in engine.graph.outputs}
    step = engine.settings.max_batch if batch is None else batch
    for first in range(0, len(frames), step):
        ticket = engine.submit(np.ascontiguousarray(frames[first : first + step]))
        for name, array in engine.collect(ticket).items():
            parts[name].append(np.array(array))
        engine.release(ticket)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def largest(difference: NDArray[Any]) -> float:
    """The largest entry of an array of differences, at least 0; a NaN anywhere is infinitely far.

    >>> largest(np.array([0.1, 0.3])), largest(np.array([0.1, np.nan])), largest(np.array([]))
    (0.3, inf, 0.0)
    """
    return float("inf") if np.isnan(difference).any() else float(difference.max(initial=0.0))
