"""The two types of eight bits in which a convolution can be computed, and what each asks of one.

Both have symmetric scales and zero points of 0: one for each output channel of the weights, one for a whole tensor of
activations. Scales are half numbers, because the rest of the graph will be: what the weights were divided by is then
exactly what they are multiplied by again. See `docs/decisions/0011-int8.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from export.parity import BACKENDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.spec import Precision

LEAST_SCALE = 2.0**-14
"""The smallest half number that keeps all its digits."""


@dataclass(frozen=True, slots=True)
class EightBits:
    """One type, and which convolutions it is for.

    Attributes:
        precision: As a bundle names its files.
        title: As people write it.
        onnx_type: As ONNX names it.
        top: The largest number of the type that is used, on either side of zero.
        whole: Whether it has whole numbers only.
        channels: Both channel counts of a convolution are multiples of it.
        most_taps: Places at which a filter may look; None for any number.
        groups: Whether a convolution may have groups.
        backends: CPU backends that run such a file, on which its parity is measured.
        why_no_gain: Why its gain cannot be measured on a CPU; empty where it can.
    """

    precision: Precision
    title: str
    onnx_type: str
    top: float
    whole: bool
    channels: int
    most_taps: int | None
    groups: bool
    backends: tuple[str, ...]
    why_no_gain: str

    def suits(self, weights: tuple[int, ...], groups: int) -> bool:
        """Whether a convolution is one for this type.

        Args:
            weights: Shape (O, I / groups, ...) of its weights.
            groups: How many it has.
        """
        taps = math.prod(weights[2:])
        fits = all(count % self.channels == 0 for count in (weights[0], weights[1] * groups))
        return fits and (self.groups or groups == 1) and (self.most_taps is None or taps <= self.most_taps)

    def scale_of(self, largest: NDArray[np.floating] | float) -> NDArray[np.float32]:
        """The scale of values up to `largest`: a half number, never so small that half loses its digits.

        >>> float(INT8.scale_of(127.0)), float(FP8.scale_of(896.0)), float(INT8.scale_of(0.0)) == LEAST_SCALE
        (1.0, 2.0, True)
        """
        return np.maximum(np.asarray(largest, np.float64) / self.top, LEAST_SCALE).astype(np.float16).astype(np.float32)

    def steps_of(self, weights: NDArray[np.floating]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Weights (O, ...) in this type, of the same shape, and the scale (O,) of each output channel."""
        scale = self.scale_of(np.abs(weights).max(axis=tuple(range(1, weights.ndim)), initial=0.0))
        steps = weights / scale.reshape(-1, *(1,) * (weights.ndim - 1))
        # FP8 has no infinity: what is beyond its top would become NaN.
        return np.clip(np.rint(steps) if self.whole else steps, -self.top, self.top).astype(self.dtype), scale

    @property
    def dtype(self) -> np.dtype[Any]:
        """For arrays of it."""
        import onnx_ir as ir

        return np.dtype(ir.DataType[self.onnx_type].numpy())


INT8 = EightBits(
    precision="int8",
    title="INT8",
    onnx_type="INT8",
    top=127.0,  # -128 stays unused, so that a weight and its negative are equally exact
    whole=True,
    channels=1,
    most_taps=None,
    groups=True,
    backends=BACKENDS,
    why_no_gain="",
)
FP8 = EightBits(
    precision="fp8",
    title="FP8",
    onnx_type="FLOAT8E4M3FN",
    top=448.0,
    whole=False,
    channels=16,
    most_taps=32,
    groups=False,
    backends=("onnxruntime",),
    why_no_gain="no CPU computes in FP8",
)
KINDS: Mapping[Literal["int8", "fp8"], EightBits] = MappingProxyType({"int8": INT8, "fp8": FP8})
