from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from runtime.delivery.wire import Raster


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 255)))
def test_levels_come_back(levels: np.ndarray) -> None:
    raster = Raster.model_validate_json(Raster.of(levels).model_dump_json())
    assert np.array_equal(raster.array(), levels)


def test_another_number_of_levels_is_refused() -> None:
    small = Raster.of(np.zeros((2, 3), np.uint8))
    for height in (1, 3):
        with pytest.raises(ValueError, match="expected"):
            small.model_copy(update={"height_px": height}).array()
