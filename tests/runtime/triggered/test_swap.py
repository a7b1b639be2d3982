"""The bundle of a triggered station changed while it runs: real sockets, threads and engines, and failing bundles."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq.auth

from runtime.bundle import GOLDEN_FILE, open_bundle
from runtime.delivery.journal_reader import JournalReader
from runtime.delivery.sockets import CurveClient
from runtime.errors import EngineError, WireError
from runtime.messages import Message, Missed, RunStarted, Scored, Swapped, SwapRefused
from runtime.sized_engines import SizedEngines
from runtime.swap.changes import Changes
from runtime.swap.preparation import Successor, make_ready
from runtime.triggered.client import Answer, RequestClient, RequestRefusedError
from tests.bundles import seal
from tests.fracture_bundles import make_fracture_bundle
from tests.lines import write_rig
from tests.runtime.triggered.rig import Rig, png, rig

MAKE_READY = "runtime.triggered.station.make_ready"
SWAP = '[stations.swap]\nendpoint = "tcp://127.0.0.1:*"\n'
SIZE_PX = (64, 96)
"""Of every picture here but one."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good bundles, one for pictures of one size, and bad ones."""
    folder = tmp_path_factory.mktemp("bundles")
    for name in ("first", "second", "third"):
        make_fracture_bundle(folder / name, name=name)
    make_fracture_bundle(folder / "fixed", name="fixed", size_px=SIZE_PX)
    altered = shutil.copytree(folder / "second", folder / "altered")
    with (altered / "model.fp32.onnx").open("ab") as graph:
        graph.write(b"\0")
    seal(shutil.copytree(folder / "second", folder / "another-task"), task="grain")
    disagreeing = shutil.copytree(folder / "second", folder / "disagreeing")
    with np.load(disagreeing / GOLDEN_FILE) as arrays:
        kept: dict[str, Any] = dict(arrays)
    kept["model.brittle_ratio"] = 1 - kept["model.brittle_ratio"]
    np.savez(disagreeing / GOLDEN_FILE, **kept)
    seal(disagreeing)
    return folder


def write_swapping(folder: Path, bundle: Path, **tables: Any) -> Path:
    config = write_rig(folder, bundle, **tables)
    config.write_text(config.read_text() + SWAP)
    return config


def ask(running: Rig, bundle: str) -> Answer:
    with RequestClient(running.swap, "rig", timeout_s=60) as client:
        return client.swap(bundle, "M. Hadfield", "trained on the new grade")


def scores(messages: list[Message]) -> list[Scored]:
    return [message for message in messages if isinstance(message, Scored)]


def test_scores_name_the_bundle_that_gave_them_and_a_score_is_kept(tmp_path: Path, bundles: Path) -> None:
    digests = {name: open_bundle(bundles / name).digest for name in ("first", "second")}
    config = write_swapping(tmp_path, bundles / "first")
    with rig(config) as running, running.client() as client:
        before = client.score(png(0.1, 1))
        answer = ask(running, "second")
        assert isinstance(answer.message, Swapped)
        assert not answer.known
        after = client.score(png(0.1, 2))
        assert client.score(png(0.1, 1)) == Answer(before.message, known=True), "it is scored once"
        assert ask(running, "second") == Answer(answer.message, known=True), "it serves already"
        messages = running.messages(4)
    assert messages[1:] == [before.message, answer.message, after.message]
    assert [each.model.digest for each in scores(messages)] == [digests["first"], digests["second"]]
    assert [each.frame_index for each in scores(messages)] == [0, 1]
    swapped = answer.message
    assert (swapped.before.digest, swapped.model.digest) == (digests["first"], digests["second"])
    assert (swapped.next_index, swapped.name, swapped.reason) == (1, "M. Hadfield", "trained on the new grade")
    with rig(config) as running, running.client() as client:
        assert client.score(png(0.1, 2)) == Answer(after.message, known=True), "and by no bundle after it"


