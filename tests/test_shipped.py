"""The bundles that ship: whole, small, and right about the steel that they were trained for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.backends import BACKENDS, CPU_BACKENDS
from runtime.bundle import open_bundle
from runtime.engine import EngineSettings
from runtime.heads import head_of

MODELS = Path(__file__).resolve().parent.parent / "models"
LARGEST_MB = {"strip": 9.0, "strip-int8": 4.0}


@pytest.mark.parametrize("name", sorted(LARGEST_MB))
def test_a_shipped_bundle_is_whole_and_small(name: str) -> None:
    bundle = open_bundle(MODELS / name)
    assert sum(file.stat().st_size for file in bundle.path.rglob("*")) <= LARGEST_MB[name] * 1e6
    assert "/" not in str(bundle.spec.provenance.data)


@pytest.mark.parametrize("name", sorted(LARGEST_MB))
@pytest.mark.parametrize("backend", sorted(CPU_BACKENDS))
def test_the_shipped_cascade_gives_its_golden_answers(backend: str, name: str) -> None:
    if not BACKENDS[backend].installed:
        pytest.skip(f"{BACKENDS[backend].library} is not installed")
    bundle = open_bundle(MODELS / name)
    golden = np.load(bundle.path / "golden.npz")
    frames = golden["frames"]
    height, width = frames.shape[2:]
    settings = EngineSettings(max_batch=len(frames), height_px=height, width_px=width)
    with head_of("strip").open_pipeline(bundle, backend, settings) as pipeline:
        pending = pipeline.start(frames)
        pipeline.advance(pending)
        outputs = pipeline.finish(pending)
        found = [output.gate_probability for output in outputs]
        np.testing.assert_allclose(found, golden["gate.defect_probability"], atol=0.03)
        for output, expected in zip(outputs, golden["segmenter.class_probability"], strict=True):
            if output.class_probability is not None:
                off = np.abs(output.class_probability.astype(int) - expected.astype(int))
                assert off.mean() < 0.25
        pipeline.release(pending)
