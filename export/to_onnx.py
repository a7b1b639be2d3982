"""From a trained network to ONNX: the only file of `export` that knows torch and the lab.

What a graph does around the network (scaling is the network's own; sigmoid and quantisation are the head's) is written
here as torch code, so that the torch outputs of `golden.npz` and the graph come from one definition.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.lower import lower_opset
from runtime.errors import BundleError
from runtime.spec import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx_ir as ir

_EXPORTER_OPSET = 18  # the dynamo exporter's own; `lower_opset` takes it from there
_ODD_SIZE_PX = (251, 331)  # with sizes that divide by nothing, padding is traced and every size is free


@dataclass(frozen=True, slots=True)
class Head:
    """What follows the network inside the graph.

    Attributes:
        output: Name of the graph's output.
        dtype: Its type.
        shape: Its shape; `C` stands for the number of classes.
        finish: From the network's named tuple to the output.
    """

    output: str
    dtype: str
    shape: tuple[str, ...]
    finish: Callable[[Any], Tensor]


def _probability(output: Any) -> Tensor:
    """(N,) float32, 0..1."""
    return torch.sigmoid(output.logit.float())


def _levels(output: Any) -> Tensor:
    """(N, C, H, W) uint8, 255 = 1.0."""
    return torch.round(torch.sigmoid(output.logits.float()) * 255.0).to(torch.uint8)


HEADS: Mapping[str, Head] = MappingProxyType(
    {
        "gate": Head("defect_probability", "float32", ("N",), _probability),
        "segmenter": Head("class_probability", "uint8", ("N", "C", "H", "W"), _levels),
    }
)


class GraphModule(nn.Module):
    """A network with its head: frames (N, 1, H, W) uint8 to the graph's one output.

    Raises:
        BundleError: The table has no such role.
    """

    def __init__(self, network: nn.Module, role: str) -> None:
        super().__init__()
        if role not in HEADS:
            raise BundleError(f"export: found the role {role!r}, expected one of {', '.join(HEADS)}.")
        self.network = network
        self.head = HEADS[role]
        self.eval()

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (N, 1, H, W) uint8 to the head's output."""
        return self.head.finish(self.network(frames))


def to_onnx(network: nn.Module, role: str, size_px: tuple[int, int] | None) -> ir.Model:
    """The FP32 graph of a network: batch norms folded, batch free, in an opset that every runtime reads.

    Args:
        network: Trained network on the CPU, from frames (N, 1, H, W) uint8 to its named tuple.
        role: A key of `HEADS`.
        size_px: Height and width of the frames; None leaves them free.

    Raises:
        BundleError: The network cannot be exported.
    """
    module = GraphModule(network, role)
    # Two frames: the exporter would take a batch of one for a constant.
    example = torch.zeros((2, 1, *(size_px or _ODD_SIZE_PX)), dtype=torch.uint8)
    free: dict[int, Any] = {0: torch.export.Dim("N") if size_px else torch.export.Dim.DYNAMIC}
    if size_px is None:
        free |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                input_names=["frames"],
                output_names=[module.head.output],
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
    _name_free_sizes(model, free_size=size_px is None)
    return model


@dataclass(frozen=True, slots=True)
class Example:
    """One validation frame of a run's data.

    Attributes:
        frame: (H, W) uint8.
        truth: (C, H, W) bool.
    """

    frame: NDArray[np.uint8]
    truth: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TrainedGraph:
    """A trained network and all that a bundle says about it.

    Attributes:
        run: Its run folder.
        role: A key of `HEADS`.
        network: In eval mode, on the CPU.
        architecture: As the run names it.
        variant: `paper` or `compact`.
        parameters: Trainable parameters.
        class_names: The data's classes.
        recipe: As it ran.
        data_digest: SHA-256 of the training data.
        git_commit: At the training.
        metrics: Validation figures at these weights.
        size_px: Height and width of the data's frames; None where the data has many sizes.
        least_truth_px: Truth pixels that make a frame defective, one for all classes or one a class; a frame that has
            some, but too few of every class, is neither defective nor clean.
    """

    run: Path
    role: str
    network: nn.Module
    architecture: str
    variant: str
    parameters: int
    class_names: tuple[str, ...]
    recipe: Mapping[str, Any]
    data_digest: str
    git_commit: str
    metrics: Mapping[str, float]
    size_px: tuple[int, int] | None
    least_truth_px: tuple[int, ...]


