from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from runtime.triggered.cli import app
from tests.fracture_bundles import make_fracture_bundle
from tests.lines import write_rig
from tests.runtime.triggered.rig import Rig, png, rig


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    bundle = make_fracture_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
    with rig(write_rig(tmp_path_factory.mktemp("rig"), bundle, hot_folder=False)) as running:
        yield running


def call(station: Rig, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--request", station.request])


def test_pictures_are_sent_with_the_facts_beside_them_and_shown(station: Rig, tmp_path: Path) -> None:
    picture = tmp_path / "S1.png"
    picture.write_bytes(png(0.1, 1))
    (tmp_path / "S1.toml").write_text('specimen = "S1"\nthickness_mm = 19.0\n')
    first = call(station, "score", str(picture))
    assert first.exit_code == 0, first.output
    assert "S1  accepted" in first.output
    assert "known before" not in first.output
    assert "known before" in call(station, "score", str(picture)).output


def test_a_missed_picture_makes_the_exit_code_one(station: Rig, tmp_path: Path) -> None:
    picture = tmp_path / "garbage.png"
    picture.write_bytes(b"garbage")
    done = call(station, "score", str(picture))
    assert done.exit_code == 1
    assert "unreadable" in done.output


def test_an_override_by_the_number_of_the_score(station: Rig, tmp_path: Path) -> None:
    picture = tmp_path / "S2.png"
    picture.write_bytes(png(0.1, 2))
    scored = json.loads(call(station, "score", str(picture), "--json").output)
    sequence = str(scored["message"]["sequence"])
    done = call(station, "override", sequence, "rejected", "--name", "M. Hadfield", "--reason", "inverse fracture")
    assert done.exit_code == 0, done.output
    assert f"rejected  by M. Hadfield, accepted in message {sequence}: inverse fracture" in done.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("1", "perhaps", "--name", "A", "--reason", "why"), "expected accepted or rejected"),
        (("1", "accepted", "--name", " ", "--reason", "why"), "--name"),
        (("1", "accepted", "--name", "A"), "--reason"),
    ],
)
def test_an_override_wants_a_verdict_a_name_and_a_reason(station: Rig, arguments: tuple[str, ...], text: str) -> None:
    done = call(station, "override", *arguments)
    assert done.exit_code == 2
    assert text in done.output


def test_nobody_there_is_said_with_what_to_look_at() -> None:
    arguments = ["override", "1", "accepted", "--name", "A", "--reason", "why", "--request", "tcp://127.0.0.1:9"]
    done = CliRunner().invoke(app, [*arguments, "--timeout-s", "0.1"])
    assert "found no answer at tcp://127.0.0.1:9" in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("override", "1", "accepted", "--name", "A", "--reason", "x" * 2001), "at most 2000"),
        (("override", "1", "accepted", "--name", "A", "--reason", "why", "--station", "a/b"), "should match pattern"),
    ],
)
def test_words_that_no_request_takes_are_an_error_of_the_command_line(
    station: Rig, arguments: tuple[str, ...], text: str
) -> None:
    done = call(station, *arguments)
    assert done.exit_code == 2
    assert text in " ".join(done.output.replace("\u2502", "").split())
    assert len(done.output) < 1000
