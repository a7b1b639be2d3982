"""A picture cut into tiles, run by a real engine in batches and stitched, is the picture run whole."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.bundle import open_bundle
from runtime.engine import EngineSettings
from runtime.errors import EngineError
from runtime.heads import head_of
from tests.phase_bundles import SETTINGS, labels_of, make_phase_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phase_bundle(tmp_path_factory.mktemp("phase"))


def pictures(count: int, shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 with structure at all scales: a tile that is off by a pixel would show."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0.0, 60.0, (count, 1, -(-shape[0] // 7), -(-shape[1] // 7)))
    large = coarse.repeat(7, axis=2).repeat(7, axis=3)[..., : shape[0], : shape[1]]
    return np.clip(large + rng.normal(130.0, 40.0, (count, 1, *shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(75, 131), (32, 32), (20, 90), (33, 17), (9, 9)])
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_tiles_give_the_whole(folder: Path, shape: tuple[int, int], backend: str) -> None:
    frames = pictures(3, shape)
    settings = EngineSettings(max_batch=3, slots=1, height_px=shape[0], width_px=shape[1])
    with head_of("phase").open_pipeline(open_bundle(folder), backend, settings) as pipeline:
        pending = pipeline.start(frames)
        pipeline.advance(pending)
        found = [raw["phase"] for raw in pipeline.finish(pending)]
        pipeline.release(pending)
    for labels, frame in zip(found, frames, strict=True):
        assert labels.dtype == np.uint8
        assert np.array_equal(labels, labels_of(frame[0]))


def test_several_batches_are_on_their_way(folder: Path) -> None:
    batches = [pictures(2, (70, 80), seed) for seed in range(3)]
    settings = EngineSettings(max_batch=2, slots=3, height_px=70, width_px=80)
    with head_of("phase").open_pipeline(open_bundle(folder), "openvino", settings) as pipeline:
        pendings = [pipeline.start(frames) for frames in batches]
        for _ in range(2):  # what was finished makes room for as many again
            for pending, frames in zip(pendings, batches, strict=True):
                pipeline.advance(pending)
                for raw, frame in zip(pipeline.finish(pending), frames, strict=True):
                    assert np.array_equal(raw["phase"], labels_of(frame[0]))
                pipeline.release(pending)
            pendings = [pipeline.start(frames) for frames in batches]
        for pending in pendings:
            pipeline.finish(pending)


def test_a_bundle_that_never_cuts_takes_the_whole(tmp_path: Path) -> None:
    folder = make_phase_bundle(tmp_path, settings={**SETTINGS, "tile_px": None, "radius_px": 0, "stride_px": 1})
    frames = pictures(1, (102, 204))
    settings = EngineSettings(max_batch=1, slots=1, height_px=102, width_px=204)
    with head_of("phase").open_pipeline(open_bundle(folder), "openvino", settings) as pipeline:
        pending = pipeline.start(frames)
        assert np.array_equal(pipeline.finish(pending)[0]["phase"], labels_of(frames[0, 0]))


def test_a_batch_is_finished_once(folder: Path) -> None:
    settings = EngineSettings(max_batch=1, slots=1, height_px=70, width_px=80)
    with head_of("phase").open_pipeline(open_bundle(folder), "openvino", settings) as pipeline:
        pending = pipeline.start(pictures(1, (70, 80)))
        pipeline.finish(pending)
        with pytest.raises(RuntimeError, match="finished before"):
            pipeline.finish(pending)


def test_an_engine_that_refuses_leaves_no_slot_taken(folder: Path) -> None:
    settings = EngineSettings(max_batch=1, slots=1, height_px=70, width_px=80)
    with head_of("phase").open_pipeline(open_bundle(folder), "openvino", settings) as pipeline:
        frames = pictures(1, (70, 80))
        for _ in range(3):
            with pytest.raises(EngineError):
                pipeline.start(frames.astype(np.float32))
        pending = pipeline.start(frames)
        assert np.array_equal(pipeline.finish(pending)[0]["phase"], labels_of(frames[0, 0]))
