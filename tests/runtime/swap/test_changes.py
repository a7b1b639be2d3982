"""The thread beside the loop: real sockets and threads, and engines of the software GPU, which know their owner."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from runtime.engine import EngineSettings
from runtime.errors import BundleError, EngineError
from runtime.messages import Message, ModelIdentity, Swapped, SwapRefused, utc_text
from runtime.serving import Serving
from runtime.single import SinglePipeline
from runtime.spec import SPEC_FILE, GraphSpec
from runtime.swap.changes import Changes
from runtime.swap.preparation import Successor
from runtime.triggered.client import RequestClient, RequestRefusedError
from runtime.triggered.request_socket import RequestSocket
from runtime.triggered.requests import HEADER_BYTES
from tests.runtime.backends.graphs import write_pair
from tests.runtime.delivery.wire import EPOCH
from tests.software_cuda import SoftwareCuda
from tests.software_plans import open_software, software_device

OLD = ModelIdentity(bundle="old", digest="0" * 64, backend="tensorrt", precision="fp32")
SIZE = (6, 8)


@dataclass
class Follower:
    """An answerer that says whom it followed."""

    after: list[Any] = field(default_factory=list)

    def follow(self, before: Any) -> None:
        self.after.append(before)


@dataclass
class Shop:
    """A station of nothing but changes: its loop runs in the thread of the test."""

    folder: Path
    graph: GraphSpec
    changes: Changes[SinglePipeline]
    serving: Serving[SinglePipeline]
    ring: np.ndarray
    reload: threading.Event
    published: list[Message] = field(default_factory=list)

    def turn(self) -> bool:
        """What the loop does between two batches; gives whether there was a change."""
        offer = self.changes.due()
        if offer is None:
            return False
        self.serving = offer.take(self.serving)
        envelope = {
            "line": "l", "station": "top", "run": "r", "sequence": len(self.published), "captured_at": utc_text(EPOCH)
        }  # fmt: skip
        message = offer.message(envelope, 5)
        self.published.append(message)
        offer.done(message)
        return True

    def until_changed(self) -> Message:
        while not self.turn():
            time.sleep(0.005)
        return self.published[-1]

    def inspects(self) -> bool:
        """Whether what serves computes right, in this thread, from the ring."""
        pipeline, frames = self.serving.engines, self.ring[:3]
        pending = pipeline.start(frames)
        found = pipeline.finish(pending)
        right = all(np.array_equal(each["inverted"], 255 - frame) for each, frame in zip(found, frames, strict=True))
        pipeline.release(pending)
        return right


def open_serving(folder: Path, graph: GraphSpec) -> tuple[Serving[SinglePipeline], SoftwareCuda]:
    device = software_device("tensorrt")
    engine = open_software("tensorrt", folder / "pair.onnx", graph, EngineSettings(4, slots=2), device)
    assert isinstance(device.cuda, SoftwareCuda)
    return Serving(SinglePipeline(engine), Follower()), device.cuda  # type: ignore[arg-type]


MakeReady = Callable[[Path, GraphSpec], Successor[SinglePipeline]]


def make_pair(path: Path, graph: GraphSpec) -> Successor[SinglePipeline]:
    serving, _ = open_serving(path, graph)
    return Successor(OLD.model_copy(update={"bundle": path.name, "digest": "1" * 64}), serving)


@contextlib.contextmanager
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: MakeReady = make_pair) -> Iterator[Shop]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("old", "new"):
        (tmp_path / "bundles" / name).mkdir(parents=True)
        graph = write_pair(tmp_path / "bundles" / name / "pair.onnx")
    folder, reload = tmp_path / "bundles", threading.Event()
    serving, _ = open_serving(folder / "old", graph)
    ring = np.arange(8 * 48, dtype=np.uint8).reshape(8, 1, *SIZE)
    serving.engines.register(ring)
    with zmq.Context() as context:
        requests = RequestSocket("tcp://127.0.0.1:*", HEADER_BYTES, context=context)
        changes = Changes(
            "top",
            OLD,
            lambda path: make(path, graph),
            lambda engines: engines.register(ring),
            bundle=folder / "new",
            folder=folder,
            requests=requests,
            reload=reload,
        )
        opened = Shop(folder, graph, changes, serving, ring, reload)
        try:
            yield opened
        finally:
            changes.close()
            opened.serving.engines.close()


@contextlib.contextmanager
def asked(opened: Shop, bundle: str = "new", station: str = "top") -> Iterator[list[Any]]:
    """Ask in a thread; the list has the answer, or the error, after the block."""
    got: list[Any] = []

    def ask() -> None:
        with RequestClient(opened.changes.endpoint, station, timeout_s=30) as client:
            try:
                got.append(client.swap(bundle, "M. Hadfield", "why not"))
            except RequestRefusedError as error:
                got.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield got
    finally:
        thread.join(60)


def test_a_bundle_changes_hands_and_the_old_one_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop(tmp_path, monkeypatch) as opened:
        old = opened.serving
        assert opened.inspects()
        with asked(opened) as got:
            message = opened.until_changed()
        assert opened.inspects()
        assert isinstance(message, Swapped)
        assert (message.before, message.model.digest, message.next_index) == (OLD, "1" * 64, 5)
        assert (message.name, message.reason) == ("M. Hadfield", "why not")
        assert got[0].message == message
        assert not got[0].known
        assert opened.serving.answerer.after == [old.answerer]  # type: ignore[attr-defined]
        with pytest.raises(EngineError, match="found it closed"):
            old.engines.start(opened.ring[:1])


def test_who_asks_for_what_serves_gets_the_message_that_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop(tmp_path, monkeypatch) as opened:
        (opened.folder / "new" / SPEC_FILE).unlink(missing_ok=True)
        with asked(opened):
            message = opened.until_changed()
        monkeypatch.setattr("runtime.swap.changes.digest_of", lambda _: "1" * 64)
        with asked(opened) as got:
            pass
        assert (got[0].message, got[0].known) == (message, True)
        assert len(opened.published) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (BundleError("bundle b: gate is missing. Copy it."), "bundle b: gate is missing"),
        (EngineError("CUDA: cuMemAlloc found CUDA_ERROR_OUT_OF_MEMORY"), "CUDA_ERROR_OUT_OF_MEMORY"),
        (MemoryError("Unable to allocate 3 GiB"), "there is no memory for it beside the one that serves"),
        (OSError("the disk went away"), "the disk went away"),
        (KeyError("surprise"), "KeyError: 'surprise'. Report it"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_goes_wrong_the_old_bundle_serves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, words: str
) -> None:
    def fail(path: Path, graph: GraphSpec) -> Successor[SinglePipeline]:
        raise fault

    with shop(tmp_path, monkeypatch, fail) as opened:
        before = opened.serving
        with asked(opened) as got:
            message = opened.until_changed()
        assert isinstance(message, SwapRefused)
        assert words in message.detail
        assert message.model == OLD
        assert got[0].message == message
        assert opened.serving is before
        assert opened.inspects()


def test_engines_that_cannot_be_handed_over_leave_the_old_ones_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise EngineError("CUDA: cuCtxSetCurrent found CUDA_ERROR_UNKNOWN")

    def make(path: Path, graph: GraphSpec) -> Successor[SinglePipeline]:
        ready = make_pair(path, graph)
        ready.serving.engines.take_over = lost
        return ready

    with shop(tmp_path, monkeypatch, make) as opened:
        before = opened.serving
        with asked(opened):
            message = opened.until_changed()
        assert isinstance(message, SwapRefused)
        assert "could not be handed over: CUDA: cuCtxSetCurrent" in message.detail
        assert opened.serving is before
        assert opened.inspects()


def test_a_reload_opens_the_stations_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop(tmp_path, monkeypatch) as opened:
        opened.reload.set()
        message = opened.until_changed()
        assert isinstance(message, Swapped)
        assert message.name == "SIGHUP"
        assert opened.inspects()


@pytest.mark.parametrize(
    ("bundle", "station", "reason"),
    [("../elsewhere", "top", "bad_request"), ("/etc", "top", "bad_request"), ("new", "bottom", "unknown_station")],
)
def test_what_is_not_to_be_asked_is_refused_and_nothing_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: str, station: str, reason: str
) -> None:
    def never(path: Path, graph: GraphSpec) -> Successor[SinglePipeline]:
        raise AssertionError(path)

    with shop(tmp_path, monkeypatch, never) as opened, asked(opened, bundle, station) as got:
        pass
    assert got[0].reason == reason
    assert not opened.published


def test_a_station_that_stops_closes_what_it_made_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = threading.Event()
    made: list[Successor[SinglePipeline]] = []

    def make(path: Path, graph: GraphSpec) -> Successor[SinglePipeline]:
        made.append(make_pair(path, graph))
        ready.set()
        return made[0]

    with shop(tmp_path, monkeypatch, make) as opened, asked(opened) as got:
        assert ready.wait(60)
        opened.changes.close()
    assert got[0].reason == "unavailable"
    with pytest.raises(EngineError, match="found it closed"):
        made[0].serving.engines.start(opened.ring[:1])
