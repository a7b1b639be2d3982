from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from runtime.rle import decode, decode_union, encode, encode_crop

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


@settings(deadline=None)
@given(MASKS)
def test_round_trip(mask: np.ndarray) -> None:
    assert np.array_equal(decode(encode(mask), mask.shape), mask)


@settings(deadline=None)
@given(MASKS, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_a_crop_says_the_same_as_the_frame(mask: np.ndarray, above: int, below: int, left: int) -> None:
    frame = np.pad(mask, ((above, below), (left, 2)))
    crop = encode_crop(mask, first_row=above, first_col=left, height_px=frame.shape[0])
    assert crop == encode(frame)


def test_runs_go_down_the_columns_from_one() -> None:
    mask = np.zeros((256, 1600), dtype=bool)
    mask[255, 3] = True
    mask[0, 4] = True
    assert encode(mask) == f"{3 * 256 + 256} 2"


def test_empty_text_is_an_empty_mask() -> None:
    assert encode(np.zeros((4, 5), dtype=bool)) == ""
    assert not decode("", (4, 5)).any()
    assert decode(" ", (4, 5)).shape == (4, 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 7", "pair 2 .'7'. has no length"),
        ("1 2 x 3", "'x' in pair 2"),
        ("1 2 -5 3", "'-5' in pair 2"),
        ("1 2.0", "'2.0' in pair 1"),
        ("0 2", "pair 1 '0 2'"),
        ("1 0", "pair 1 '1 0'"),
        ("1 2 19 3", "pair 2 '19 3', after a pair that ended at pixel 2"),
        ("5 2 1 1", "pair 2 '1 1'"),
        ("5 3 7 1", "pair 2 '7 1', after a pair that ended at pixel 7"),
    ],
)
def test_a_bad_pair_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(text, (4, 5))


def test_a_mask_must_be_a_plane_within_the_frame() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 2, 2\), expected \(H, W\)"):
        encode(np.zeros((2, 2, 2), dtype=bool))
    with pytest.raises(ValueError, match="rows 3 to 5, expected them within 0 to 4"):
        encode_crop(np.zeros((2, 2), dtype=bool), first_row=3, first_col=0, height_px=4)


@settings(deadline=None)
@given(st.lists(arrays(np.bool_, (5, 7)), max_size=4), st.sampled_from([1, 60]))
def test_a_union_is_the_pixels_of_all(masks: list[np.ndarray], times: int) -> None:
    """Also of so many masks that a byte could not count them at one pixel."""
    expected = np.any(masks, axis=0) if masks else np.zeros((5, 7), dtype=bool)
    assert np.array_equal(decode_union([encode(mask) for mask in masks] * times, (5, 7)), expected)


def test_a_bad_pair_in_a_union_is_named() -> None:
    with pytest.raises(ValueError, match="pair 1 '0 2'"):
        decode_union(["1 2", "0 2"], (4, 5))
