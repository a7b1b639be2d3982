"""The hot folder through a whole station: what comes into it, and what the station says."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from camera.base import Frame
from runtime.albums.fracture import FractureAlbum
from runtime.errors import ConfigError, EngineError
from runtime.facts import Facts
from runtime.messages import Message, Missed, RunEnded, RunStarted, Scored
from runtime.picture_answers import PictureAnswer, PictureAnswerer
from runtime.sized_engines import SizedEngines
from tests.bundles import make_strip_bundle
from tests.fracture_bundles import make_fracture_bundle
from tests.lines import write_rig
from tests.runtime.triggered.rig import png, rig


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fracture_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


def scored(messages: list[Message]) -> list[str]:
    return [Path(message.source).name for message in messages if isinstance(message, Scored)]


def test_what_lies_there_and_what_comes_is_scored_once_and_known_after_a_restart(tmp_path: Path, bundle: Path) -> None:
    config = write_rig(tmp_path, bundle)
    hot = tmp_path / "hot"
    (hot / "a.png").write_bytes(png(0.1, 1))
    with rig(config) as running:
        assert scored(running.messages(2)) == ["a.png"]
        (hot / "renamed.tmp").write_bytes(png(0.1, 2))
        (hot / "renamed.tmp").rename(hot / "b.png")
        assert scored(running.messages(3)) == ["a.png", "b.png"]
        shutil.copy(hot / "a.png", hot / "copy_of_a.png")
        (hot / "b.png").rename(hot / "c.png")
        (hot / "a.png").write_bytes(png(0.5, 3))  # the same name, another picture
        assert scored(running.messages(4)) == ["a.png", "b.png", "a.png"]
    with rig(config) as running:
        (hot / "d.png").write_bytes(png(0.1, 4))
        messages = running.messages(7)
    assert [message.kind for message in messages[4:]] == ["run_ended", "run_started", "scored"]
    assert scored(messages) == ["a.png", "b.png", "a.png", "d.png"]
    assert all(
        count == 1
        for count in Counter(message.image_digest() for message in messages if message.image_digest()).values()
    )
    ended = messages[4]
    assert isinstance(ended, RunEnded)
    assert ended.reason == "stopped"
    assert ended.coverage.complete
    assert ended.coverage.frames_inspected == 3


def test_a_picture_that_is_written_slowly_is_scored_once_when_it_is_whole(tmp_path: Path, bundle: Path) -> None:
    data = png(0.1, 1)
    with rig(write_rig(tmp_path, bundle)) as running:
        with (running.hot / "a.png").open("wb", buffering=0) as file:
            for first in range(0, len(data), 40):
                file.write(data[first : first + 40])
                time.sleep(0.08)  # longer than it takes for settled, shorter than the patience
        messages = running.messages(2)
        assert scored(messages) == ["a.png"]
        (running.hot / "b.png").write_bytes(png(0.1, 2))
        assert [message.kind for message in running.messages(3)] == ["run_started", "scored", "scored"]


def test_garbage_is_missed_once_its_patience_is_out_and_not_told_again(tmp_path: Path, bundle: Path) -> None:
    config = write_rig(tmp_path, bundle)
    (tmp_path / "hot" / "half.png").write_bytes(png(0.1, 1)[:100])
    (tmp_path / "hot" / "empty.jpg").write_bytes(b"")
    with rig(config) as running:
        missed = running.messages(3)[1:]
    with rig(config) as running:
        (running.hot / "a.png").write_bytes(png(0.1, 2))
        assert [message.kind for message in running.messages(6)[3:]] == ["run_ended", "run_started", "scored"]
        time.sleep(1.2)  # the patience with the two
        (running.hot / "half.png").write_bytes(png(0.1, 1))
        assert scored(running.messages(7)) == ["a.png", "half.png"]
    assert {(Path(m.source).name, m.reason) for m in missed if isinstance(m, Missed)} == {
        ("half.png", "unreadable"),
        ("empty.jpg", "unreadable"),
    }


def test_a_file_that_never_stands_still_is_named(tmp_path: Path, bundle: Path) -> None:
    done = threading.Event()
    data = png(0.1, 1)

    def write() -> None:
        while not done.wait(0.005):
            (tmp_path / "hot" / "a.png").write_bytes(data)

    config = write_rig(tmp_path, bundle)
    # Settled only after a rest that a busy machine does not give the writer by chance.
    config.write_text(config.read_text().replace("settle_s = 0.05", "settle_s = 0.9"))
    with rig(config) as running:
        writer = threading.Thread(target=write)
        writer.start()
        try:
            missed = running.messages(2)[-1]
        finally:
            done.set()
            writer.join()
        assert isinstance(missed, Missed)
        assert (missed.reason, Path(missed.source).name, missed.image_sha256) == ("not_settled", "a.png", None)
        assert scored(running.messages(3)) == ["a.png"]


def test_facts_beside_a_picture_are_waited_for_and_a_want_of_them_can_be_mended(tmp_path: Path, bundle: Path) -> None:
    config = write_rig(tmp_path, bundle, trigger='needs = ["thickness_mm"]\nfacts_wait_s = 1.5\n')
    with rig(config) as running:
        (running.hot / "late.png").write_bytes(png(0.1, 1))
        (running.hot / "late.toml").write_text('specimen = "late"\nthickness_mm = 19.0\n')
        (running.hot / "without.png").write_bytes(png(0.1, 2))
        messages = running.messages(3)
        assert isinstance(messages[1], Scored)
        assert messages[1].facts.specimen == "late"
        assert isinstance(messages[2], Missed)
        assert messages[2].reason == "no_facts"
        (running.hot / "without.toml").write_text("thickness_mm = -19.0\n")
        bad = running.messages(4)[-1]
        assert isinstance(bad, Missed)
        assert (bad.reason, "thickness_mm" in bad.detail) == ("bad_facts", True)
        (running.hot / "without.toml").write_text("thickness_mm = 19.0\n")
        assert scored(running.messages(5)) == ["late.png", "without.png"]


def test_half_a_picture_is_not_told_for_want_of_its_facts(tmp_path: Path, bundle: Path) -> None:
    with rig(write_rig(tmp_path, bundle, trigger='needs = ["thickness_mm"]\n')) as running:
        (running.hot / "half.png").write_bytes(png(0.1, 1)[:100])
        missed = running.messages(2)[-1]
    assert isinstance(missed, Missed)
    assert missed.reason == "unreadable"


def test_engines_for_the_sizes_to_expect_are_opened_before_the_station_is_ready(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[int, int]] = []
    whole = SizedEngines.open
    monkeypatch.setattr(SizedEngines, "open", lambda engines, size: (opened.append(size), whole(engines, size))[1])
    with rig(write_rig(tmp_path, bundle, trigger="sizes_px = [[64, 96], [40, 40]]\n")):
        assert opened == [(64, 96), (40, 40)]


def test_a_hot_folder_that_goes_away_is_waited_for(
    tmp_path: Path, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with rig(write_rig(tmp_path, bundle)) as running, running.client() as client:
        running.messages(1)
        running.hot.rename(tmp_path / "elsewhere")
        time.sleep(0.3)
        assert client.score(png(0.1, 1)).message.kind == "scored", "requests go on"
        (tmp_path / "elsewhere").rename(running.hot)
        (running.hot / "b.png").write_bytes(png(0.1, 2))
        assert scored(running.messages(3)) == ["", "b.png"]
    assert len([record for record in caplog.records if "is gone" in record.message]) == 1


def test_a_model_that_fails_again_and_again_ends_the_run_with_every_picture_named(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: SizedEngines, shape: tuple[int, int]) -> object:
        raise EngineError("engine: found no device, expected one. Look at its cable.")

    monkeypatch.setattr(SizedEngines, "open", broken)
    config = write_rig(tmp_path, bundle, station="engine_failures = 2\n")
    for seed in range(3):
        (tmp_path / "hot" / f"{seed}.png").write_bytes(png(0.1, seed))
    messages: list[Message] = []
    with pytest.raises(EngineError, match="2 pictures failed in a row"), rig(config) as running:
        messages = running.messages(4)
    assert [message.kind for message in messages] == ["run_started", "missed", "missed", "run_ended"]
    ended = messages[-1]
    assert isinstance(ended, RunEnded)
    assert ended.reason == "failed"
    assert ended.coverage.complete
    monkeypatch.undo()
    with rig(config) as running:
        assert scored(running.messages(8)) == ["0.png", "1.png", "2.png"], "the next start tries them again"


@pytest.mark.parametrize(
    ("limit", "reason", "text"),
    [
        ("max_pixels = 5000", "wrong_size", "found 64x96 pixels (rows x columns), expected at most 5000 in all"),
        ("min_side_px = 65", "wrong_size", "expected at least 65 of each"),
        ("max_bytes = 1024", "unreadable", "expected at most 1024. Compress it"),
    ],
)
def test_a_picture_beyond_the_limits_is_missed(
    tmp_path: Path, bundle: Path, limit: str, reason: str, text: str
) -> None:
    with rig(write_rig(tmp_path, bundle, trigger=f"{limit}\n")) as running:
        (running.hot / "a.png").write_bytes(png(0.1, 1) + bytes(1024))
        missed = running.messages(2)[-1]
    assert isinstance(missed, Missed)
    assert missed.reason == reason
    assert text in missed.detail


def test_a_head_that_stumbles_over_a_picture_does_not_stop_the_station(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PictureAnswerer.answer

    def stumbles(answerer: PictureAnswerer, frame: Frame, raw: Any, facts: Facts | None = None) -> PictureAnswer:
        if frame.source.endswith("odd.png"):
            raise ZeroDivisionError("no steel in sight")
        return whole(answerer, frame, raw, facts)

    monkeypatch.setattr(PictureAnswerer, "answer", stumbles)
    with rig(write_rig(tmp_path, bundle)) as running:
        (running.hot / "odd.png").write_bytes(png(0.1, 1))
        (running.hot / "plain.png").write_bytes(png(0.1, 2))
        odd, plain = running.messages(3)[1:]
    assert isinstance(odd, Missed)
    assert (odd.reason, "ZeroDivisionError: no steel in sight" in odd.detail) == ("engine_failed", True)
    assert plain.kind == "scored"


def test_an_album_that_cannot_be_drawn_does_not_stop_the_station(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise ValueError("no ink")

    monkeypatch.setattr(FractureAlbum, "add", breaks)
    with rig(write_rig(tmp_path, bundle, trigger='album = "album"\n')) as running:
        for seed in range(3):
            (running.hot / f"{seed}.png").write_bytes(png(0.1, seed))
            assert len(scored(running.messages(seed + 2))) == seed + 1


def test_a_bundle_of_frames_and_a_folder_that_is_not_there_are_refused(tmp_path: Path, bundle: Path) -> None:
    strip = make_strip_bundle(tmp_path / "strip")
    with pytest.raises(ConfigError, match="expected one that scores single pictures"), rig(write_rig(tmp_path, strip)):
        pass
    config = write_rig(tmp_path, bundle)
    (tmp_path / "hot").rmdir()
    with pytest.raises(ConfigError, match=r"found no hot folder .*hot"), rig(config):
        pass


def test_a_run_begins_with_the_model_and_the_trigger(tmp_path: Path, bundle: Path) -> None:
    with rig(write_rig(tmp_path, bundle)) as running:
        (started,) = running.messages(1)
    assert isinstance(started, RunStarted)
    assert (started.camera, started.model.bundle, started.run) == ("trigger", "tiny-fracture", "heat-1")


def test_surfaces_of_tests_differ() -> None:
    assert len({png(0.1, seed) for seed in range(300)}) == 300
