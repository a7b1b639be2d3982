"""What the fit loop asks of a task, whatever is learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from train.recipe import Phase


class TaskBatch(Protocol):
    """A NamedTuple with these fields and whatever else the task's loss wants."""

    @property
    def names(self) -> list[str]:
        """Where each piece came from, for messages."""
        ...

    @property
    def frames(self) -> Tensor:
        """(N, 1, H, W) uint8, what the model is given."""
        ...


class Task(Protocol):
    """A model with its data, loss and figures. A new task is a class of this shape in `train.tasks.TASKS`."""

    @property
    def role(self) -> str:
        """The role of the graph in a bundle, such as `gate`."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """The data's classes."""
        ...

    @property
    def data_digest(self) -> str:
        """SHA-256 of the data, in hex."""
        ...

    @property
    def select(self) -> str:
        """The validation figure by which the best weights are kept; larger is better."""
        ...

    def build_model(self) -> nn.Module:
        """A fresh model, in float32 on the CPU."""
        ...

    def steps(self, phase: Phase, world: int) -> int:
        """Batches an epoch for each of `world` processes."""
        ...

    def batches(
        self, phase: Phase, *, epoch_in_phase: int, rng: np.random.Generator, rank: int, world: int
    ) -> Iterator[TaskBatch]:
        """One epoch's batches for one process; a pure function of its arguments and torch's global generator."""
        ...

    def loss(self, phase: Phase, output: Any, batch: Any) -> Tensor:
        """The loss of the model's output on a batch, both on the device."""
        ...

    def validate(self, model: Callable[[Tensor], Any], device: torch.device) -> dict[str, float]:
        """Figures on the validation part; empty where the data has none."""
        ...

    def examples(self, model: Callable[[Tensor], Any], device: torch.device) -> Iterator[tuple[str, np.ndarray]]:
        """A few pictures by name, (H, W, 3) uint8, with what was found beside what is true."""
        ...
