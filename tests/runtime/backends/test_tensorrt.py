"""The TensorRT backend on the software GPU: order, overlap, ownership, graphs, and what it refuses to open."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.backends.run_sizes import run_as, run_sizes
from runtime.backends.slots import SlottedEngine
from runtime.backends.tensorrt import Device, open_graph
from runtime.backends.tensorrt_lanes import KEEP_AWAKE_NS, Lanes
from runtime.engine import EngineSettings
from runtime.errors import BundleError, EngineError
from runtime.plans.flavours import FlavourName
from runtime.plans.preflight import find_plan
from runtime.spec import GraphSpec
from tests.runtime.backends.graphs import some_frames, write_pair
from tests.software_cuda import SoftwareCuda
from tests.software_plans import add_plan, make_bundle, manifest_of, open_software, software_device
from tests.software_tensorrt import EngineValidity, SoftwareTensorRt

SIZE = (6, 8)
FLAVOURS: tuple[FlavourName, ...] = ("tensorrt", "tensorrt_rtx")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def open_pair(
    folder: Path, flavour: FlavourName = "tensorrt", device: Device | None = None, max_batch: int = 4, slots: int = 3
) -> tuple[SlottedEngine, SoftwareCuda]:
    device = device or software_device(flavour)
    graph = write_pair(folder / "pair.onnx")
    engine = open_software(flavour, folder / "pair.onnx", graph, EngineSettings(max_batch, slots), device)
    return engine, cast("SoftwareCuda", device.cuda)


def run(engine: SlottedEngine, frames: np.ndarray) -> np.ndarray:
    ticket = engine.submit(frames)
    inverted = engine.collect(ticket)["inverted"].copy()
    engine.release(ticket)
    return inverted


def test_native_plans_run_as_graphs_one_for_each_batch_and_slot(tmp_path: Path) -> None:
    engine, cuda = open_pair(tmp_path, "tensorrt")
    before = cuda.counts.get("launch", 0)
    for count in (1, 2, 3, 4):
        assert np.array_equal(run(engine, some_frames(count)), 255 - some_frames(count))
    assert cuda.counts["launch"] - before == 4
    assert cuda.counts["begin_capture"] == 4 * 3


def test_rtx_plans_make_their_own_graphs_and_compile_before_the_line_starts(tmp_path: Path) -> None:
    device = software_device("tensorrt_rtx")
    engine, cuda = open_pair(tmp_path, "tensorrt_rtx", device)
    trt = cast("SoftwareTensorRt", device.trt)
    contexts = [context for context in trt.contexts if context.config is not None]
    assert len(contexts) == 3
    for context in contexts:
        assert context.config is not None
        assert context.config.cuda_graph_strategy is trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        assert (
            context.config.dynamic_shapes_kernel_specialization_strategy
            is trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        assert context.compiled >= 4
    run(engine, some_frames(3))
    assert "begin_capture" not in cuda.counts


def test_without_stream_capture_native_plans_run_plainly_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        open_pair(tmp_path, "tensorrt_rtx", software_device("tensorrt_rtx", can_capture=False))[0].close()
        assert not caplog.text  # its graphs are its own
        engine, cuda = open_pair(tmp_path, "tensorrt", software_device("tensorrt", can_capture=False))
    assert "runs without CUDA graphs" in caplog.text
    for count in (4, 1, 3, 3):
        assert np.array_equal(run(engine, some_frames(count)), 255 - some_frames(count))
    assert "launch" not in cuda.counts


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_nothing_is_made_once_the_engine_is_open(tmp_path: Path, flavour: FlavourName) -> None:
    engine, cuda = open_pair(tmp_path, flavour)
    made = cuda.made
    for count in (1, 4, 2, 3, 4):
        run(engine, some_frames(count))
    assert cuda.made == made


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_frames_in_locked_memory_go_up_from_where_they_lie(tmp_path: Path, flavour: FlavourName) -> None:
    engine, _ = open_pair(tmp_path, flavour)
    ring = some_frames(8)
    staging = [lane.staging.array for lane in _lanes(engine)._lanes]
    for each in staging:
        each[:] = 77
    engine.register(ring)
    assert np.array_equal(run(engine, ring[2:5]), 255 - ring[2:5])
    assert all((each == 77).all() for each in staging)
    strangers = some_frames(3, seed=9)
    assert np.array_equal(run(engine, strangers), 255 - strangers)
    assert any((each != 77).any() for each in staging)


def test_memory_that_cannot_be_locked_goes_over_the_staging_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise EngineError("CUDA: the driver does not lock memory here")

    engine, cuda = open_pair(tmp_path)
    monkeypatch.setattr(cuda, "register", refuse)
    ring = some_frames(8)
    with caplog.at_level(logging.WARNING):
        engine.register(ring)
    assert "does not lock memory here" in caplog.text
    assert np.array_equal(run(engine, ring[:4]), 255 - ring[:4])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    flavour=st.sampled_from(FLAVOURS),
    script=st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=14),
)
def test_figures_are_right_in_every_order_that_the_device_may_take(
    tmp_path: Path, seed: int, flavour: FlavourName, script: list[tuple[int, bool]]
) -> None:
    """Batches of any size, collected in any order, from locked and pageable memory; the software finds races too."""
    chance = random.Random(seed)
    engine, _ = open_pair(tmp_path, flavour, software_device(flavour, random.Random(seed + 1)))
    ring = np.empty((16, 1, *SIZE), np.uint8)
    engine.register(ring)
    flying: list[tuple[object, np.ndarray]] = []
    with engine:
        for number, (count, locked) in enumerate(script):
            frames = some_frames(count, seed=number)
            if locked:
                place = 4 * (number % 4)
                ring[place : place + count] = frames
                frames = ring[place : place + count]
            flying.append((engine.submit(frames), 255 - frames))
            while len(flying) == 3 or (flying and chance.random() < 0.4):
                ticket, expected = flying.pop(chance.randrange(len(flying)))
                assert np.array_equal(engine.collect(ticket)["inverted"], expected)  # type: ignore[arg-type]
                engine.release(ticket)  # type: ignore[arg-type]


def test_computes_run_in_the_order_of_submission(tmp_path: Path) -> None:
    """The last batch is waited for first, and still the others' computes come before it, but not their downloads."""
    engine, cuda = open_pair(tmp_path)
    ran: list[str] = []
    enqueue = cuda.enqueue

    def spy(stream: int, name: str, work: object, *spans: object) -> None:
        enqueue(stream, name, lambda: (ran.append(f"{name} {stream}"), work())[1], *spans)  # type: ignore[operator,arg-type]

    cuda.enqueue = spy  # type: ignore[method-assign]
    tickets = [engine.submit(some_frames(2, seed=seed)) for seed in range(3)]
    lanes = [lane.stream.handle for lane in _lanes(engine)._lanes]
    engine.collect(tickets[2])
    assert [each for each in ran if each.startswith("compute")] == [f"compute {lane}" for lane in lanes]
    assert {each for each in ran if each.startswith("download")} == {f"download {lanes[2]}"}
    for ticket in tickets[:2]:
        engine.collect(ticket)


