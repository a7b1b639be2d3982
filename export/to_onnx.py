"""From a trained network to ONNX: the only file of `export` that imports torch by itself.

What a graph does behind the network (sigmoid, quantisation, maps) is torch code of the task's module, and runs here for
the graph and for the torch outputs of `golden.npz` alike: one definition.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx_ir import DataType
from torch import Tensor, nn

from export.lower import lower_opset
from runtime.errors import BundleError
from runtime.spec import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

    from export.tasks.base import GraphEnd, Output

_EXPORTER_OPSET = 18  # the dynamo exporter's own; `lower_opset` takes it from there
_ODD_SIZE_PX = (251, 331)  # with sizes that divide by nothing, padding is traced and every size is free
_DTYPES = {"uint8": DataType.UINT8, "float32": DataType.FLOAT}


class GraphModule(nn.Module):
    """A network with its end: frames (N, 1, H, W) uint8 to the graph's outputs."""

    def __init__(self, network: nn.Module, end: GraphEnd) -> None:
        super().__init__()
        self.network = network
        self.end = end
        self.eval()

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Frames (N, 1, H, W) uint8 to one tensor an output."""
        return self.end.finish(self.network(frames))


def to_onnx(network: nn.Module, role: str, end: GraphEnd, size_px: tuple[int, int] | None) -> ir.Model:
    """The FP32 graph of a network: batch norms folded, batch free, in an opset that every runtime reads.

    Args:
        network: Trained network on the CPU, from frames (N, 1, H, W) uint8 to its named tuple.
        role: How errors name the graph.
        end: What follows the network.
        size_px: Height and width of the frames; None leaves them free.

    Raises:
        BundleError: The network cannot be exported, or its graph does not fit the end's contract.
    """
    # Two frames: the exporter would take a batch of one for a constant.
    example = torch.zeros((2, 1, *(size_px or _ODD_SIZE_PX)), dtype=torch.uint8)
    free: dict[int, Any] = {0: torch.export.Dim("N") if size_px else torch.export.Dim.DYNAMIC}
    if size_px is None:
        free |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    try:
        with _quiet():
            program = torch.onnx.export(
                GraphModule(network, end),
                (example,),
                dynamo=True,
                input_names=["frames"],
                output_names=[output.name for output in end.outputs],
                dynamic_shapes=(free,),
                opset_version=_EXPORTER_OPSET,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise BundleError(
            f"export: the {role} cannot be written as ONNX ({str(error).strip().splitlines()[0]}), expected a network "
            "without branches on its input. Change the network."
        ) from error
    if program is None:
        raise BundleError(f"export: the exporter gave no graph of the {role}, expected one.")
    model = lower_opset(program.model)
    _forget_the_machine(model)
    _name_free_sizes(model, role, end, size_px)
    return model


def output_specs(model: ir.Model, end: GraphEnd) -> tuple[TensorSpec, ...]:
    """The contract of a graph's outputs: the sizes that the graph fixes, and the names of those that it leaves free."""
    return tuple(
        TensorSpec(
            name=output.name,
            dtype=output.dtype,
            shape=tuple(size if isinstance(size, int) else str(size.value) for size in _sizes(value)),
        )
        for output, value in zip(end.outputs, model.graph.outputs, strict=True)
    )


@torch.inference_mode()
def torch_outputs(network: nn.Module, end: GraphEnd, frames: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """What torch gives for the frames, by the names of the graph's outputs; run one frame at a time.

    Args:
        network: As for `to_onnx`.
        end: What follows the network.
        frames: (n, 1, H, W) uint8.
    """
    module = GraphModule(network, end)
    parts = [[each.numpy() for each in module(torch.from_numpy(frame[None].copy()))] for frame in frames]
    return {
        output.name: np.concatenate(arrays)
        for output, arrays in zip(end.outputs, zip(*parts, strict=True), strict=True)
    }


def _forget_the_machine(model: ir.Model) -> None:
    """Remove the exporter's notes: source lines with their paths, as large as a small network's weights."""
    from onnx_ir.passes import common as passes

    passes.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph:
        for value in node.outputs:
            value.metadata_props.clear()


def _name_free_sizes(model: ir.Model, role: str, end: GraphEnd, size_px: tuple[int, int] | None) -> None:
    """Call free sizes by the contract's names, instead of the exporter's expressions.

    Raises:
        BundleError: An output has another type or rank than its contract, or fixes a size that must stay free.
    """
    import onnx_ir as ir

    (frames,) = model.graph.inputs
    frames.shape = ir.Shape([ir.SymbolicDim("N"), 1, *(size_px or (ir.SymbolicDim("H"), ir.SymbolicDim("W")))])
    must_be_free = {"N"} if size_px else {"N", "H", "W"}
    for output, value in zip(end.outputs, model.graph.outputs, strict=True):
        sizes = _sizes(value)
        if value.dtype != _DTYPES[output.dtype] or len(sizes) != len(output.shape):
            raise BundleError(_misfit(role, output, f"{value.dtype} of {len(sizes)} axes"))
        for axis, (size, name) in enumerate(zip(sizes, output.shape, strict=True)):
            if not isinstance(size, int):
                sizes[axis] = ir.SymbolicDim(name)
            elif name in must_be_free:
                raise BundleError(_misfit(role, output, f"the size {size} fixed for {name}"))
        value.shape = ir.Shape(sizes)


def _misfit(role: str, output: Output, found: str) -> str:
    return (
        f"export: output {output.name!r} of the {role} has {found}, expected {output.dtype} "
        f"({', '.join(output.shape)}). Correct the task's module, or the network."
    )


def _sizes(value: ir.Value) -> list[Any]:
    """The sizes of a tensor: integers, or symbols where they are free."""
    if value.shape is None:
        raise BundleError(f"export: found no shape of {value.name!r}, expected the exporter to know it.")
    return [*value.shape.dims]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress notes and its libraries' deprecations off the user's screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