def open_run(run: Path, weights: Literal["best", "last"] = "best") -> TrainedGraph:
    """The best weights of a run folder by its validation figure, or those of its last epoch.

    Raises:
        ConfigError: It is no run folder.
    """
    from train.datasets import DATASETS
    from train.recipe import check
    from train.run_folder import load_run, read_last_figures
    from train.tasks.strip_gate import GateSettings

    loaded = load_run(run, weights=weights)
    recipe, record = loaded.recipe.model_dump(mode="json"), loaded.record
    least_truth_px = (1,)
    if record.role == "gate":
        least_truth_px = check(GateSettings, loaded.recipe.settings, f"run {run}: settings").min_truth_px
    data = {key: value for key, value in recipe["data"].items() if key != "kind"}
    settings = DATASETS[recipe["data"]["kind"]].settings.model_validate(data)
    height, width = (getattr(settings, side, None) for side in ("height_px", "width_px"))
    return TrainedGraph(
        run=run,
        role=record.role,
        network=loaded.model,
        architecture=record.architecture,
        variant=record.variant,
        parameters=record.parameters,
        class_names=record.classes,
        recipe=recipe,
        data_digest=record.data_digest,
        git_commit=record.git_commit,
        metrics=record.best if weights == "best" else read_last_figures(run),
        size_px=(height, width) if height and width else None,
        least_truth_px=least_truth_px,
    )


def validation_examples(trained: TrainedGraph, cache: Path, most: int) -> Iterator[Example]:
    """At most `most` frames of a run's own validation part, evenly spread.

    Args:
        trained: Whose data.
        cache: Where rendered strips are kept.
        most: Number of frames.

    Raises:
        ConfigError: The recipe's data is unknown.
        DataError: The data is missing or unreadable.
    """
    from train.recipe import Recipe
    from train.sampling import evenly
    from train.tasks import open_dataset

    recipe = dict(trained.recipe)
    if recipe["data"]["kind"] == "synthetic":
        recipe["data"] = _validation_strips(recipe["data"])
    dataset = open_dataset(Recipe.model_validate(recipe), cache)
    for index in evenly(dataset.split["validation"], most):
        sample = dataset.sample(index)
        yield Example(np.array(sample.pixels), sample.masks)


def _validation_strips(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same validation strips without the training strips before them, which would take minutes to render."""
    from train.datasets.synthetic import SyntheticSettings

    settings = SyntheticSettings.model_validate({key: value for key, value in data.items() if key != "kind"})
    first = settings.first_seed + settings.train_strips - 1
    return {**settings.model_dump(), "kind": "synthetic", "first_seed": first, "train_strips": 1}


def graph_output(role: str, classes: int, size: tuple[int | str, int | str]) -> TensorSpec:
    """The contract of the graph's output.

    Args:
        role: A key of `HEADS`.
        classes: Number of classes, for `C`.
        size: Height and width, or the names of free ones.
    """
    head = HEADS[role]
    known: dict[str, int | str] = {"N": "N", "C": classes, "H": size[0], "W": size[1]}
    return TensorSpec.model_validate(
        {"name": head.output, "dtype": head.dtype, "shape": tuple(known[axis] for axis in head.shape)}
    )


@torch.inference_mode()
def torch_outputs(network: nn.Module, role: str, frames: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """What torch gives for the frames, by the names of the graph's outputs; run one frame at a time.

    Args:
        network: As for `to_onnx`.
        role: A key of `HEADS`.
        frames: (n, 1, H, W) uint8.
    """
    module = GraphModule(network, role)
    parts = [module(torch.from_numpy(frame[None])).numpy() for frame in frames]
    return {module.head.output: np.concatenate(parts)}


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


def _name_free_sizes(model: ir.Model, *, free_size: bool) -> None:
    """Call free sizes N, H and W, as the contract does, instead of the exporter's expressions."""
    import onnx_ir as ir

    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is None:
            continue
        names = ("N", None, "H", "W") if free_size and len(value.shape) == 4 else ("N",)
        sizes = [*value.shape.dims]
        for place, name in enumerate(names):
            if name is not None:
                sizes[place] = ir.SymbolicDim(name)
        value.shape = ir.Shape(sizes)


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
