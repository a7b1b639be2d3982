from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from runtime import schemas
from runtime.messages import KINDS, Missed
from runtime.schemas import FOLDER, MODELS, broken_schemas, schema_file, schema_text, write_schemas

STORED = Path(__file__).parents[2] / FOLDER


def test_no_model_has_changed_without_a_new_version() -> None:
    assert broken_schemas(STORED) == [], "give each changed model the next version in its 'schema_version'"


@pytest.mark.parametrize("model", MODELS, ids=schema_file)
def test_every_model_has_its_schema_in_the_docs(model: type) -> None:
    assert (STORED / schema_file(model)).read_text(encoding="utf-8") == schema_text(model), (
        "run 'python -m runtime.schemas'"
    )


def test_every_kind_is_among_the_models() -> None:
    assert set(KINDS.values()) <= set(MODELS)


def test_keys_that_are_always_sent_are_required() -> None:
    schema = json.loads(schema_text(Missed))
    assert set(schema["required"]) == set(schema["properties"])
    assert schema["properties"]["schema"]["const"] == "ferrosight.missed/2"


def test_a_changed_model_needs_a_new_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed(Missed):
        since_s: float

    class Next(Missed):
        schema_version: Literal["ferrosight.missed/3"] = Field(default="ferrosight.missed/3", alias="schema")  # pyright: ignore[reportIncompatibleVariableOverride]
        since_s: float

    class Reworded(Missed):
        """The same in other words."""

    monkeypatch.setattr(schemas, "MODELS", (Missed,))
    assert [path.name for path in write_schemas(tmp_path)] == ["missed.v2.json"]
    assert write_schemas(tmp_path) == []

    monkeypatch.setattr(schemas, "MODELS", (Changed,))
    assert broken_schemas(tmp_path) == ["missed.v2.json"]
    with pytest.raises(ValueError, match=r"missed\.v2\.json.*the next version"):
        write_schemas(tmp_path)

    monkeypatch.setattr(schemas, "MODELS", (Next,))
    assert [path.name for path in write_schemas(tmp_path)] == ["missed.v3.json"]

    monkeypatch.setattr(schemas, "MODELS", (Reworded,))
    assert broken_schemas(tmp_path) == []
    assert [path.name for path in write_schemas(tmp_path)] == ["missed.v2.json"]