def test_a_large_batch_is_rounded_up_to_a_size_that_was_run_before(tmp_path: Path) -> None:
    engine, cuda = open_pair(tmp_path, "tensorrt_rtx", max_batch=40, slots=1)
    made = cuda.made
    assert np.array_equal(run(engine, some_frames(33)), 255 - some_frames(33))
    assert np.array_equal(run(engine, some_frames(40)), 255 - some_frames(40))
    assert cuda.made == made


@given(st.integers(1, 256))
def test_every_batch_is_run_as_one_that_holds_it(max_batch: int) -> None:
    sizes = run_sizes(max_batch)
    assert sizes == tuple(sorted(set(sizes)))
    assert sizes[0] == 1
    assert sizes[-1] == max_batch
    assert len(sizes) <= 32
    for count, size in enumerate(run_as(max_batch), start=1):
        assert size in sizes
        assert count <= size < max(2 * count, 2)


def test_a_batch_that_cannot_start_leaves_nothing_running(tmp_path: Path) -> None:
    engine, cuda = open_pair(tmp_path)
    launch = cuda.launch

    def fail(*_: object) -> None:
        raise EngineError("CUDA: out of luck")

    cuda.launch = fail  # type: ignore[method-assign]
    buffer = some_frames(2)
    with pytest.raises(EngineError, match="failed to start: CUDA: out of luck"):
        engine.submit(buffer)
    buffer[:] = 0  # the caller's again: the upload is over
    cuda.launch = launch  # type: ignore[method-assign]
    assert np.array_equal(run(engine, some_frames(2)), 255 - some_frames(2))


def test_a_device_that_idles_is_kept_awake_and_nobody_notices(tmp_path: Path) -> None:
    engine, cuda = open_pair(tmp_path)
    lanes = _lanes(engine)
    now_ns = [lanes._busy_ns]
    lanes._clock_ns = lambda: now_ns[0]
    launches = cuda.counts.get("launch", 0)
    ticket = engine.submit(some_frames(3))
    kept = engine.collect(ticket)["inverted"]
    now_ns[0] += KEEP_AWAKE_NS // 2
    engine.keep_awake()
    assert cuda.counts["launch"] == launches + 1  # the batch alone
    now_ns[0] += KEEP_AWAKE_NS
    engine.keep_awake()
    engine.keep_awake()
    assert cuda.counts["launch"] == launches + 2
    assert np.array_equal(kept, 255 - some_frames(3))
    flying = engine.submit(some_frames(1))
    now_ns[0] += 2 * KEEP_AWAKE_NS
    engine.keep_awake()
    assert cuda.counts["launch"] == launches + 3  # the second batch
    engine.collect(flying)


