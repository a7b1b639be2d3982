"""The times of a batch, stage by stage, on the software device: every copy and compute takes it one millisecond."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.cuda.timed import StageTimes, TimedCuda
from runtime.engine import EngineSettings
from runtime.plans.flavours import FlavourName
from tests.runtime.backends.graphs import some_frames, write_pair
from tests.software_cuda import SoftwareCuda
from tests.software_plans import open_software, software_device
from tests.software_streams import OPERATION_MS


def test_a_batch_is_told_apart_into_its_stages() -> None:
    with TimedCuda(SoftwareCuda()) as cuda:
        assert cuda.stages() is None
        stream, there = cuda.make_stream(), cuda.allocate(100)
        source, target = cuda.allocate_pinned(100), cuda.allocate_pinned(100)
        for downloads in (1, 3):
            cuda.upload(source, there, stream)
            for _ in range(downloads):
                cuda.download(there, target, stream)
            cuda.synchronize_stream(stream)
            assert cuda.stages() == StageTimes(OPERATION_MS, 0.0, downloads * OPERATION_MS)


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt_rtx"])
def test_an_engine_is_timed_without_knowing(
    tmp_path: Path, flavour: FlavourName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    device = software_device(flavour)
    cuda = TimedCuda(device.cuda)
    graph = write_pair(tmp_path / "pair.onnx")
    settings = EngineSettings(max_batch=2, slots=2)
    with open_software(flavour, tmp_path / "pair.onnx", graph, settings, replace(device, cuda=cuda)) as engine:
        frames = some_frames(2)
        for _ in range(3):
            ticket = engine.submit(frames)
            assert np.array_equal(engine.collect(ticket)["inverted"], 255 - frames)
            engine.release(ticket)
            found = cuda.stages()
            assert found is not None
            assert (found.upload_ms, found.compute_ms) == (OPERATION_MS, OPERATION_MS)
            assert found.download_ms == len(graph.outputs) * OPERATION_MS