def test_a_reload_opens_the_stations_own_folder(tmp_path: Path) -> None:
    own = make_fracture_bundle(tmp_path / "bundles" / "own", name="old")
    with rig(write_swapping(tmp_path, own)) as running, running.client() as client:
        make_fracture_bundle(own, name="new")
        running.reload.set()
        swapped = running.messages(2)[-1]
        assert isinstance(swapped, Swapped)
        assert (swapped.name, swapped.next_index, swapped.model.bundle) == ("SIGHUP", None, "new")
        scored = client.score(png(0.1, 1)).message
    assert isinstance(scored, Scored)
    assert scored.model == swapped.model


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("altered", "model.fp32.onnx was altered"),
        ("another-task", "found one of the task 'grain', expected 'fracture'"),
        ("disagreeing", "found ratio_points"),
        ("fixed", "found one for pictures of 64x96, expected one that takes 40x40, as the station does"),
        ("absent", "found no readable spec.json"),
    ],
)
def test_whatever_is_wrong_with_a_bundle_the_old_one_scores_on(
    tmp_path: Path, bundles: Path, name: str, words: str
) -> None:
    config = write_swapping(tmp_path, bundles / "first", trigger="sizes_px = [[40, 40]]\n")
    with rig(config) as running, running.client() as client:
        client.score(png(0.1, 1))
        answer = ask(running, name)
        client.score(png(0.1, 2))
        messages = running.messages(4)
    refused = answer.message
    assert isinstance(refused, SwapRefused)
    assert words in refused.detail
    assert (refused.model.bundle, refused.bundle) == ("first", str(bundles / name))
    assert [message.kind for message in messages] == ["run_started", "scored", "swap_refused", "scored"]
    assert {each.model.bundle for each in scores(messages)} == {"first"}


def test_what_lies_elsewhere_is_not_opened(tmp_path: Path, bundles: Path) -> None:
    with rig(write_swapping(tmp_path, bundles / "first")) as running:
        with pytest.raises(RequestRefusedError, match="expected one in") as caught:
            ask(running, "../elsewhere")
        assert caught.value.reason == "bad_request"


def test_a_station_without_the_table_takes_no_bundle(tmp_path: Path, bundles: Path) -> None:
    with rig(write_rig(tmp_path, bundles / "first")) as running:
        assert running.swap == ""


def test_a_bundle_is_asked_for_in_cipher_where_the_station_encrypts(tmp_path: Path, bundles: Path) -> None:
    keys = tmp_path / "keys"
    (keys / "admitted").mkdir(parents=True)
    for name in ("station", "operator"):
        zmq.auth.create_certificates(keys, name)
    shutil.copy(keys / "operator.key", keys / "admitted")
    config = write_swapping(tmp_path, bundles / "first", hot_folder=False)
    curve = (
        '[stations.wire.curve]\nserver_secret_key = "keys/station.key_secret"\nclient_public_keys = "keys/admitted"\n'
    )
    config.write_text(config.read_text() + curve)
    with rig(config) as running:
        with (
            RequestClient(running.swap, "rig", timeout_s=0.2) as client,
            pytest.raises(WireError, match="found no answer"),
        ):
            client.swap("second", "a stranger")
        admitted = CurveClient(keys / "station.key", keys / "operator.key_secret")
        with RequestClient(running.swap, "rig", timeout_s=60, curve=admitted) as client:
            assert client.swap("second", "M. Hadfield").message.kind == "swapped"


