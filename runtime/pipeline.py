"""What the loop asks of a task: engines that take batches in stages, and an answer for each frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from camera.base import Frame
    from runtime.bundle import Bundle
    from runtime.engine import EngineSettings
    from runtime.facts import Facts
    from runtime.messages import Inspected, ModelIdentity, Scored
    from runtime.spec import ModelSpec, Precision


class Pending(Protocol):
    """One batch on its way through a pipeline."""

    @property
    def done(self) -> bool:
        """After `advance`: no engine works on it any more, so that `finish` does not wait."""
        ...


class Pipeline(Protocol):
    """The engines of one task; several batches may be on their way, each in its own stage.

    ```
    start --> advance --> finish --> release
    ```

    A batch goes through the stages in this order, once each; batches need not wait for one another. Where a
    call raises `EngineError`, that batch holds nothing any more and its `Pending` is dead.
    """

    def start(self, frames: NDArray[np.uint8]) -> Any:  # a Pending of its own kind
        """Begin a batch and return at once.

        Args:
            frames: (n, 1, H, W) uint8, C-contiguous; borrowed until `finish` has returned for this batch.

        Raises:
            EngineError: The frames do not fit, all slots are taken, or the device refused.
        """
        ...

    def advance(self, pending: Any) -> None:
        """Wait for the first stage and begin the next, if the batch needs one.

        Raises:
            EngineError: A model failed; the batch holds nothing any more.
        """
        ...

    def finish(self, pending: Any) -> Sequence[Any]:
        """Wait for the last stage.

        Returns:
            The raw outputs of each frame, in order, for the task's `Answerer`; views that are valid until
            `release`.

        Raises:
            EngineError: A model failed; the batch holds nothing any more.
        """
        ...

    def release(self, pending: Any) -> None:
        """Give the batch's buffers back; what `finish` gave is dead."""
        ...

    def keep_awake(self) -> None:
        """Called now and then while nothing is on its way; see `runtime.engine.Engine.keep_awake`."""
        ...

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Tell the engines where frames will come from; see `runtime.engine.Engine.register`."""
        ...

    def hand_over(self) -> None:
        """Give the engines up to another thread; see `runtime.engine.Engine.hand_over`."""
        ...

    def take_over(self) -> None:
        """Become the thread that owns the engines; see `runtime.engine.Engine.take_over`."""
        ...

    def close(self) -> None:
        """Wait for what is on its way and free the engines; calling it again does nothing."""
        ...

    def __enter__(self) -> Pipeline: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Answer(Protocol):
    """What is to be said of one frame."""

    @property
    def new_defects(self) -> Mapping[str, int]:
        """By class name, how many more defects the run has than before this frame.

        Less than none where two defects turned out to be one; empty where the task does not count.
        """
        ...

    def message(self, envelope: Mapping[str, Any], latency_ms: Mapping[str, float]) -> Inspected | Scored:
        """The message of the frame."""
        ...


class Answerer(Protocol):
    """Turns raw outputs into answers, frame by frame in order; keeps what passes from frame to frame."""

    def answer(self, frame: Frame, raw: Any, facts: Facts | None = None) -> Answer:
        """Answer for a frame; borrows its pixels and outputs for this call alone.

        Args:
            frame: The frame.
            raw: What the pipeline gave for it.
            facts: What is known of this frame; None where nothing but the run's own facts is.
        """
        ...

    def gap(self) -> None:
        """The next frame does not continue the last one."""
        ...

    def follow(self, before: Any) -> None:  # an Answerer of its own kind
        """Go on from the answerer of another bundle of the task, in the middle of a run, before the first `answer`.

        What counts through the run, such as numbers of defects, counts on.
        """
        ...


OverlayChoice = Literal["defective", "all", "none"]
"""Which pictures are drawn: those with a finding or a score, all that were inspected, or none."""


class Album(Protocol):
    """The files for people, and for their programs, that a task leaves beside the messages of an inspection."""

    @property
    def places(self) -> Mapping[str, Path]:
        """What lies where, by what a person calls it, such as `overlays`."""
        ...

    def add(self, pixels: NDArray[np.uint8], name: Path, message: Any) -> None:
        """Keep what belongs to one picture.

        Args:
            pixels: (H, W) uint8.
            name: How the outputs name the picture: a relative path.
            message: What was said of it, as the task's answers make it.
        """
        ...

    def close(self) -> None:
        """Flush and close; calling it again does nothing."""
        ...


class Head(Protocol):
    """What a task's module in `runtime.heads` gives."""

    def open_pipeline(
        self, bundle: Bundle, backend: str, settings: EngineSettings, precision: Precision | None = None
    ) -> Pipeline:
        """Open the engines of a bundle and run each once.

        Args:
            bundle: The bundle, opened.
            backend: A key of `runtime.backends.BACKENDS`.
            settings: Batch, threads and geometry; `slots` is how many batches are on their way at a time.
            precision: Which files are run; the bundle's preference where it is None.

        Raises:
            BundleError: The bundle is not one of this task, or its settings are not valid.
            EngineError: The backend is absent, or a graph does not run on it.
        """
        ...

    def answerer(self, spec: ModelSpec, rules: Mapping[str, Any], model: ModelIdentity, facts: Facts) -> Answerer:
        """What answers for the frames of one run.

        Args:
            spec: The bundle's spec.
            rules: The task's own rules for a verdict, as the configuration has them; see `runtime.decide.read_rules`.
            model: Named in every message.
            facts: What is known of every frame of the run.

        Raises:
            BundleError: The settings are not valid.
            ConfigError: The rules are not those of the task, or name a class that the bundle does not have.
        """
        ...

    def open_album(self, out: Path, overlays: OverlayChoice) -> Album:
        """Open the files for people in a folder that exists; what is there already is overwritten.

        Raises:
            ConfigError: The folder cannot be written.
        """
        ...
