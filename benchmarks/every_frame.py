"""Gate and segmenter on every frame, so that a cascade can be judged with its gate and without it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.evaluation_data import Picture
from runtime.backends import open_engine
from runtime.bundle import Bundle
from runtime.cascade import Cascade, FrameOutput
from runtime.engine import Engine, EngineSettings
from runtime.heads.strip import GATE, SEGMENTER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.spec import Precision

Size = tuple[int, int]

OPEN_SIZES = 4
"""Frame sizes whose engines are kept open at a time."""


class EveryFrame:
    """The cascade of a bundle with its gate wide open: the segmenter sees each frame too.

    Args:
        bundle: A strip bundle, opened.
        backend: A key of `runtime.backends.BACKENDS`.
        precision: Which files; None takes the bundle's preference.
        batch: Most frames in a batch.
        threads: CPU threads; None leaves it to the backend.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str,
        precision: Precision | None = None,
        batch: int = 8,
        threads: int | None = None,
    ) -> None:
        self._bundle = bundle
        self._backend = backend
        self._precision: Precision | None = precision
        self._batch = batch
        self._threads = threads
        self._cascades: OrderedDict[Size, Cascade] = OrderedDict()
        self.sizes_seen: set[Size] = set()

    def run(self, pictures: Iterable[Picture]) -> Iterator[tuple[Picture, FrameOutput]]:
        """Each picture with both graphs' outputs, whose arrays are valid until the next one is asked for.

        Pictures of one size come in their order; those of several sizes are gathered by size.

        Raises:
            EngineError: The graphs are made for another size, or failed.
        """
        waiting: dict[Size, list[Picture]] = {}
        for picture in pictures:
            size = (picture.pixels.shape[0], picture.pixels.shape[1])
            gathered = waiting.setdefault(size, [])
            gathered.append(picture)
            if len(gathered) == self._batch:
                yield from self._run_batch(size, waiting.pop(size))
        for size in sorted(waiting):
            yield from self._run_batch(size, waiting[size])

    def _run_batch(self, size: Size, pictures: list[Picture]) -> Iterator[tuple[Picture, FrameOutput]]:
        cascade = self._cascade(size)
        frames = np.stack([picture.pixels for picture in pictures])[:, np.newaxis]
        pending = cascade.start(frames)
        cascade.advance(pending)
        outputs = cascade.finish(pending)
        try:
            yield from zip(pictures, outputs, strict=True)
        finally:
            cascade.release(pending)

    def _cascade(self, size: Size) -> Cascade:
        """The engines for a size; those longest unused are closed when there are too many."""
        self.sizes_seen.add(size)
        if size in self._cascades:
            self._cascades.move_to_end(size)
            return self._cascades[size]
        while len(self._cascades) >= OPEN_SIZES:
            self._cascades.popitem(last=False)[1].close()
        settings = EngineSettings(
            max_batch=self._batch, slots=1, height_px=size[0], width_px=size[1], threads=self._threads
        )
        gate = self._open(GATE, settings)
        try:
            segmenter = self._open(SEGMENTER, settings)
        except BaseException:
            gate.close()
            raise
        self._cascades[size] = Cascade(gate, segmenter, wanted=_all)
        return self._cascades[size]

    def _open(self, role: str, settings: EngineSettings) -> Engine:
        model = self._bundle.model_file(role, self._precision)
        return open_engine(self._backend, model, self._bundle.spec.graphs[role], settings)

    def close(self) -> None:
        """Free the engines; calling it again does nothing."""
        while self._cascades:
            self._cascades.popitem()[1].close()

    def __enter__(self) -> EveryFrame:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _all(gate_probability: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.ones(len(gate_probability), dtype=bool)
