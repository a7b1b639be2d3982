"""What a task's module gives to the export; `export.assemble` does the rest.

A module of `export.tasks` imports torch and the lab only inside functions: its comparisons must run on a line too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from export.parity import Comparison
from runtime.spec import Arithmetic, Strict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydantic import BaseModel
    from torch import Tensor

    from export.trained import TrainedGraph

MODEL = "model"
"""The role of the graph of a task that has only one."""

Report = Callable[[str, int, int], None]
"""Told what is being done, how many of its steps are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person may decide about any export.

    Attributes:
        name: Of the bundle; None takes its folder's.
        size_px: Height and width of the frames; None leaves it to the task.
        validation_frames: At most so many of each run's validation frames.
        golden_frames: How many frames parity is measured on.
        golden_kept: How many of them `golden.npz` keeps; None keeps all.
        golden_from_data: Take them from the runs' validation data instead of synthetic steel.
        arithmetic: In what a CPU computes the half files; None leaves it to the task.
        weights: The runs' best weights by their validation figure, or those of their last epochs.
        ship: Leave out the FP32 files.
        replace: Write over a bundle that is there.
        cache: Where rendered pictures are kept.
    """

    name: str | None = None
    size_px: tuple[int, int] | None = None
    validation_frames: int = 320
    golden_frames: int = 16
    golden_kept: int | None = 3
    golden_from_data: bool = False
    arithmetic: Arithmetic | None = None
    weights: Literal["best", "last"] = "best"
    ship: bool = False
    replace: bool = False
    cache: Path = Path("runs/cache")


class TaskChoices(Strict):
    """What a person may decide about the export of one task, by `--set key=value`; this one has nothing to decide."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a graph.

    Attributes:
        name: In the task's terms, such as `brittle_ratio`.
        dtype: Its type.
        shape: A name for each axis, the first `N`; `H` and `W` are the frame's. An axis that the graph fixes gets its
            size in the bundle's contract, the others keep these names.
    """

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GraphEnd:
    """What follows a network inside its graph, and what parity asks of it.

    Attributes:
        outputs: Of the graph, in order.
        finish: From the network's named tuple to one tensor an output, in the same order; plain tensor operations that
            the exporter can trace, in FP32 (`.float()` first).
        comparison: What is compared, and how far it may differ.
        arithmetic: In what a CPU computes the half file. bfloat16, which a backend may choose, has three digits: enough
            for a mask, too few for a ratio held to a fifth of a point, or for a grain size: these ask for `fp32`.
    """

    outputs: tuple[Output, ...]
    finish: Callable[[Any], tuple[Tensor, ...]]
    comparison: Comparison
    arithmetic: Arithmetic = "backend"


class GoldenFrames(Protocol):
    """Draws synthetic frames that nothing is trained or tested on, the most telling first."""

    def __call__(self, count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
        """(count, 1, H, W) uint8 frames of the size asked for."""
        ...


class DrawFrames(Protocol):
    """Draws synthetic frames of a seed, as a line would show them one after the other."""

    def __call__(self, seed: int, count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
        """(count, 1, H, W) uint8 frames of the size asked for."""
        ...


class ChooseSettings(Protocol):
    """Chooses the head's settings from the trained networks, on their own validation frames where it needs any."""

    def __call__(
        self, trained: Mapping[str, TrainedGraph], own: Any, choices: Choices, report: Report
    ) -> BaseModel:  # `own` is of the task's class of choices
        """The settings, as the task's head in `runtime.heads` reads them.

        Args:
            trained: By role.
            own: The task's choices.
            choices: Those of every export.
            report: Told of each step.

        Raises:
            BundleError: The networks or their validation frames do not say enough.
            DataError: The frames are missing or unreadable.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExportTask:
    """A task, as the export sees it.

    Attributes:
        name: As the bundle's spec names the task.
        graphs: By role.
        choices: What a person may decide by `--set`.
        settings: Chooses the head's settings.
        golden: Draws the golden frames.
        golden_size_px: Their height and width where a graph leaves its own free; parity is measured at an odd size too.
        free_size: Whether frames may have any size whatever the data has; otherwise the graph takes the size of its
            data, where that has one.
        draw: Draws frames of any seed, to calibrate with; None where only frames from a folder will do.
    """

    name: str
    graphs: Mapping[str, GraphEnd]
    choices: type[TaskChoices]
    settings: ChooseSettings
    golden: GoldenFrames
    golden_size_px: tuple[int, int]
    free_size: bool
    draw: DrawFrames | None = None


def levels(logits: Tensor) -> Tensor:
    """The sigmoid of logits as uint8 of the same shape, 255 = 1.0."""
    return levels_of(logits.float().sigmoid())


def levels_of(probability: Tensor) -> Tensor:
    """A probability, 0..1, as uint8 of the same shape, 255 = 1.0."""
    return (probability.float() * 255.0).round().byte()
