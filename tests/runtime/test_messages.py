from __future__ import annotations

import json
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runtime.messages import (
    KINDS,
    MESSAGE,
    Coverage,
    Heartbeat,
    Inspected,
    Message,
    json_of,
    topic_of,
    utc_text,
)
from tests.runtime.delivery.wire import (
    EPOCH,
    LINE,
    STATION,
    defect,
    inspected,
    missed,
    missed_picture,
    moment,
    overridden,
    run_ended,
    run_started,
    scored,
    swap_refused,
    swapped,
)

HEARTBEAT = Heartbeat(
    line=LINE,
    station=STATION,
    run="",
    sequence=-1,
    captured_at=moment(0),
    state="ready",
    frames_inspected=0,
    frames_missed=0,
)
ONE_OF_EACH: list[Message] = [
    run_started(0),
    inspected(1, defects=(defect(),)),
    missed(2, 5, 9),
    scored(3, 9),
    run_ended(4),
    HEARTBEAT,
    overridden(5, 3),
    swapped(6),
    swap_refused(7),
]
VERSIONS = {"missed": 2, "scored": 2}


def test_the_examples_are_all_kinds() -> None:
    assert {message.kind for message in ONE_OF_EACH} == set(KINDS)


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda m: m.kind)
def test_a_message_comes_back_from_its_json_as_it_was(message: Message) -> None:
    assert MESSAGE.validate_json(json_of(message)) == message


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda m: m.kind)
def test_the_json_says_which_schema_it_has(message: Message) -> None:
    assert json.loads(json_of(message))["schema"] == f"ferrosight.{message.kind}/{VERSIONS.get(message.kind, 1)}"


def test_the_topic_is_station_and_kind() -> None:
    assert topic_of(inspected(0)) == "strip-1/inspected"


def test_messages_answer_for_their_frames_and_for_no_others() -> None:
    assert [message.frame_range() for message in ONE_OF_EACH] == [None, (1, 2), (5, 9), (9, 10), *[None] * 5]


def test_messages_answer_for_their_picture_and_for_no_other() -> None:
    assert scored(3, image_sha256="a" * 64).image_digest() == "a" * 64
    assert missed_picture(4, "b" * 64).image_digest() == "b" * 64
    assert {message.image_digest() for message in ONE_OF_EACH} == {None}


def test_a_missed_message_of_the_first_version_is_read_as_one_that_names_no_picture() -> None:
    first = json.loads(json_of(missed(2, 5, 9))) | {"schema": "ferrosight.missed/1"}
    del first["source"], first["image_sha256"]
    assert MESSAGE.validate_json(json.dumps(first)) == missed(2, 5, 9)
    with pytest.raises(ValidationError, match="schema"):
        MESSAGE.validate_json(json.dumps(first | {"schema": "ferrosight.missed/3"}))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        pytest.param({"surprise": 1}, "surprise", id="unknown key"),
        pytest.param({"schema": "ferrosight.inspected/2"}, "schema", id="version of tomorrow"),
        pytest.param({"station": "mill/strip"}, "station", id="slash in the station"),
        pytest.param({"captured_at": "2026-03-01T12:00:00Z"}, "captured_at", id="time without microseconds"),
        pytest.param({"sequence": -1}, "sequence", id="before the first"),
        pytest.param({"sequence": 2**63}, "sequence", id="past what the journal can number"),
        pytest.param({"defect_probability": 1.01}, "defect_probability", id="probability above one"),
    ],
)
def test_a_message_that_is_not_valid_is_refused_at_its_key(change: dict[str, object], place: str) -> None:
    raw = json.loads(json_of(inspected(4))) | change
    with pytest.raises(ValidationError) as caught:
        MESSAGE.validate_python(raw)
    assert caught.value.errors()[0]["loc"][-1] == place


def test_nan_is_refused_because_json_cannot_say_it() -> None:
    raw = inspected(0).model_dump()
    with pytest.raises(ValidationError, match="finite number"):
        Inspected.model_validate(raw | {"position_m": float("nan")})


def test_missed_names_at_least_one_frame() -> None:
    with pytest.raises(ValidationError, match=r"\[5, 5\) are none"):
        missed(0, 5, 5)


def test_books_that_do_not_add_up_are_not_complete() -> None:
    with pytest.raises(ValidationError, match="9 frames are answered for of 10"):
        Coverage(frames_expected=10, frames_inspected=8, frames_missed=1, complete=True)
    Coverage(frames_expected=10, frames_inspected=8, frames_missed=1, complete=False)


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15), st.integers(-14, 14))
def test_time_texts_sort_as_the_moments_do(first_us: int, second_us: int, offset_h: int) -> None:
    first = EPOCH + timedelta(microseconds=first_us)
    second = (EPOCH + timedelta(microseconds=second_us)).astimezone(timezone(timedelta(hours=offset_h)))
    assert (utc_text(first) < utc_text(second)) == (first < second)