def test_kernels_that_were_compiled_are_kept_for_the_next_start(tmp_path: Path) -> None:
    engine, _ = open_pair(tmp_path, "tensorrt_rtx")
    engine.close()
    (kept,) = (tmp_path / "cache" / "ferrosight").glob("*.kernels")
    before = kept.read_bytes()
    engine, _ = open_pair(tmp_path, "tensorrt_rtx")
    assert kept.read_bytes() == before
    native, _ = open_pair(tmp_path, "tensorrt")
    native.close()
    assert len(list((tmp_path / "cache" / "ferrosight").iterdir())) == 1


class TestRefusals:
    """What is never opened."""

    @pytest.fixture
    def graph(self, tmp_path: Path) -> GraphSpec:
        graph = write_pair(tmp_path / "pair.onnx")
        make_bundle(tmp_path / "pair.onnx", graph)
        return graph

    def open(self, folder: Path, graph: GraphSpec, device: Device) -> SlottedEngine:
        return open_graph(device, folder / "pair.onnx", graph, EngineSettings(4), choose=find_plan)

    def add(self, folder: Path, graph: GraphSpec) -> Path:
        manifest = manifest_of("model", folder / "pair.onnx", graph, SIZE, 4)
        return add_plan(folder, manifest, folder / "pair.onnx")

    def test_no_plan_names_the_command_that_builds_one(self, tmp_path: Path, graph: GraphSpec) -> None:
        words = rf"found no plan for Software GPU \(8.9\).*Run: ferrosight build {tmp_path} --backend tensorrt_rtx "
        with pytest.raises(EngineError, match=words + "--target 8.9 --batch 1,4"):
            self.open(tmp_path, graph, software_device())

    def test_an_altered_plan_never_reaches_tensorrt(self, tmp_path: Path, graph: GraphSpec) -> None:
        plan = self.add(tmp_path, graph)
        plan.write_bytes(plan.read_bytes() + b"!")
        device = software_device()
        with pytest.raises(BundleError, match=r"\.plan was altered.*It was not opened"):
            self.open(tmp_path, graph, device)
        assert device.trt.deserialised == 0

    def test_a_plan_that_no_spec_names_never_reaches_tensorrt(self, tmp_path: Path, graph: GraphSpec) -> None:
        spec = (tmp_path / "spec.json").read_text()
        self.add(tmp_path, graph)
        (tmp_path / "spec.json").write_text(spec)
        device = software_device()
        with pytest.raises(EngineError, match=r"\.plan: not in spec\.json, so it is never opened"):
            self.open(tmp_path, graph, device)
        assert device.trt.deserialised == 0

    def test_a_plan_without_parity_on_this_gpu_does_not_serve(self, tmp_path: Path, graph: GraphSpec) -> None:
        self.add(tmp_path, graph)
        device = software_device()
        with pytest.raises(EngineError, match=r"parity was not measured on this GPU.*Run: ferrosight parity"):
            open_graph(device, tmp_path / "pair.onnx", graph, EngineSettings(4))
        assert device.trt.deserialised == 0

    def test_a_plan_that_tensorrt_calls_invalid_is_not_opened(self, tmp_path: Path, graph: GraphSpec) -> None:
        self.add(tmp_path, graph)
        device = software_device()
        device.trt.validity = EngineValidity.INVALID
        with pytest.raises(EngineError, match="which TensorRT calls invalid here"):
            self.open(tmp_path, graph, device)
        assert device.trt.deserialised == 0

    def test_a_graph_outside_a_bundle_has_no_plan(self, tmp_path: Path) -> None:
        (tmp_path / "alone").mkdir()
        graph = write_pair(tmp_path / "alone" / "pair.onnx")
        with pytest.raises(BundleError, match="outside a bundle"):
            self.open(tmp_path / "alone", graph, software_device())

    def test_a_refusal_closes_the_device(self, tmp_path: Path, graph: GraphSpec) -> None:
        device = software_device()
        with pytest.raises(EngineError):
            self.open(tmp_path, graph, device)
        with pytest.raises(EngineError, match="found it closed"):
            device.cuda.make_stream()


def _lanes(engine: SlottedEngine) -> Lanes:
    return cast("Lanes", engine._device)
