"""Small graphs and networks for the export's tests."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class GateOutput(NamedTuple):
    logit: Tensor


class SegmenterOutput(NamedTuple):
    logits: Tensor


class TinyGate(nn.Module):
    """Convolution, batch norm, ReLU, pooling, one unit; probabilities spread over 0..1."""

    def __init__(self, first: int = 6, second: int = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, first, 3, stride=2, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.unit = nn.Linear(second, 1)

    def forward(self, frames: Tensor) -> GateOutput:
        x = (frames.float() - 114.5) / 57.6
        return GateOutput(self.unit(self.features(x).flatten(1)).flatten())


class TinySegmenter(nn.Module):
    """Down, up and a skip, for sizes that divide by 4 and others."""

    def __init__(self, classes: int = 3, first: int = 6, second: int = 8) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, first, 3, stride=2, padding=1), nn.SiLU())
        self.deep = nn.Sequential(nn.Conv2d(first, second, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Conv2d(first + second, classes, 1)

    def forward(self, frames: Tensor) -> SegmenterOutput:
        height, width = frames.shape[-2:]
        x = nn.functional.pad(frames.float() / 255.0, (0, -width % 4, 0, -height % 4), mode="replicate")
        half = self.down(x)
        deep = nn.functional.interpolate(self.deep(half), scale_factor=2, mode="nearest")
        logits = self.head(torch.cat([half, deep], 1))
        logits = nn.functional.interpolate(logits, scale_factor=2, mode="bilinear")
        return SegmenterOutput(8.0 * logits[..., :height, :width])


def seeded(module: nn.Module, seed: int = 3) -> nn.Module:
    """The module with large weights and settled batch norms, so that its outputs are far from a half."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.6
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.running_var = torch.rand(each.running_var.shape, generator=generator) + 0.5  # type: ignore[union-attr]
    return module.eval()


def noise(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, height, width), dtype=np.uint8)


def parse(text: str) -> ir.Model:
    """A graph from ONNX's own text format, its shapes inferred."""
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), strict_mode=True, data_prop=True)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return ir.from_proto(model)


def run(model: ir.Model, **inputs: NDArray[Any]) -> list[NDArray[Any]]:
    """The graph's outputs by ONNX Runtime, computed as written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(output) for output in session.run(None, inputs)]
