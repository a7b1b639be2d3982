from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera.base import CameraError
from runtime.triggered.hot_folder import Due, HotFolder, Look
from runtime.triggered.settings import HotFolderSettings

S = 1_000_000_000
SETTLE_S, PATIENCE_S = 2.0, 10.0


def open_folder(path: Path, facts_wait_s: float = 0.0, pattern: str = "*") -> HotFolder:
    settings = HotFolderSettings(path=path, settle_s=SETTLE_S, patience_s=PATIENCE_S, pattern=pattern)
    return HotFolder(settings, facts_wait_s)


def names(due: list[Due]) -> list[str]:
    return [item.path.name for item in due]


def test_a_picture_is_due_once_it_stood_still_and_until_it_is_answered(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    (tmp_path / "a.png").write_bytes(b"a")
    assert folder.due(0) == []
    assert folder.due(1 * S) == []
    (due,) = folder.due(2 * S)
    assert (due.path.name, due.settled, due.last) == ("a.png", True, False)
    assert folder.due(3 * S) == [due], "nobody answered it yet"
    folder.answered(due)
    assert folder.due(4 * S) == folder.due(100 * S) == []


def test_what_could_not_be_scored_is_due_again_once_another_bundle_serves(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    for name in ("missed.png", "scored.png"):
        (tmp_path / name).write_bytes(b"a")
    folder.due(0)
    for due in folder.due(2 * S):
        folder.answered(due, missed=due.path.name == "missed.png")
    folder.try_missed_again()
    (due,) = folder.due(3 * S)
    assert due.path.name == "missed.png"
    folder.answered(due)
    folder.try_missed_again()
    assert folder.due(4 * S) == []


def test_a_file_that_grows_waits_and_holds_up_no_other(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "b.png").write_bytes(b"b")
    due: list[Due] = []
    for second in range(5):
        (tmp_path / "a.png").write_bytes(b"a" * (second + 2))
        due = folder.due(second * S)
    assert names(due) == ["b.png"]
    folder.due(5 * S)
    assert names(folder.due(6 * S)) == ["a.png", "b.png"]


def test_a_file_that_never_stands_still_is_named_once_and_taken_when_it_does(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    named = []
    for second in range(30):
        (tmp_path / "a.png").write_bytes(b"a" * (second + 2))
        for due in folder.due(second * S):
            named.append((second, due.settled, due.last))
            folder.answered(due)
    assert named == [(10, False, True)]
    (due,) = folder.due(32 * S)
    assert due.settled


def test_what_is_not_whole_is_tried_again_when_it_changes_and_a_last_time_at_the_end(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    path = tmp_path / "a.png"
    path.write_bytes(b"half")
    folder.due(0)
    (due,) = folder.due(2 * S)
    folder.not_whole(due)
    assert folder.due(3 * S) == []
    path.write_bytes(b"half and half")
    assert folder.due(4 * S) == []
    (due,) = folder.due(6 * S)
    assert not due.last
    folder.not_whole(due)
    assert folder.due(9 * S) == []
    (due,) = folder.due(10 * S)
    assert due.last
    folder.answered(due)
    assert folder.due(11 * S) == []


def test_a_file_replaced_by_the_same_name_is_due_again_even_with_size_and_time_of_the_old_one(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    folder.due(0)
    (due,) = folder.due(2 * S)
    folder.answered(due)
    status = path.stat()
    (tmp_path / ".new").write_bytes(b"new")
    os.utime(tmp_path / ".new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / ".new").replace(path)
    assert folder.due(3 * S) == []
    assert names(folder.due(5 * S)) == ["a.png"]


def test_an_answer_for_what_a_file_was_does_not_count_for_what_it_became(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    folder.due(0)
    (due,) = folder.due(2 * S)
    path.write_bytes(b"newer")
    assert Look.of(path) != due.look
    folder.due(3 * S)
    folder.answered(due)
    assert names(folder.due(5 * S)) == ["a.png"]


class TestFacts:
    def test_a_picture_without_facts_waits_for_them(self, tmp_path: Path) -> None:
        folder = open_folder(tmp_path, facts_wait_s=5.0)
        (tmp_path / "a.png").write_bytes(b"a")
        assert folder.due(0) == folder.due(6 * S) == []
        assert names(folder.due(7 * S)) == ["a.png"]

    def test_facts_that_come_end_the_wait_once_they_stood_still(self, tmp_path: Path) -> None:
        folder = open_folder(tmp_path, facts_wait_s=100.0)
        (tmp_path / "a.png").write_bytes(b"a")
        folder.due(0)
        (tmp_path / "a.toml").write_text("thickness_mm = 1")
        assert folder.due(3 * S) == []
        (tmp_path / "a.toml").write_text("thickness_mm = 19")
        assert folder.due(4 * S) == folder.due(5 * S) == []
        assert names(folder.due(6 * S)) == ["a.png"]

    def test_facts_that_change_make_an_answered_picture_due_again(self, tmp_path: Path) -> None:
        folder = open_folder(tmp_path)
        (tmp_path / "a.png").write_bytes(b"a")
        folder.due(0)
        folder.answered(folder.due(2 * S)[0])
        (tmp_path / "a.toml").write_text("thickness_mm = 19")
        folder.due(3 * S)
        assert names(folder.due(5 * S)) == ["a.png"]


def test_only_pictures_of_the_pattern_count_at_any_depth_and_none_that_is_hidden(tmp_path: Path) -> None:
    folder = open_folder(tmp_path, pattern="dwtt_*")
    for name in ("dwtt_2.png", "heat/dwtt_10.PNG", "other.png", "dwtt_3.toml", ".dwtt_4.png", ".part/dwtt_5.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    folder.due(0)
    assert sorted(names(folder.due(2 * S))) == ["dwtt_10.PNG", "dwtt_2.png"]


def test_a_folder_that_is_gone_is_named_and_its_return_is_noticed(tmp_path: Path) -> None:
    hot = tmp_path / "hot"
    hot.mkdir()
    folder = open_folder(hot)
    shutil.rmtree(hot)
    with pytest.raises(CameraError, match=r"hot folder .*hot: is gone"):
        folder.due(0)
    hot.mkdir()
    (hot / "a.png").write_bytes(b"a")
    folder.due(1 * S)
    assert names(folder.due(3 * S)) == ["a.png"]


@settings(max_examples=60, deadline=None)
@given(writes=st.lists(st.sampled_from(["none", "write", "answer"]), max_size=25))
def test_every_state_that_stood_still_is_due_and_nothing_else_is(
    tmp_path_factory: pytest.TempPathFactory, writes: list[str]
) -> None:
    """One file, one step a second: due exactly when what it holds stood for two steps and was not answered."""
    path = tmp_path_factory.mktemp("hot") / "a.png"
    folder = open_folder(path.parent)
    path.write_bytes(b"0")
    still, answered = 0, False
    folder.due(0)
    for second, step in enumerate(writes, 1):
        if step == "write":
            path.write_bytes(b"0" * (second + 1))
            still, answered = 0, False
        else:
            still += 1
        due = [item for item in folder.due(second * S) if item.settled]
        assert bool(due) == (still >= SETTLE_S and not answered)
        if step == "answer" and due:
            folder.answered(due[0])
            answered = True
