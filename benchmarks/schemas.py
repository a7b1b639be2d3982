"""JSON schemas of reports that others read, `docs/schemas/<name>.v<N>.json`: `python -m benchmarks.schemas`."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.latency.report import LatencyReport
from benchmarks.report import Report

MODELS: tuple[type[Report], ...] = (LatencyReport,)
FOLDER = Path("docs/schemas")
"""In a source checkout."""


def schema_file(model: type[Report]) -> str:
    """The file of a report's schema: `bench_latency.v2.json` for `ferrosight.bench_latency/2`."""
    name, _, version = str(model.model_fields["schema_version"].default).removeprefix("ferrosight.").partition("/")
    return f"{name}.v{version}.json"


def schema_text(model: type[Report]) -> str:
    """The JSON schema of a report as it is written: every key is always there."""
    schema = model.model_json_schema(by_alias=True, mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for each in MODELS:
        (FOLDER / schema_file(each)).write_text(schema_text(each), encoding="utf-8")
