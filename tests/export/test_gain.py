from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from export.gain import WARM_UP, gain
from runtime.bundle import open_bundle
from tests.bundles import make_strip_bundle, plain_frames


def test_the_gain_is_the_median_of_turns_and_the_first_do_not_count(tmp_path: Path) -> None:
    bundle = open_bundle(make_strip_bundle(tmp_path / "tiny", 64, 64))
    file = (bundle.spec.graphs["gate"], bundle.model_file("gate"))
    # each turn: how long the one takes, then the other
    warm = [(1, 1000)] * WARM_UP
    turns = [*warm, (300, 100), (200, 100), (200, 200)]
    ticks = itertools.chain.from_iterable(itertools.chain.from_iterable(((0, old), (0, new)) for old, new in turns))
    frames = plain_frames(2, 64, 64)
    assert gain(file, file, frames, turns=3, threads=1, clock_ns=lambda: next(ticks)) == pytest.approx(2.0)
    assert next(ticks, None) is None
