"""The engines of a bundle by the size of the pictures, for jobs where each picture may have another one."""

from __future__ import annotations

from collections import OrderedDict
from types import TracebackType
from typing import TYPE_CHECKING

from runtime.cuda import DEFAULT_API
from runtime.engine import EngineSettings
from runtime.heads import head_of
from runtime.serving import take_over_all

if TYPE_CHECKING:
    from runtime.bundle import Bundle
    from runtime.cuda import CudaApi
    from runtime.pipeline import Pipeline
    from runtime.spec import Arithmetic, ModelSpec, Precision

SIZES_KEPT = 3
"""Sizes of pictures for which engines stay open, where the graphs take any size."""


class SizedEngines:
    """Opens the pipeline for a size of picture when it is asked for, and keeps the last few.

    Where the graphs insist on one size, its pipeline is opened at once: a bundle that cannot run is no fault of a
    picture.

    Args:
        bundle: The bundle, opened.
        backend: A key of `runtime.backends.BACKENDS`.
        precision: Which files are run; the bundle's preference where it is None.
        batch: Most pictures of one size that go through together.
        threads: CPU threads an engine may use; None leaves it to the backend.
        arithmetic: In what a CPU computes a half file; None is what the bundle says.
        cuda_api: By which library a GPU is driven.

    Attributes:
        sizes_px: Rows and columns for which engines are open, in the order of their last use. Any thread may read it.

    Raises:
        EngineError: The backend is absent, or the graphs do not run on it.
        BundleError: The bundle lacks the precision asked for, or its settings are not valid.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str,
        precision: Precision | None = None,
        *,
        batch: int = 1,
        threads: int | None = None,
        arithmetic: Arithmetic | None = None,
        cuda_api: CudaApi = DEFAULT_API,
    ) -> None:
        self._bundle = bundle
        self._backend = backend
        self._precision: Precision | None = precision
        self._batch = batch
        self._threads = threads
        self._arithmetic: Arithmetic | None = arithmetic
        self._cuda_api: CudaApi = cuda_api
        self._open: OrderedDict[tuple[int, int], Pipeline] = OrderedDict()
        self.sizes_px: tuple[tuple[int, int], ...] = ()
        height_px, width_px = fixed_size(bundle.spec)
        if height_px is not None and width_px is not None:
            self.open((height_px, width_px))

    def refusal(self, shape: tuple[int, int]) -> str | None:
        """Why the graphs do not take a picture of so many rows and columns; None where they do."""
        fixed_px = fixed_size(self._bundle.spec)
        if fits(fixed_px, shape):
            return None
        found, expected = size_text(shape), size_text(fixed_px)
        return f"found {found} pixels (rows x columns), expected {expected}. Use a bundle for this size."

    def open(self, shape: tuple[int, int]) -> Pipeline:
        """The pipeline for a size, which stays open until others have been asked for.

        Raises:
            EngineError: The graphs do not run with it.
        """
        if shape not in self._open:
            if len(self._open) >= SIZES_KEPT:
                self._open.popitem(last=False)[1].close()
            self._open[shape] = self._open_pipeline(shape)
        self._open.move_to_end(shape)
        self.sizes_px = tuple(self._open)
        return self._open[shape]

    def keep_awake(self) -> None:
        """Keep the devices of all open engines awake; see `runtime.engine.Engine.keep_awake`."""
        for pipeline in self._open.values():
            pipeline.keep_awake()

    def hand_over(self) -> None:
        """Give the engines of all sizes up; see `runtime.pipeline.Pipeline`."""
        for pipeline in self._open.values():
            pipeline.hand_over()

    def take_over(self) -> None:
        """Become the owner of the engines of all sizes; see `runtime.pipeline.Pipeline`."""
        take_over_all(self._open.values())

    def close(self) -> None:
        """Free all engines; calling it again does nothing."""
        self.sizes_px = ()
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> SizedEngines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_pipeline(self, shape: tuple[int, int]) -> Pipeline:
        settings = EngineSettings(self._batch, 1, shape[0], shape[1], self._threads, self._arithmetic, self._cuda_api)
        head = head_of(self._bundle.spec.task)
        return head.open_pipeline(self._bundle, self._backend, settings, self._precision)


def fixed_size(spec: ModelSpec) -> tuple[int | None, int | None]:
    """Rows and columns that the graphs of a bundle insist on; None where they take any."""
    return _fixed(spec, 2), _fixed(spec, 3)


def fits(fixed_px: tuple[int | None, int | None], shape: tuple[int, int]) -> bool:
    """Whether graphs that insist on `fixed_px` take pictures of so many rows and columns."""
    return all(fixed in (None, found) for fixed, found in zip(fixed_px, shape, strict=True))


def size_text(size_px: tuple[int | None, int | None]) -> str:
    """A size in words.

    >>> size_text((256, None))
    '256xany'
    """
    return "x".join(str(each or "any") for each in size_px)


def _fixed(spec: ModelSpec, axis: int) -> int | None:
    sizes = (graph.input.shape[axis] for graph in spec.graphs.values())
    return next((size for size in sizes if isinstance(size, int)), None)
