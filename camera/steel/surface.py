"""The clean hot-rolled surface: grain, streaks, mottling and light, without end and without repeat.

Everything here is a pure function of the seed and of the strip's row numbers, so any row can be made first.
Four periodic noise tiles are made once; a stretch of strip is laid from pieces of them at random places and
orientations, each piece faded into the next, and four such layers with pieces of different lengths do not
line up twice. Light, contrast and the strip's edges follow slow curves whose knots are drawn from the seed
and the knot's number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]  # float32 throughout; NumPy types arithmetic no closer

_TILE_ROWS = 1024
_TILE_UNIT = 28.0  # a tile's int8 steps per standard deviation: +-4.5 deviations fit
_KEPT_KNOTS = 512
_BLAS_ONE_THREAD = 250_000  # multiplications up to which OpenBLAS uses one thread
_STREAM_TILE, _STREAM_PIECE, _STREAM_KNOT = 1, 2, 3  # keeps the draws of different purposes apart


@dataclass(frozen=True, slots=True)
class _Tile:
    """A periodic noise.

    Attributes:
        blurs: (rows sigma, columns sigma, weight) of the noises summed in it.
        flecks: Keep only the high peaks, as dark flecks.
    """

    blurs: tuple[tuple[float, float, float], ...]
    flecks: bool = False


@dataclass(frozen=True, slots=True)
class _Layer:
    """One octave of the texture, laid from pieces of a tile.

    Attributes:
        tile: Which tile.
        contrast: Standard deviation, as a ratio of the local brightness.
        piece_rows: Rows laid from one place of the tile.
        fade_rows: Rows over which one piece gives way to the next.
        patchy: Strong in some regions and absent in others.
    """

    tile: int
    contrast: float
    piece_rows: int
    fade_rows: int
    patchy: bool = False


GRAIN, STREAKS, RELIEF, _FLECKS = range(4)

# Sigmas and contrasts follow the autocorrelation of real frames, across the strip 0.65, 0.4, 0.2, 0.1 and
# along the travel 0.65, 0.45, 0.35, 0.25 at lags 1, 2, 4, 8, and their deviation of 5 to 10 % of the mean.
_TILES = (
    _Tile(((0.55, 0.65, 1.0), (1.1, 9.0, 0.30))),
    _Tile(((11.0, 1.1, 1.0), (70.0, 2.2, 0.9))),
    _Tile(((5.0, 3.0, 0.5), (26.0, 11.0, 1.0))),
    _Tile(((8.0, 2.3, 1.0),), flecks=True),
)
_LAYERS = (
    # Two pieces of grain over each other, so that no stretch is the copy of another.
    _Layer(GRAIN, 0.045, 320, 32),
    _Layer(GRAIN, 0.045, 272, 32),
    _Layer(STREAKS, 0.036, 416, 96),
    _Layer(RELIEF, 0.034, 352, 64, patchy=True),
    _Layer(_FLECKS, 0.065, 288, 48, patchy=True),
)


def interpolation(count: int, knots: int) -> Floats:
    """The (count, knots) matrix that draws a smooth curve of `count` samples through `knots` values."""
    place = np.linspace(0.0, knots - 1.0, count, dtype=np.float32)
    offset = np.abs(place[:, None] - np.arange(knots, dtype=np.float32))
    near = np.clip(1.0 - offset, 0.0, 1.0)
    return near * near * (3.0 - 2.0 * near)


def product(left: Floats, right: Floats) -> Floats:
    """The matrix product, in strips small enough that BLAS keeps it on the calling thread.

    The matrices are thin: other threads would cost more than they give, and belong to the line's engines.
    """
    step = max(1, _BLAS_ONE_THREAD // (left.shape[1] * right.shape[1]))
    out = np.empty((left.shape[0], right.shape[1]), np.float32)
    for row in range(0, left.shape[0], step):
        np.matmul(left[row : row + step], right, out=out[row : row + step])
    return out


def value_noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> Floats:
    """A smooth random field (height, width) of about unit deviation, with `cells` bumps down and across."""
    down, across = max(2, cells[0]), max(2, cells[1])
    knots = rng.standard_normal((down, across), dtype=np.float32)
    return product(interpolation(height, down), 1.4 * (knots @ interpolation(width, across).T))


class Surface:
    """Clean steel by rows.

    Args:
        seed: 0 or more; another seed is another strip.
        width_px: Pixels across the frame.
        scale: Size of large features relative to a frame of 256 x 1600, 1.0 there.
    """

    def __init__(self, seed: int, width_px: int, scale: float) -> None:
        self._seed = seed
        self._width_px = width_px
        self._scale = scale
        self._knots: dict[tuple[int, int], Floats] = {}
        self._tile_cols = 2048 if width_px > 1024 else 1024
        self._tiles = tuple(self._make_tile(number, tile) for number, tile in enumerate(_TILES))
        light_knots, cloud_knots = 7, 22
        across = np.linspace(-1.0, 1.0, width_px, dtype=np.float32)
        vignette = 1.06 - 0.24 * across * across
        wide, narrow = interpolation(width_px, light_knots).T, interpolation(width_px, cloud_knots).T
        self._light_basis = np.concatenate([vignette[None], 0.2 * wide, 0.06 * narrow])
        level = np.full((1, width_px), 0.45, np.float32)
        self._patch_basis = np.concatenate([level, 0.9 * interpolation(width_px, 9).T])

    def rows(self, first: int, stop: int) -> Floats:
        """Brightness of clean steel, (stop - first, width) float32, roughly 0..255 and not yet clipped."""
        count = stop - first
        slow = self._curves(first, stop, 1400.0 * self._scale, 0, len(_LAYERS) + 1)
        texture = np.ones((count, self._width_px), np.float32)
        piece = np.empty_like(texture)
        patchiness = self._field(first, stop, 330.0 * self._scale, 1, self._patch_basis)
        np.clip(patchiness, 0.0, 1.6, out=patchiness)
        for number, layer in enumerate(_LAYERS):
            self._lay(number, layer, first, stop, piece)
            strength = layer.contrast / _TILE_UNIT * np.exp(0.38 * slow[:, number])
            piece *= strength[:, None].astype(np.float32)
            if layer.patchy:
                piece *= patchiness
            texture += piece
        light = self._field(first, stop, 520.0 * self._scale, 2, self._light_basis)
        np.maximum(light, 0.4, out=light)
        light *= (88.0 * np.exp(0.24 * slow[:, -1]))[:, None].astype(np.float32)
        texture *= light
        return texture

    def edges(self, first: int, stop: int) -> tuple[Floats, Floats]:
        """The strip's left and right edge by row, in columns; outside 0..width where none is seen."""
        drift = self._curves(first, stop, 12_000.0 * self._scale, 3, 1)[:, 0]
        wander = self._curves(first, stop, 190.0 * self._scale, 4, 2) * (2.5 * self._scale)
        reach = 0.25 * self._width_px
        limit = 0.35 * self._width_px
        left = np.minimum(reach * (drift - 0.8), limit) + wander[:, 0]
        right = self._width_px - np.minimum(reach * (-drift - 0.8), limit) + wander[:, 1]
        return left.astype(np.float32), right.astype(np.float32)

    def relief(self, rng: np.random.Generator, height: int, width: int, tile: int = RELIEF) -> Floats:
        """A random piece of a noise tile, (height, width) of unit deviation, up to 1024 each way."""
        steps = self._tiles[tile]
        row = int(rng.integers(0, steps.shape[0] - height + 1))
        col = int(rng.integers(0, steps.shape[1] - width + 1))
        return steps[row : row + height, col : col + width].astype(np.float32) / _TILE_UNIT

    def _make_tile(self, number: int, recipe: _Tile) -> NDArray[np.int8]:
        """A periodic tile, padded by its own start so that a piece is one slice wherever it begins."""
        from scipy import fft

        rng = np.random.default_rng((self._seed, _STREAM_TILE, number))
        rows, cols = _TILE_ROWS, self._tile_cols
        down = 2.0 * math.pi * np.fft.fftfreq(rows).astype(np.float32)[:, None]
        across = 2.0 * math.pi * np.fft.rfftfreq(cols).astype(np.float32)[None, :]
        transfer = np.zeros((rows, cols // 2 + 1), np.float32)
        for sigma_rows, sigma_cols, weight in recipe.blurs:
            bell = np.exp(-0.5 * (sigma_rows * down) ** 2) * np.exp(-0.5 * (sigma_cols * across) ** 2)
            transfer += bell * (weight / math.sqrt(float(np.mean(bell * bell))))
        transfer[0, 0] = 0.0
        spectrum = rng.standard_normal((*transfer.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        tile = np.asarray(fft.irfft2(spectrum * transfer, s=(rows, cols), overwrite_x=True))
        tile *= 1.0 / float(tile.std())
        if recipe.flecks:
            tile = np.clip(1.25 - tile, -1.5, 0.0)
            tile -= float(tile.mean())
            tile *= 2.2  # the peaks are rare: their own depth counts, not the deviation
        steps = np.clip(np.rint(tile * _TILE_UNIT), -127, 127).astype(np.int8)
        pad_rows = max(each.piece_rows + each.fade_rows for each in _LAYERS)
        return np.pad(steps, ((0, pad_rows), (0, self._width_px)), mode="wrap")

    def _lay(self, number: int, layer: _Layer, first: int, stop: int, out: Floats) -> None:
        """Fill `out` with the layer's rows [first, stop), in tile steps."""
        for piece in range(first // layer.piece_rows, (stop - 1) // layer.piece_rows + 1):
            start = piece * layer.piece_rows
            begin, end = max(first, start), min(stop, start + layer.piece_rows)
            span = out[begin - first : end - first]
            span[...] = self._piece(number, layer, piece)[begin - start : end - start]
            faded = min(end, start + layer.fade_rows) - begin
            if faded > 0:
                age = (np.arange(begin, begin + faded, dtype=np.float32) - start + 0.5) / layer.fade_rows
                before = self._piece(number, layer, piece - 1)
                tail = begin - start + layer.piece_rows
                # Sine and cosine keep the deviation where two independent noises overlap.
                span[:faded] *= np.sin(0.5 * np.pi * age)[:, None]
                span[:faded] += np.cos(0.5 * np.pi * age)[:, None] * before[tail : tail + faded]

    def _piece(self, number: int, layer: _Layer, piece: int) -> NDArray[np.int8]:
        """The piece's view into the tile, at its own place and orientation."""
        row, col, flips = np.random.default_rng((self._seed, _STREAM_PIECE, number, piece + 1)).integers(
            (_TILE_ROWS, self._tile_cols, 4)
        )
        view = self._tiles[layer.tile][row : row + layer.piece_rows + layer.fade_rows, col : col + self._width_px]
        return view[:: -1 if flips & 1 else 1, :: -1 if flips & 2 else 1]

    def _field(self, first: int, stop: int, period_rows: float, stream: int, basis: Floats) -> Floats:
        """A slow field (stop - first, width): basis row 0, and each other row times its own curve."""
        weights, knots = self._spline(first, stop, period_rows, stream, basis.shape[0] - 1)
        return product(weights, basis[0] + knots @ basis[1:])

    def _curves(self, first: int, stop: int, period_rows: float, stream: int, count: int) -> Floats:
        """`count` smooth random curves of about unit deviation, (stop - first, count)."""
        weights, knots = self._spline(first, stop, period_rows, stream, count)
        return weights @ knots

    def _spline(self, first: int, stop: int, period_rows: float, stream: int, count: int) -> tuple[Floats, Floats]:
        """B-spline weights (stop - first, K), rows summing to 1, and the knots (K, count) weighed."""
        place = np.arange(first, stop, dtype=np.float64) / period_rows
        low, high = int(place[0]), int(place[-1]) + 4
        knots = np.stack([self._knot(stream, knot, count) for knot in range(low, high)])
        offset = np.abs(place[:, None] + 1.0 - np.arange(low, high))
        near, far = np.maximum(1.0 - offset, 0.0), np.maximum(2.0 - offset, 0.0)
        weights = (far * far * far - 4.0 * near * near * near) / 6.0
        # Averaging neighbouring knots takes about a third of their deviation, which is given back.
        return weights.astype(np.float32), np.float32(1.45) * knots

    def _knot(self, stream: int, knot: int, count: int) -> Floats:
        """The knot's values; kept, since the marks of one frame ask for the same few again and again."""
        values = self._knots.get((stream, knot))
        if values is None:
            if len(self._knots) >= _KEPT_KNOTS:
                self._knots.clear()
            rng = np.random.default_rng((self._seed, _STREAM_KNOT, stream, knot))
            values = self._knots[stream, knot] = rng.standard_normal(count, dtype=np.float32)
        return values
