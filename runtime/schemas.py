"""JSON schemas of everything on the wire, for consumers in any language: `docs/schemas/<name>.v<N>.json`.

`python -m runtime.schemas` writes those that are missing. A schema that is published never changes: whoever
changes a model gives it a new version, and with it a new file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from runtime.delivery.cursor import Cursor
from runtime.delivery.replay_requests import ReplayBegin, ReplayEnd, ReplayError, ReplayRequest
from runtime.delivery.wire import Wire
from runtime.messages import KINDS
from runtime.swap.requests import SwapRequest
from runtime.triggered.requests import OverrideRequest, RequestError, ScoreRequest

MODELS: tuple[type[Wire], ...] = (
    *KINDS.values(),
    ReplayRequest,
    ReplayBegin,
    ReplayEnd,
    ReplayError,
    ScoreRequest,
    OverrideRequest,
    RequestError,
    SwapRequest,
    Cursor,
)
"""Every model that leaves the process."""

FOLDER = Path("docs/schemas")
"""Where the schemas lie in a source checkout."""


def schema_file(model: type[Wire]) -> str:
    """The file of a model's schema: `inspected.v1.json` for `ferrosight.inspected/1`."""
    name, _, version = str(model.model_fields["schema_version"].default).removeprefix("ferrosight.").partition("/")
    return f"{name}.v{version}.json"


def schema_text(model: type[Wire]) -> str:
    """The JSON schema of a model as it is sent: with every key that is always there as required."""
    schema = model.model_json_schema(by_alias=True, mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def broken_schemas(folder: Path) -> list[str]:
    """Stored schemas that no longer say what their models take, whatever the words of the descriptions."""
    return [
        schema_file(model)
        for model in MODELS
        if (path := folder / schema_file(model)).exists()
        and _shape(json.loads(path.read_bytes())) != _shape(json.loads(schema_text(model)))
    ]


def write_schemas(folder: Path) -> list[Path]:
    """Write the schemas that are not there yet, or whose descriptions were reworded.

    Returns:
        What was written.

    Raises:
        ValueError: A stored schema no longer fits its model; nothing was written.
    """
    broken = broken_schemas(folder)
    if broken:
        raise ValueError(
            f"schemas in {folder}: found models that differ from {', '.join(broken)}, expected published schemas "
            "to stay. Give each changed model the next version in its 'schema_version'."
        )
    written = []
    for model in MODELS:
        path, text = folder / schema_file(model), schema_text(model)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def _shape(schema: Any) -> Any:
    """A schema without its prose; a property that is itself called 'title' or 'description' stays."""
    if isinstance(schema, dict):
        prose = {key for key in ("title", "description") if isinstance(schema.get(key), str)}
        return {key: _shape(value) for key, value in schema.items() if key not in prose}
    return [_shape(item) for item in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    try:
        for path in write_schemas(FOLDER):
            print(path)
    except ValueError as error:
        sys.exit(str(error))
