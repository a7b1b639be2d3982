"""Whether a file is the graph that its contract describes: asked once, when an engine opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.engine import EngineSettings
from runtime.errors import EngineError
from runtime.spec import GraphSpec, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray


def precision_of(owner: str, model: Path, graph: GraphSpec) -> str:
    """The precision under which a contract names a file.

    Raises:
        EngineError: The contract names no such file.
    """
    for precision, file in graph.files.items():
        if Path(file).name == model.name:
            return precision
    raise EngineError(
        f"{owner}: found the file {model.name}, expected one of {sorted(graph.files.values())}. "
        "Open the file that the bundle's spec names."
    )


def frame_size(owner: str, graph: GraphSpec, settings: EngineSettings) -> tuple[int, int]:
    """Rows and columns of the frames: the graph's own, or the settings' where the graph leaves them open.

    Raises:
        EngineError: The graph is not one of frames, leaves a size open that the settings do not give, or has
            another size than they ask for.
    """
    shape = graph.input.shape
    if len(shape) != 4 or shape[1] != 1 or graph.input.dtype != "uint8":
        raise EngineError(
            f"{owner}: found an input of {graph.input.dtype} {shape}, expected uint8 (N, 1, H, W). "
            "Export the graph again."
        )

    def size(fixed: int | str, asked: int | None, word: str) -> int:
        if isinstance(fixed, int) and asked in (None, fixed):
            return fixed
        if isinstance(fixed, str) and asked is not None:
            return asked
        found = "no size" if asked is None else f"{asked} {word}"
        expected = f"{fixed} {word}" if isinstance(fixed, int) else f"{word}, which the graph leaves open"
        raise EngineError(f"{owner}: found {found}, expected {expected}. Give frames of the graph's size.")

    return size(shape[2], settings.height_px, "rows"), size(shape[3], settings.width_px, "columns")


def check_input(owner: str, graph: GraphSpec, inputs: Mapping[str, str]) -> None:
    """Check the names and types of a file's inputs.

    Args:
        owner: Who says it.
        graph: The contract.
        inputs: NumPy type by name, as the library reports them.

    Raises:
        EngineError: Not the one input of the contract.
    """
    expected = {graph.input.name: graph.input.dtype}
    if dict(inputs) != expected:
        raise EngineError(
            f"{owner}: found inputs {_listed(inputs)}, expected {_listed(expected)}. Export the graph again."
        )


def check_first_outputs(
    owner: str, graph: GraphSpec, size: tuple[int, int], outputs: Mapping[str, NDArray[Any]]
) -> dict[str, tuple[int, ...]]:
    """Check what a first run with one frame gave.

    Args:
        owner: Who says it.
        graph: The contract.
        size: Rows and columns of the frame.
        outputs: What the library gave, by name.

    Returns:
        The shape of one frame's output by name, without the batch, in the contract's order.

    Raises:
        EngineError: An output is missing, or has another type or shape than the contract's.
    """
    missing = [output.name for output in graph.outputs if output.name not in outputs]
    if missing:
        raise EngineError(f"{owner}: found outputs {sorted(outputs)}, expected {missing} among them. Export it again.")
    for output in graph.outputs:
        found = outputs[output.name]
        if found.dtype.name != output.dtype or not _fits(found.shape, output, size):
            raise EngineError(
                f"{owner}: found output {output.name} of {found.dtype.name} {found.shape} for one frame of "
                f"{size[0]}x{size[1]}, expected {output.dtype} {output.shape}. Export the graph again."
            )
    return {output.name: outputs[output.name].shape[1:] for output in graph.outputs}


def _fits(found: tuple[int, ...], output: TensorSpec, size: tuple[int, int]) -> bool:
    known = {"N": 1, "H": size[0], "W": size[1]}
    if len(found) != len(output.shape):
        return False
    for length, expected in zip(found, output.shape, strict=True):
        # A name other than N, H or W is a size that only the graph knows.
        if length != (expected if isinstance(expected, int) else known.get(expected, length)):
            return False
    return found[:1] == (1,)


def _listed(tensors: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in tensors.items()) or "none"
