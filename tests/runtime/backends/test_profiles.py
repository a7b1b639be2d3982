"""A plan with several profiles, on the software GPU: each batch runs with its own, and each is warm from the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from runtime.backends.tensorrt import Device, open_graph
from runtime.engine import EngineSettings
from runtime.errors import EngineError
from runtime.plans.flavours import FlavourName
from runtime.plans.preflight import find_plan
from tests.runtime.backends.graphs import some_frames, write_pair
from tests.software_cuda import SoftwareCuda
from tests.software_plans import add_plan, make_bundle, manifest_of, sign, software_device
from tests.software_tensorrt import SoftwareContext, SoftwareTensorRt

SIZE = (6, 8)
TUNED = (1, 4, 6, 32)
PROFILE_OF = {1: 0, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2}
"""The profile that each of the batches up to 6 is run with."""
WAYS = [("tensorrt", True), ("tensorrt", False), ("tensorrt_rtx", True)]
"""Flavour, and whether streams can be captured."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def add_tuned(folder: Path, flavour: FlavourName) -> Path:
    file = folder / "pair.onnx"
    graph = write_pair(file)
    make_bundle(file, graph)
    return add_plan(folder, manifest_of("model", file, graph, SIZE, TUNED, flavour), file)


def contexts_of(device: Device) -> list[SoftwareContext]:
    """Those that have run something."""
    return [context for context in cast("SoftwareTensorRt", device.trt).contexts if context.ran]


@pytest.mark.parametrize(("flavour", "can_capture"), WAYS)
def test_each_batch_runs_with_the_profile_that_holds_it(
    tmp_path: Path, flavour: FlavourName, can_capture: bool
) -> None:
    add_tuned(tmp_path, flavour)
    device = software_device(flavour, can_capture=can_capture)
    graph = write_pair(tmp_path / "pair.onnx")
    with open_graph(device, tmp_path / "pair.onnx", graph, EngineSettings(6, slots=2), choose=find_plan) as engine:
        contexts = contexts_of(device)
        for context in contexts:
            assert {PROFILE_OF[shape[0]] for shape in context.ran} == {context.profile}
        # Every batch was run before the first frame came, and the profile of 32 frames is not needed here.
        assert {shape[0] for context in contexts for shape in context.ran} == set(PROFILE_OF)
        cuda = cast("SoftwareCuda", device.cuda)
        made = cuda.made, len(device.trt.contexts)
        for count in (1, 6, 2, 5, 4, 1, 3):
            ticket = engine.submit(some_frames(count, seed=count))
            assert np.array_equal(engine.collect(ticket)["inverted"], 255 - some_frames(count, seed=count))
            engine.release(ticket)
        assert (cuda.made, len(device.trt.contexts)) == made
        for context in contexts:
            assert {PROFILE_OF[shape[0]] for shape in context.ran} == {context.profile}


def test_a_profile_has_one_context_a_slot_where_nothing_is_captured(tmp_path: Path) -> None:
    add_tuned(tmp_path, "tensorrt_rtx")
    device = software_device("tensorrt_rtx")
    graph = write_pair(tmp_path / "pair.onnx")
    open_graph(device, tmp_path / "pair.onnx", graph, EngineSettings(6, slots=2), choose=find_plan).close()
    assert sorted(context.profile for context in contexts_of(device)) == [0, 0, 1, 1, 2, 2]
    strategy = device.trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
    assert all(context.strategy is strategy for context in contexts_of(device))


def test_a_plan_with_other_profiles_than_its_manifest_says_is_refused(tmp_path: Path) -> None:
    plan = add_tuned(tmp_path, "tensorrt_rtx")
    header, _, onnx = plan.read_bytes().partition(b"\n")
    facts = json.loads(header)
    plan.write_bytes(json.dumps({**facts, "profiles": facts["profiles"][:2]}).encode() + b"\n" + onnx)
    sign(tmp_path, plan.relative_to(tmp_path).as_posix())
    graph = write_pair(tmp_path / "pair.onnx")
    with pytest.raises(EngineError, match=r"found 2 profiles in engines/.*, expected the 4 of its manifest"):
        open_graph(software_device(), tmp_path / "pair.onnx", graph, EngineSettings(6), choose=find_plan)


def test_a_native_plan_needs_no_folder_for_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file, and no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    graph = write_pair(tmp_path / "pair.onnx")
    for flavour in ("tensorrt", "tensorrt_rtx"):
        add_tuned(tmp_path, flavour)
    open_graph(software_device("tensorrt"), tmp_path / "pair.onnx", graph, EngineSettings(6), choose=find_plan).close()
    with pytest.raises(EngineError, match="expected a folder that can be written"):
        open_graph(software_device("tensorrt_rtx"), tmp_path / "pair.onnx", graph, EngineSettings(6), choose=find_plan)
