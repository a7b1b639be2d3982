"""One engine over pictures that may be larger than what it takes at once: cut, run in batches, stitched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.backends import open_engine
from runtime.errors import EngineError
from runtime.single import MODEL
from runtime.tiling import TilePlan, cut_tiles, plan_tiles, stitch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.bundle import Bundle
    from runtime.engine import Engine, EngineSettings, Ticket
    from runtime.spec import GraphSpec, Precision

TILES_AT_ONCE = 2
"""Tiles in a batch of the engine where a picture is cut: each is large enough to keep a device busy."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a network's pictures may be cut.

    Attributes:
        tile_px: Side of a tile at most; None never cuts.
        radius_px: How far a pixel may lie that has a say in another's answer.
        stride_px: Tiles begin at its multiples.
    """

    tile_px: int | None
    radius_px: int
    stride_px: int


@dataclass(slots=True)
class TiledPending:
    """One batch of pictures on its way: what is still to be submitted, and what the engine works on."""

    tiles: NDArray[np.uint8]
    submitted: int
    ticket: Ticket | None
    finished: bool = False

    @property
    def done(self) -> bool:
        """An engine may work on it until `finish`."""
        return False


class TiledPipeline:
    """Pictures of one size through one engine; see `runtime.pipeline.Pipeline`.

    `finish` gives one mapping a picture, from the output's name to its values over the whole picture. They are copies,
    so `release` has nothing to give back.

    Args:
        engine: Takes tiles of the plan's size; has one slot more than batches are on their way, since the next tiles
            of a picture go in before the last ones are fetched. The pipeline closes it.
        plan: How each picture is cut.
        output: The graph's output that is stitched, (n, H, W).
    """

    def __init__(self, engine: Engine, plan: TilePlan, output: str) -> None:
        self._engine = engine
        self._plan = plan
        self._output = output

    def start(self, frames: NDArray[np.uint8]) -> TiledPending:
        """Cut the pictures and submit the first tiles; see `runtime.pipeline.Pipeline`."""
        whole = self._plan.count == 1 and self._plan.tile_px == frames.shape[2:]
        tiles = frames if whole else np.concatenate([cut_tiles(frame[0], self._plan) for frame in frames])
        pending = TiledPending(tiles, 0, None)
        pending.ticket = self._submit(pending)
        return pending

    def advance(self, pending: TiledPending) -> None:
        """There is no second stage."""

    def finish(self, pending: TiledPending) -> Sequence[Mapping[str, NDArray[Any]]]:
        """Run all tiles and put them together; see `runtime.pipeline.Pipeline`."""
        if pending.finished:
            raise RuntimeError("pipeline: found a batch that was finished before, expected one on its way.")
        pending.finished = True
        parts: list[NDArray[Any]] = []
        while (ticket := pending.ticket) is not None:
            pending.ticket = None
            try:
                pending.ticket = self._submit(pending)  # the engine works on while these are copied
            except BaseException:
                self._drop(ticket)
                raise
            try:
                parts.append(np.array(self._engine.collect(ticket)[self._output]))
            except BaseException:
                self._drop(pending.ticket)
                raise
            self._engine.release(ticket)
        answers, each = np.concatenate(parts), self._plan.count
        return [
            {self._output: stitch(iter(answers[first : first + each]), self._plan, answers.dtype)}
            for first in range(0, len(answers), each)
        ]

    def release(self, pending: TiledPending) -> None:
        """What `finish` gave is the caller's own."""

    def keep_awake(self) -> None:
        """Keep the engine's device awake."""
        self._engine.keep_awake()

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Tell the engine where frames will come from; where they are cut to tiles, they are copied anyway."""
        self._engine.register(memory)

    def hand_over(self) -> None:
        """Give the engine up; see `runtime.pipeline.Pipeline`."""
        self._engine.hand_over()

    def take_over(self) -> None:
        """Become the engine's owner; see `runtime.pipeline.Pipeline`."""
        self._engine.take_over()

    def close(self) -> None:
        """Wait for what is on its way and free the engine; calling it again does nothing."""
        self._engine.close()

    def __enter__(self) -> TiledPipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, pending: TiledPending) -> Ticket | None:
        """Submit the next tiles; None where there are no more."""
        batch = pending.tiles[pending.submitted : pending.submitted + self._engine.settings.max_batch]
        if not len(batch):
            return None
        ticket = self._engine.submit(batch)
        pending.submitted += len(batch)
        return ticket

    def _drop(self, ticket: Ticket | None) -> None:
        """Wait for a batch that nobody wants any more, and give its slot back."""
        if ticket is not None:
            with suppress(EngineError):  # there is an error already, and a batch that fails gives its slot back itself
                self._engine.collect(ticket)
                self._engine.release(ticket)


def open_tiled(
    bundle: Bundle,
    backend: str,
    settings: EngineSettings,
    tiles: Tiles,
    output: str,
    precision: Precision | None = None,
) -> TiledPipeline:
    """Open the one graph of a bundle for pictures of the settings' size, or of the size that the graph insists on."""
    graph = bundle.spec.graphs[MODEL]
    shape = _picture_size(graph, settings)
    fixed = all(isinstance(side, int) for side in graph.input.shape[2:])
    stride_px = 1 if fixed else tiles.stride_px
    longest = -(-max(shape) // stride_px) * stride_px
    if fixed or tiles.tile_px is None or longest <= tiles.tile_px:
        plan = plan_tiles(shape, longest, 0, stride_px)
    else:
        plan = plan_tiles(shape, tiles.tile_px, tiles.radius_px, stride_px)
    own = replace(
        settings,
        max_batch=settings.max_batch if plan.count == 1 else TILES_AT_ONCE,
        slots=settings.slots if plan.count == 1 else settings.slots + 1,
        height_px=plan.tile_px[0],
        width_px=plan.tile_px[1],
    )
    return TiledPipeline(open_engine(backend, bundle.model_file(MODEL, precision), graph, own), plan, output)


def _picture_size(graph: GraphSpec, settings: EngineSettings) -> tuple[int, int]:
    sizes = []
    for name, fixed, asked in zip(
        ("height_px", "width_px"), graph.input.shape[2:], (settings.height_px, settings.width_px), strict=True
    ):
        size = fixed if isinstance(fixed, int) else asked
        if size is None:
            raise ValueError(f"engine settings: {name} is None, expected a size, for the graph takes any.")
        sizes.append(size)
    return sizes[0], sizes[1]
