"""The demo's figures."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import numpy as np

from runtime.demo.listen import Heard
from runtime.demo.settings import HEIGHT_PX, DemoSettings
from runtime.demo.truth import Comparison
from runtime.errors import EngineError
from runtime.messages import Inspected


def summarise(settings: DemoSettings, heard: Heard, truth: Comparison) -> dict[str, Any]:
    """What `summary.json` holds: figures from the messages alone, but for those that need the truth.

    Raises:
        EngineError: The run has no beginning or no end.
    """
    ended, started = heard.ended, heard.started
    if ended is None or started is None:
        raise EngineError("the demo's station published no whole run. Read its log.")
    stages: dict[str, list[float]] = {}
    for message in heard.inspected:
        for stage, value in message.latency_ms.items():
            stages.setdefault(stage, []).append(value)
    by_stage = {
        stage: {"p50": round(float(np.percentile(v, 50)), 3), "p99": round(float(np.percentile(v, 99)), 3)}
        for stage, v in stages.items()
    }
    span_s = _span_s(heard.inspected)
    classes = Counter(p.class_id for p in truth.planted)
    found = Counter(p.class_id for p in truth.planted if p.defect_id in truth.found)
    return {
        "frames_grabbed": ended.coverage.frames_expected,
        "frames_inspected": ended.coverage.frames_inspected,
        "frames_missed": ended.coverage.frames_missed,
        "coverage_complete": ended.coverage.complete,
        "frames_clean": truth.frames_clean,
        "defects_planted": len(truth.planted),
        "defects_found": len(truth.found),
        "defects_right_class": len(truth.right_class),
        "by_class": {str(c): {"planted": classes[c], "found": found[c]} for c in sorted(classes)},
        "false_alarms": len(truth.false_alarms),
        "false_alarms_on_clean_frames": truth.false_alarms_on_clean,
        "messages_published": ended.sequence - started.sequence + 1,
        "messages_received": heard.messages,
        "messages_recovered": heard.recovered,
        "latency_ms": {**by_stage.get("total", {}), "stages": by_stage},
        "throughput_fps": round((len(heard.inspected) - 1) / span_s, 2) if span_s else 0.0,
        "line_speed_mps": settings.speed_mps,
        "strip_m": round(settings.frames * HEIGHT_PX * settings.mm_per_px / 1000, 2),
        "backend": started.model.backend,
        "precision": started.model.precision,
        "bundle": started.model.bundle,
        "seed": settings.seed,
        "strip_map": str(settings.out / "strip_map.png"),
        "pictures": str(settings.out / "pictures"),
    }


def _span_s(inspected: list[Inspected]) -> float:
    """Seconds from the first frame's capture to the last one's."""
    times = [datetime.fromisoformat(m.captured_at.replace("Z", "+00:00")) for m in inspected]
    return (max(times) - min(times)).total_seconds() if len(times) > 1 else 0.0
