"""The demo's pictures: the strip map, and the frames with the most to see."""

from __future__ import annotations

from runtime.demo.listen import Heard
from runtime.demo.settings import HEIGHT_PX, WIDTH_PX, DemoSettings
from runtime.demo.truth import Comparison
from runtime.overlay import draw_overlay
from runtime.strip_map import Mark, draw_strip_map

PICTURES = 12


def draw_pictures(settings: DemoSettings, heard: Heard, truth: Comparison) -> None:
    """Write `strip_map.png` and, in `pictures`, the frames with the most defects."""
    strip = settings.strip()
    scale = settings.mm_per_px
    names = [*_class_names(heard), *(f"class {k}" for k in range(1, 5))][:4]
    planted = [
        Mark(
            p.class_id,
            (p.first_row + p.stop_row) / 2 * scale / 1000,
            (p.first_col + p.stop_col) / 2 * scale,
            (p.stop_row - p.first_row) * scale / 1000,
            (p.stop_col - p.first_col) * scale,
            "found" if p.defect_id in truth.found else "missed",
        )
        for p in truth.planted
    ]
    alarms = {defect.defect_id for _, defect in truth.false_alarms}
    last = {d.defect_id: d for m in heard.inspected for d in m.defects if d.strip_box is not None}
    found = [
        Mark(
            d.class_id,
            (d.strip_box.along_first_mm + d.strip_box.along_stop_mm) / 2000,
            (d.strip_box.across_first_mm + d.strip_box.across_stop_mm) / 2,
            (d.strip_box.along_stop_mm - d.strip_box.along_first_mm) / 1000,
            d.strip_box.across_stop_mm - d.strip_box.across_first_mm,
            "false_alarm" if d.defect_id in alarms else "found",
        )
        for d in last.values()
        if d.strip_box is not None
    ]
    frame_m = HEIGHT_PX * scale / 1000
    draw_strip_map(
        settings.out / "strip_map.png",
        planted,
        found,
        class_names=names,
        length_m=settings.frames * frame_m,
        width_mm=WIDTH_PX * scale,
        not_inspected_m=[(m.first_index * frame_m, m.stop_index * frame_m) for m in heard.missed],
        title=f"Synthetic strip at {settings.speed_mps:g} m/s: {len(truth.found)} of {len(truth.planted)} planted "
        f"defects found, {len(truth.false_alarms)} false alarms, {truth.false_alarms_on_clean} of them on "
        f"{truth.frames_clean} clean frames",
    )
    shown = sorted((m for m in heard.inspected if m.defects), key=lambda m: -sum(d.area_px for d in m.defects))
    for message in sorted(shown[:PICTURES], key=lambda m: m.frame_index):
        frame = strip.frame(message.frame_index)
        draw_overlay(
            frame.pixels,
            message.defects,
            settings.out / "pictures" / f"frame_{message.frame_index:06d}.png",
            heading=f"frame {message.frame_index}, {message.position_m:.2f} m"
            if message.position_m is not None
            else f"frame {message.frame_index}",
        )


def _class_names(heard: Heard) -> list[str]:
    known = {d.class_id: d.class_name for m in heard.inspected for d in m.defects}
    return [known.get(k, f"class {k}") for k in range(1, 5)]
