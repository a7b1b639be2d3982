from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends import BACKENDS, CPU_BACKENDS
from runtime.bundle import open_bundle
from runtime.cascade import Cascade
from runtime.engine import Engine, EngineSettings, Ticket
from runtime.errors import BundleError, EngineError
from runtime.heads import head_of
from tests.bundles import make_strip_bundle, plain_frames, segmenter_reference

HEIGHT, WIDTH = 16, 32
SETTINGS = EngineSettings(max_batch=4, slots=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_strip_bundle(tmp_path_factory.mktemp("bundle"), HEIGHT, WIDTH)


@pytest.fixture(params=sorted(CPU_BACKENDS))
def cascade(request: pytest.FixtureRequest, folder: Path) -> Iterator[Cascade]:
    if not BACKENDS[request.param].installed:
        pytest.skip(f"{BACKENDS[request.param].library} is not installed")
    with open_cascade(folder, request.param) as opened:
        yield opened


def open_cascade(folder: Path, backend: str = "openvino", settings: EngineSettings = SETTINGS) -> Any:
    bundle = open_bundle(folder)
    return head_of(bundle.spec.task).open_pipeline(bundle, backend, settings)


def frames_with(defective: str, seed: int = 0) -> np.ndarray:
    """One frame a character; `x` has a defect of a place and class of its own."""
    frames = plain_frames(len(defective), HEIGHT, WIDTH, seed)
    for number, mark in enumerate(defective):
        if mark == "x":
            frames[number, 0, number + 2 : number + 6, 3 : 9 + number] = (180, 200, 220, 240)[(number + seed) % 4]
    return frames


def run(cascade: Cascade, frames: np.ndarray) -> list[tuple[float, np.ndarray | None]]:
    pending = cascade.start(frames)
    cascade.advance(pending)
    raw = [
        (o.gate_probability, None if o.class_probability is None else o.class_probability.copy())
        for o in cascade.finish(pending)
    ]
    cascade.release(pending)
    return raw


def check(raw: list[tuple[float, np.ndarray | None]], frames: np.ndarray, defective: str) -> None:
    expected = segmenter_reference(frames)
    assert len(raw) == len(defective)
    for number, (mark, (probability, planes)) in enumerate(zip(defective, raw, strict=True)):
        assert (probability >= 0.5) == (mark == "x")
        assert (planes is not None) == (mark == "x")
        if planes is not None:
            assert np.array_equal(planes, expected[number])


@pytest.mark.parametrize("defective", [".", "x", "..", "xx", ".x", "x.x.", "xxxx", "....", ".xxx"])
def test_the_segmenter_sees_the_frames_that_pass_the_gate(cascade: Cascade, defective: str) -> None:
    frames = frames_with(defective)
    check(run(cascade, frames), frames, defective)


def test_batches_overlap(cascade: Cascade) -> None:
    """The gate runs batch k + 1 while batch k is segmented and batch k - 1 is held."""
    plan = ["x.x.", "....", ".xx.", "xxxx", "x", ".x"]
    batches = [frames_with(defective, seed=number) for number, defective in enumerate(plan)]
    waiting: list[tuple[int, Any]] = []
    for number, frames in enumerate(batches):
        waiting.append((number, cascade.start(frames)))
        if len(waiting) > 1:
            cascade.advance(waiting[-2][1])
        if len(waiting) > 2:
            _settle(cascade, *waiting.pop(0), batches, plan)
    cascade.advance(waiting[-1][1])
    while waiting:
        _settle(cascade, *waiting.pop(0), batches, plan)


def _settle(cascade: Cascade, number: int, pending: Any, batches: list[np.ndarray], plan: list[str]) -> None:
    raw = cascade.finish(pending)
    check([(o.gate_probability, o.class_probability) for o in raw], batches[number], plan[number])
    cascade.release(pending)


def test_results_do_not_depend_on_the_batch(cascade: Cascade) -> None:
    frames = frames_with("x.xx")
    together = run(cascade, frames)
    for number in range(4):
        ((probability, planes),) = run(cascade, frames[number : number + 1])
        assert probability == together[number][0]
        assert np.array_equal(planes, together[number][1])


def test_done_says_that_nothing_is_to_be_waited_for(cascade: Cascade) -> None:
    clean, defective = cascade.start(frames_with("..")), cascade.start(frames_with(".x"))
    assert not clean.done
    cascade.advance(clean)
    cascade.advance(defective)
    assert clean.done
    assert not defective.done


def test_frames_that_do_not_fit_hold_nothing(cascade: Cascade) -> None:
    for _ in range(5):
        with pytest.raises(EngineError, match=r"expected C-contiguous uint8 \(n, 1, 16, 32\)"):
            cascade.start(np.zeros((1, 1, HEIGHT, WIDTH - 1), np.uint8))
    frames = frames_with("x")
    check(run(cascade, frames), frames, "x")


def test_a_full_segmenter_is_an_error_that_frees_the_batch(cascade: Cascade) -> None:
    held = []
    for _ in range(2):
        held.append(cascade.start(frames_with("x.")))
        cascade.advance(held[-1])
    for _ in range(3):
        extra = cascade.start(frames_with("x."))
        with pytest.raises(EngineError, match="all 2 slots taken"):
            cascade.advance(extra)
    for pending in held:
        cascade.finish(pending)
        cascade.release(pending)
    frames = frames_with("x.x.")
    check(run(cascade, frames), frames, "x.x.")


def test_stages_out_of_order_are_a_fault_of_the_program(cascade: Cascade) -> None:
    pending = cascade.start(frames_with("x"))
    with pytest.raises(RuntimeError, match="has not been through 'advance'"):
        cascade.finish(pending)
    cascade.advance(pending)
    with pytest.raises(RuntimeError, match="has not been through 'start'"):
        cascade.advance(pending)


def test_the_soft_gate_segments_what_could_count(tmp_path: Path) -> None:
    """A pixel of 165 levels makes the gate say 0.5, where c = 5 triples a threshold of 0.3."""
    soft = {"gate_mode": "soft", "pixel_thresholds": (0.3,) * 4}
    folder = make_strip_bundle(tmp_path, HEIGHT, WIDTH, settings=soft)
    frames = plain_frames(3, HEIGHT, WIDTH)
    frames[1, 0, 4, 4], frames[2, 0, 4, 4] = 165, 200
    with open_cascade(folder) as cascade:
        raw = run(cascade, frames)
    assert [planes is not None for _, planes in raw] == [False, True, True]


class FaultyEngine:
    """A real engine that fails when told to, as a device does that drops out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.fail_submit = self.fail_collect = False
        self.probability: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, frames: np.ndarray) -> Ticket:
        if self.fail_submit:
            raise EngineError("device lost")
        return self._engine.submit(frames)

    def collect(self, ticket: Ticket) -> Mapping[str, np.ndarray]:
        outputs = self._engine.collect(ticket)
        if self.fail_collect:
            self._engine.release(ticket)
            raise EngineError("device lost")
        if self.probability is not None:
            outputs["defect_probability"][:] = self.probability
        return outputs


@pytest.fixture
def faulty(folder: Path) -> Iterator[tuple[Cascade, FaultyEngine, FaultyEngine]]:
    with open_cascade(folder) as cascade:
        gate, segmenter = FaultyEngine(cascade._gate), FaultyEngine(cascade._segmenter)
        yield Cascade(gate, segmenter, cascade._wanted), gate, segmenter


@pytest.mark.parametrize("where", ["gate submit", "gate collect", "segmenter submit", "segmenter collect"])
@pytest.mark.parametrize("defective", ["x.x.", "xxxx"])
def test_a_failure_anywhere_frees_the_batch(
    faulty: tuple[Cascade, FaultyEngine, FaultyEngine], where: str, defective: str
) -> None:
    cascade, gate, segmenter = faulty
    role, stage = where.split()
    engine = gate if role == "gate" else segmenter
    for _ in range(4):
        setattr(engine, f"fail_{stage}", True)
        with pytest.raises(EngineError, match="device lost"):
            run(cascade, frames_with(defective))
        setattr(engine, f"fail_{stage}", False)
    held = [cascade.start(frames_with(defective)) for _ in range(2)]
    for pending in held:
        cascade.advance(pending)
        cascade.finish(pending)


@pytest.mark.parametrize("figure", [float("nan"), 1.5, -0.1])
def test_a_gate_that_gives_no_probability_is_never_taken_for_clean(
    faulty: tuple[Cascade, FaultyEngine, FaultyEngine], figure: float
) -> None:
    cascade, gate, _ = faulty
    gate.probability = figure
    pending = cascade.start(frames_with("x"))
    with pytest.raises(EngineError, match="expected 0 to 1"):
        cascade.advance(pending)
    gate.probability = None
    run(cascade, frames_with("x"))


def test_closing_twice_is_quiet(folder: Path) -> None:
    cascade = open_cascade(folder)
    cascade.start(frames_with("x"))
    cascade.close()
    cascade.close()


def test_a_precision_that_the_bundle_lacks_is_refused(folder: Path) -> None:
    bundle = open_bundle(folder)
    with pytest.raises(BundleError, match="no fp32 file of graph 'gate'"):
        head_of("strip").open_pipeline(bundle, "openvino", SETTINGS, "fp32")


def test_an_unknown_backend_is_refused(folder: Path) -> None:
    with pytest.raises(EngineError, match="no such backend"):
        open_cascade(folder, "abacus")
