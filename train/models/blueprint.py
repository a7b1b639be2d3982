"""What a table of networks holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from runtime.errors import ConfigError
from train.encoder_weights import EncoderWeights

Variant = Literal["paper", "compact"]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """How a network is built.

    Attributes:
        variant: `paper` or `compact`.
        build: From the number of outputs and the source of the encoder's weights.
    """

    variant: Variant
    build: Callable[[int, EncoderWeights], nn.Module]


Blueprints = Mapping[str, Blueprint]
"""The networks of one task, or of one part of a task, by architecture; the first of a variant is its default."""


def expect_outputs(who: str, found: int, *expected: int) -> None:
    """Refuse a number of outputs that a network does not have.

    Raises:
        ConfigError: `found` is none of the expected numbers.
    """
    if found not in expected:
        raise ConfigError(
            f"{who}: {found} outputs were asked for, expected {' or '.join(map(str, expected))}. "
            "Choose another architecture, or data with other classes."
        )


def without_encoder_weights(who: str, weights: EncoderWeights) -> None:
    """Refuse encoder weights for a network that the papers train from nothing.

    Raises:
        ConfigError: Any but `none` were asked for.
    """
    if weights != "none":
        raise ConfigError(
            f"encoder weights {weights!r}: {who} has no encoder that anybody has trained before, expected 'none'. "
            "Set model.encoder_weights to 'none', or --weights to go on from a run."
        )
