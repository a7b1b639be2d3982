"""Run lengths as Severstal writes them: `start length` pairs, 1-based, down the columns first.

Pixel 1 is the top left one, pixel 2 the one below it. Pairs rise and do not overlap; no pair at all is an
empty mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def encode(mask: NDArray[np.bool_]) -> str:
    """The run lengths of a mask.

    Args:
        mask: (H, W) bool.

    >>> encode(np.array([[False, True], [True, True]]))
    '2 3'
    """
    return encode_crop(mask, first_row=0, first_col=0, height_px=mask.shape[0])


def encode_crop(mask: NDArray[np.bool_], first_row: int, first_col: int, height_px: int) -> str:
    """The run lengths, in a whole frame, of a mask that is given only inside its bounding box.

    A defect covers a small part of a frame; this costs what the box costs, not what the frame costs.

    Args:
        mask: (h, w) bool, the part of the frame from `first_row` and `first_col` on.
        first_row: Row of the frame where the part begins.
        first_col: Column of the frame where the part begins.
        height_px: Rows of the whole frame.

    Raises:
        ValueError: The mask is not two-dimensional, or reaches out of the frame's rows.

    >>> encode_crop(np.array([[True], [True]]), first_row=3, first_col=2, height_px=10)
    '24 2'
    """
    if mask.ndim != 2:
        raise ValueError(f"RLE: found a mask of shape {mask.shape}, expected (H, W). Encode one plane at a time.")
    rows, cols = mask.shape
    if first_row < 0 or first_row + rows > height_px:
        raise ValueError(
            f"RLE: found rows {first_row} to {first_row + rows}, expected them within 0 to {height_px}. "
            "Check the height of the frame."
        )
    # One column a row, with an empty pixel at either end: each change is then an edge of a run.
    padded = np.zeros((cols, rows + 2), dtype=np.int8)
    padded[:, 1:-1] = mask.T
    edges = np.diff(padded, axis=1)
    start_col, start_row = np.nonzero(edges == 1)
    stop_col, stop_row = np.nonzero(edges == -1)
    starts = (start_col + first_col) * height_px + start_row + first_row
    stops = (stop_col + first_col) * height_px + stop_row + first_row
    if rows == height_px and len(starts) > 1:
        # A run that reaches the bottom goes on at the top of the next column.
        cuts = starts[1:] != stops[:-1]
        starts = starts[np.concatenate(([True], cuts))]
        stops = stops[np.concatenate((cuts, [True]))]
    pairs = np.stack((starts + 1, stops - starts), axis=1)
    return " ".join(map(str, pairs.ravel().tolist()))


def decode(text: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask that run lengths describe.

    Args:
        text: `start length` pairs; empty for an empty mask.
        shape: Rows and columns of the frame.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: The text is not pairs of whole numbers, or a pair is empty, leaves the frame, or begins
            before the last one ended. The text names the pair, counted from 1.

    >>> decode("2 3", (2, 2)).astype(int).tolist()
    [[0, 1], [1, 1]]
    """
    return _filled([_runs(text, shape)], shape)


def decode_union(texts: Iterable[str], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels that any of several masks covers; costs one frame, however many masks there are.

    Args:
        texts: Run lengths of each mask.
        shape: Rows and columns of the frame.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: As `decode` for one of the texts.

    >>> decode_union(["4 1", "2 1"], (2, 2)).astype(int).tolist()
    [[0, 0], [1, 1]]
    """
    return _filled([_runs(text, shape) for text in texts], shape)


def _filled(runs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool from 0-based starts and stops of runs, which may overlap from mask to mask."""
    steps = np.zeros(shape[0] * shape[1] + 1, dtype=np.int32 if len(runs) > 100 else np.int8)
    for starts, stops in runs:
        # Within one mask no two runs begin, or end, at the same pixel.
        steps[starts] += 1
        steps[stops] -= 1
    flat = np.cumsum(steps[:-1], dtype=steps.dtype).astype(np.bool_)
    return flat.reshape(shape[1], shape[0]).T


def _runs(text: str, shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """0-based starts and stops of the runs, checked."""
    words = text.split()
    if len(words) % 2:
        raise ValueError(
            f"RLE: found {len(words)} numbers, expected pairs: pair {len(words) // 2 + 1} "
            f"({words[-1]!r}) has no length. Check that the text is whole."
        )
    if words and not _all_numbers(words):
        index = next(index for index, word in enumerate(words) if not _all_numbers([word]))
        raise ValueError(
            f"RLE: found {words[index][:40]!r} in pair {index // 2 + 1}, expected a whole number. "
            "Check that the text is Severstal run lengths."
        )
    pairs = np.array(words, dtype=np.int64).reshape(-1, 2)
    starts = pairs[:, 0] - 1
    stops = starts + pairs[:, 1]
    pixels = shape[0] * shape[1]
    bad = (starts < 0) | (pairs[:, 1] < 1) | (stops > pixels)
    bad[1:] |= starts[1:] < stops[:-1]
    if bad.any():
        index = int(np.argmax(bad))
        start, length = pairs[index].tolist()
        after = f", after a pair that ended at pixel {int(stops[index - 1])}" if index else ""
        raise ValueError(
            f"RLE: found pair {index + 1} '{start} {length}'{after}, expected a run of at least one pixel "
            f"within 1 to {pixels}, pairs rising and apart. Check the text and the size "
            f"{shape[0]}x{shape[1]} of the frame."
        )
    return starts, stops


def _all_numbers(words: Sequence[str]) -> bool:
    digits = "".join(words)
    # 18 digits fit an int64, and so does the sum of two such numbers.
    return digits.isascii() and digits.isdigit() and max(map(len, words)) <= 18
