"""docs/wire.md is run and read: its consumer works, and its examples are messages of today."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runtime.messages import Message
from runtime.schemas import MODELS
from tests.runtime.delivery.stations import Station
from tests.runtime.delivery.wire import defect, inspected, missed, run_ended, run_started

PAGE = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
BY_SCHEMA = {model.model_fields["schema_version"].default: model for model in MODELS}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_every_example_is_a_message_of_today() -> None:
    shown = [json.loads(block) for block in blocks("json")]
    for example in shown:
        model = BY_SCHEMA[example["schema"]]
        assert json.loads(model.model_validate(example).model_dump_json(by_alias=True)) == example
    assert {example["schema"] for example in shown} == set(BY_SCHEMA) - {"ferrosight.cursor/1"}


def test_the_consumer_gets_the_whole_run_and_goes_on_at_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (consumer,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    run: list[Message] = [run_started(0), inspected(1, 0, defects=(defect(),)), missed(2, 1, 4), run_ended(3)]
    with Station(tmp_path) as station:
        assert station.replay is not None
        consumer = consumer.replace("tcp://127.0.0.1:5556", station.publisher.endpoint)
        consumer = consumer.replace("tcp://127.0.0.1:5557", station.replay.endpoint)
        station.publisher.publish(run)
        exec(consumer, {})
        assert capsys.readouterr().out == "coil-7 0 defective ['scratch']\n"
        station.publisher.publish([run_started(4, "coil-8"), inspected(5, 0, "coil-8"), run_ended(6, run="coil-8")])
        exec(consumer, {})
        assert capsys.readouterr().out == "coil-8 0 clean []\n"
