"""Messages of every kind, each made from its number."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Literal

import numpy as np

from runtime.delivery.wire import Box, Raster
from runtime.facts import Facts
from runtime.messages import (
    Coverage,
    Defect,
    Inspected,
    Missed,
    ModelIdentity,
    Overridden,
    RunEnded,
    RunStarted,
    Scored,
    StripBox,
    Swapped,
    SwapRefused,
    utc_text,
)
from runtime.scored import FractureResult

LINE = "mill-2"
STATION = "strip-1"
EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
MODEL = ModelIdentity(bundle="strip", digest="5e" * 32, backend="openvino", precision="fp16")


def moment(sequence: int) -> str:
    """Wall time of a message: one second each."""
    return utc_text(EPOCH + timedelta(seconds=sequence))


def run_started(sequence: int, run: str = "coil-7", station: str = STATION) -> RunStarted:
    return RunStarted(
        line=LINE,
        station=station,
        run=run,
        sequence=sequence,
        captured_at=moment(sequence),
        model=MODEL,
        camera="top",
        mm_per_px=0.5,
    )


def inspected(
    sequence: int,
    frame_index: int | None = None,
    run: str = "coil-7",
    station: str = STATION,
    defects: tuple[Defect, ...] = (),
) -> Inspected:
    return Inspected(
        line=LINE,
        station=station,
        run=run,
        sequence=sequence,
        captured_at=moment(sequence),
        model=MODEL,
        frame_index=sequence if frame_index is None else frame_index,
        position_m=12.5,
        verdict="defective" if defects else "clean",
        defect_probability=0.98 if defects else 0.02,
        segmented=bool(defects),
        defects=defects,
        latency_ms={"grab": 0.1, "gate": 2.5, "total": 3.2},
    )


def scored(sequence: int, frame_index: int | None = None, run: str = "coil-7", **fields: Any) -> Scored:
    """One fracture surface, accepted."""
    return Scored(
        line=LINE,
        station=STATION,
        run=run,
        sequence=sequence,
        captured_at=moment(sequence),
        model=MODEL,
        frame_index=sequence if frame_index is None else frame_index,
        facts=Facts(specimen="S7", mm_per_px=0.1, thickness_mm=19.0, notch_side="left"),
        verdict="accepted",
        result=FractureResult(
            brittle_ratio=0.08,
            rated_region=Box(first_row=0, first_col=190, stop_row=300, stop_col=510),
            rated_brittle_ratio=0.06,
            shear_percent=94.0,
            uncertainty_percent=2.5,
            min_shear_percent=85.0,
            decided_by="figure",
            activation=Raster.of(np.arange(12, dtype=np.uint8).reshape(3, 4)),
        ),
        latency_ms={"read": 4.0, "model": 31.0, "total": 36.2},
        **fields,
    )


def missed(sequence: int, first_index: int, stop_index: int, run: str = "coil-7") -> Missed:
    return Missed(
        line=LINE,
        station=STATION,
        run=run,
        sequence=sequence,
        captured_at=moment(sequence),
        first_index=first_index,
        stop_index=stop_index,
        reason="ring_full",
    )


def missed_picture(sequence: int, image_sha256: str) -> Missed:
    return Missed(
        line=LINE,
        station=STATION,
        run="coil-7",
        sequence=sequence,
        captured_at=moment(sequence),
        first_index=sequence,
        stop_index=sequence + 1,
        reason="unreadable",
        detail="picture specimens/a7-2.png: found a truncated PNG (812 bytes), expected a whole picture.",
        source="specimens/a7-2.png",
        image_sha256=image_sha256,
    )


def overridden(
    sequence: int, scored_sequence: int, verdict: Literal["accepted", "rejected"] = "rejected"
) -> Overridden:
    return Overridden(
        line=LINE,
        station=STATION,
        run="coil-7",
        sequence=sequence,
        captured_at=moment(sequence),
        scored_sequence=scored_sequence,
        image_sha256="a" * 64,
        specimen="A7-1",
        verdict_before="accepted",
        verdict=verdict,
        name="M. Hadfield",
        reason="inverse fracture at the hammer side",
    )


def swapped(sequence: int, next_index: int | None = 7) -> Swapped:
    return Swapped(
        line=LINE,
        station=STATION,
        run="coil-7",
        sequence=sequence,
        captured_at=moment(sequence),
        before=MODEL,
        model=MODEL.model_copy(update={"digest": "7b" * 32}),
        next_index=next_index,
        name="M. Hadfield",
        reason="trained on the new grade",
    )


def swap_refused(sequence: int) -> SwapRefused:
    return SwapRefused(
        line=LINE,
        station=STATION,
        run="coil-7",
        sequence=sequence,
        captured_at=moment(sequence),
        model=MODEL,
        bundle="bundles/strip-8",
        name="M. Hadfield",
        reason="trained on the new grade",
        detail="bundle bundles/strip-8: gate.fp16.onnx is missing. Copy the whole folder again.",
    )


def run_ended(sequence: int, coverage: Coverage | None = None, run: str = "coil-7") -> RunEnded:
    return RunEnded(
        line=LINE,
        station=STATION,
        run=run,
        sequence=sequence,
        captured_at=moment(sequence),
        reason="finished",
        coverage=coverage or Coverage(frames_expected=0, frames_inspected=0, frames_missed=0, complete=True),
        defects={"scratch": 1},
    )


def defect(defect_id: int = 0) -> Defect:
    return Defect(
        defect_id=defect_id,
        class_id=3,
        class_name="scratch",
        probability=0.91,
        area_px=116,
        area_mm2=29.0,
        total_area_px=236,
        box=Box(first_row=0, first_col=310, stop_row=58, stop_col=312),
        strip_box=StripBox(
            along_first_mm=12_471.0, along_stop_mm=12_529.0, across_first_mm=155.0, across_stop_mm=156.0
        ),
        continues_above=True,
        reaches_bottom=False,
        rle="79361 58 79617 58",
    )
