"""What the networks of each task return: one named tuple a task, the same for its paper and compact variants."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class GateOutput(NamedTuple):
    """What a gate says, as logits: above 0 where a defect is more likely than none.

    Attributes:
        logit: (N,) float32, of the whole frame.
        cell_logits: (N, h, w) float32, of each cell of a grid over the frame; a gate that does not look at parts has
            one cell, the frame.
    """

    logit: Tensor
    cell_logits: Tensor


class SegmenterOutput(NamedTuple):
    """What a segmenter says: `logits` (N, C, H, W) float32, one independent sigmoid a class."""

    logits: Tensor


class FractureOutput(NamedTuple):
    """What is brittle of a fracture surface.

    Attributes:
        ratio: (N,) float32, the brittle fracture ratio as the network gives it: near 0..1, not clipped.
        activation: (N, h, w) float32, the class activation map, which training holds to 1 on brittle surface and to 0
            on ductile; of the network's last feature map, or of the picture where a network decides each pixel.
    """

    ratio: Tensor
    activation: Tensor


class CrackOutput(NamedTuple):
    """Where a crack is: `logits` (N, 1, H, W) float32, one sigmoid a pixel."""

    logits: Tensor


class BoundaryOutput(NamedTuple):
    """Where grains meet: `logits` (N, 1, H, W) float32, one sigmoid a pixel."""

    logits: Tensor


class PhaseOutput(NamedTuple):
    """Which phase each pixel is: `logits` (N, C, H, W) float32, one softmax a pixel; ferrite first, then pearlite."""

    logits: Tensor


class GrainOutput(NamedTuple):
    """How fine the grain is.

    Attributes:
        scores: (N, K) float32. K = 1: the ASTM grain size number itself (regression). K > 1: a logit for each grade
            (classification).
        cams: (N, K, h, w) float32, each score's class activation map: the network's head on every place of its last
            feature map, bias and all. Where the head is one FC layer, their means over the picture are the scores.
    """

    scores: Tensor
    cams: Tensor

    @property
    def number(self) -> Tensor:
        """(N,) float32, the grain size number of a regression."""
        return self.scores[:, 0]