@contextlib.contextmanager
def preparing(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Successor[SizedEngines]] = make_ready
) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Preparations say that they have begun, and end once they may."""
    begun, may_end = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Successor[SizedEngines]:
        begun.set()
        assert may_end.wait(60)
        return make(*arguments)

    monkeypatch.setattr(MAKE_READY, slow)
    try:
        yield begun, may_end
    finally:
        may_end.set()


def test_pictures_are_scored_while_one_is_prepared_and_the_next_waits_its_turn(
    tmp_path: Path, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ThreadPoolExecutor(2) as pool,
        rig(write_swapping(tmp_path, bundles / "first")) as running,
        running.client() as client,
        preparing(monkeypatch) as (begun, may_end),
    ):
        second = pool.submit(ask, running, "second")
        assert begun.wait(60)
        third = pool.submit(ask, running, "third")
        meanwhile = client.score(png(0.1, 1)).message
        may_end.set()
        changes = [second.result(60).message, third.result(60).message]
        after = client.score(png(0.1, 2)).message
        assert running.messages(5)[1:] == [meanwhile, *changes, after]
    assert isinstance(meanwhile, Scored)
    assert isinstance(after, Scored)
    assert (meanwhile.model.bundle, after.model.bundle) == ("first", "third")
    assert [(each.before.bundle, each.model.bundle) for each in changes if isinstance(each, Swapped)] == [
        ("first", "second"),
        ("second", "third"),
    ]


def test_a_station_that_stops_closes_what_it_was_preparing(
    tmp_path: Path, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Successor[SizedEngines]] = []
    whole = Changes.close

    def note(*arguments: Any) -> Successor[SizedEngines]:
        made.append(make_ready(*arguments))
        made[-1].serving.engines.open(SIZE_PX)
        return made[-1]

    with ThreadPoolExecutor(1) as pool, preparing(monkeypatch, note) as (begun, may_end):
        monkeypatch.setattr(Changes, "close", lambda changes: (may_end.set(), whole(changes))[1])
        with rig(write_swapping(tmp_path, bundles / "first")) as running:
            asking = pool.submit(ask, running, "second")
            assert begun.wait(60)
        with pytest.raises(RequestRefusedError, match="stopping") as caught:
            asking.result(60)
    assert caught.value.reason == "unavailable"
    assert made[0].serving.engines.sizes_px == ()
    with JournalReader(tmp_path / "journal.sqlite") as reader:
        assert [record.kind for record in reader.read("rig", 0, 100)] == ["run_started", "run_ended"]


def test_engines_that_cannot_be_handed_over_leave_the_old_ones_at_work(
    tmp_path: Path, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise EngineError("CUDA: cuCtxSetCurrent found CUDA_ERROR_UNKNOWN")

    def make(*arguments: Any) -> Successor[Any]:
        ready = make_ready(*arguments)
        ready.serving.engines.take_over = lost
        return ready

    monkeypatch.setattr(MAKE_READY, make)
    with rig(write_swapping(tmp_path, bundles / "first")) as running, running.client() as client:
        client.score(png(0.1, 1))
        refused = ask(running, "second").message
        assert isinstance(refused, SwapRefused)
        assert "could not be handed over: CUDA: cuCtxSetCurrent" in refused.detail
        scored = client.score(png(0.1, 2)).message
    assert isinstance(scored, Scored)
    assert scored.model.bundle == "first"


def test_the_new_bundle_is_open_for_the_sizes_that_come(
    tmp_path: Path, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, tuple[int, int]]] = []
    whole: Callable[[SizedEngines, tuple[int, int]], Any] = SizedEngines.open

    def note(engines: SizedEngines, size: tuple[int, int]) -> Any:
        if size not in engines.sizes_px:
            opened.append((threading.current_thread().name, size))
        return whole(engines, size)

    monkeypatch.setattr(SizedEngines, "open", note)
    config = write_swapping(tmp_path, bundles / "first", trigger="sizes_px = [[40, 40]]\n")
    with rig(config) as running, running.client() as client:
        client.score(png(0.1, 1))
        opened.clear()
        assert ask(running, "second").message.kind == "swapped"
        assert client.score(png(0.1, 2)).message.kind == "scored"
    assert opened == [("swap", (40, 40)), ("swap", SIZE_PX)]


def test_what_the_old_bundle_could_not_score_the_new_one_does(tmp_path: Path, bundles: Path) -> None:
    with rig(write_swapping(tmp_path, bundles / "fixed")) as running:
        (running.hot / "small.png").write_bytes(png(0.1, 1, (40, 40)))
        (running.hot / "plain.png").write_bytes(png(0.1, 2))
        running.messages(3)
        ask(running, "first")
        messages = running.messages(5)
    assert [message.kind for message in messages[3:]] == ["swapped", "scored"]
    missed = next(message for message in messages if isinstance(message, Missed))
    scored = messages[-1]
    assert isinstance(scored, Scored)
    assert (missed.reason, Path(missed.source).name) == ("wrong_size", "small.png")
    assert (scored.image_sha256, scored.model.bundle) == (missed.image_sha256, "first")


def test_changes_while_pictures_come_lose_none_and_score_none_twice(tmp_path: Path, bundles: Path) -> None:
    config, plan, done = write_swapping(tmp_path, bundles / "first"), ["second", "disagreeing", "third", "first"], 0
    with rig(config) as running:
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(lambda: [ask(running, name).message for name in plan])
            while not asking.done() or done < 20:
                (running.hot / f"{done}.png").write_bytes(png(0.1, done))
                with running.client() as client:
                    client.score(png(0.2, done // 2))
                done += 1
            changes = asking.result()
        asked = (done + 1) // 2
        messages = running.messages(1 + len(plan) + done + asked)
    assert [message.sequence for message in messages] == list(range(len(messages)))
    assert [message for message in messages if isinstance(message, Swapped | SwapRefused)] == changes
    assert [message.kind for message in changes] == ["swapped", "swap_refused", "swapped", "swapped"]
    digests = [each.image_sha256 for each in scores(messages)]
    assert len(digests) == len(set(digests)) == done + asked
    started = messages[0]
    assert isinstance(started, RunStarted)
    serving, due = started.model, 0
    for message in messages:
        if isinstance(message, Swapped):
            assert (message.before, message.next_index) == (serving, due or None)
            serving = message.model
        elif isinstance(message, Scored):
            assert (message.model, message.frame_index) == (serving, due)
            due += 1
