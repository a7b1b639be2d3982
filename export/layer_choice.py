"""Which layers of a network are quantised: all, but for those that cost too much, one by one.

Nothing is believed about layers. All are quantised and held against the limits; only if these do not hold is each layer
quantised by itself, and the one that does most damage in the task's own units stays as it was, then the next, until the
limits hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.bundle import ParityResult

Probe = Callable[[Collection[str]], Sequence["ParityResult"]]
"""From the layers that are quantised to the figures of the graph."""


def choose_layers(
    layers: Sequence[str], probe: Probe, report: Callable[[int, int], None] = lambda *_: None
) -> tuple[str, ...]:
    """The layers to quantise, in the graph's order; none where even the least harmful one does not hold.

    Args:
        layers: Those that may be quantised.
        probe: Measures a choice.
        report: Told how many layers were measured by themselves, and how many there are.
    """
    if not layers or holds(probe(layers)):
        return tuple(layers)
    harm: dict[str, float] = {}
    for number, layer in enumerate(layers):
        report(number, len(layers))
        harm[layer] = damage(probe([layer]))
    report(len(layers), len(layers))
    left = list(layers)
    for worst in sorted(layers, key=lambda layer: -harm[layer]):
        left.remove(worst)
        if left and holds(probe(left)):
            return tuple(left)
    return ()


def holds(results: Sequence[ParityResult]) -> bool:
    """Whether every figure is within its limit."""
    return all(result.holds for result in results)


def damage(results: Sequence[ParityResult]) -> float:
    """The worst figure as a share of its limit; of a figure that may not differ at all, any difference is infinite.

    A NaN is infinite too: it must never look harmless.
    """
    shares = [
        result.value / result.limit if result.limit else (math.inf if result.value else 0.0) for result in results
    ]
    return max((math.inf if math.isnan(share) else share for share in shares), default=0.0)
