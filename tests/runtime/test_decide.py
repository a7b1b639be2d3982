from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from runtime.decide import Rules, decide
from runtime.delivery.wire import Box
from runtime.messages import Defect


def defect(**changes: Any) -> Defect:
    plain: dict[str, Any] = {
        "defect_id": 1,
        "class_id": 1,
        "class_name": "scratch",
        "probability": 0.8,
        "area_px": 10,
        "area_mm2": None,
        "total_area_px": 30,
        "box": Box(first_row=0, first_col=40, stop_row=5, stop_col=50),
        "strip_box": None,
        "continues_above": False,
        "reaches_bottom": False,
        "rle": "1 1",
    }
    return Defect(**{**plain, **changes})


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        (Rules(), "defective"),
        (Rules(classes=("scratch",)), "defective"),
        (Rules(classes=("pit",)), "clean"),
        (Rules(min_total_area_px=30), "defective"),
        (Rules(min_total_area_px=31), "clean"),
        (Rules(min_probability=0.8), "defective"),
        (Rules(min_probability=0.81), "clean"),
        (Rules(ignore_left_px=49), "defective"),
        (Rules(ignore_left_px=50), "clean"),
        (Rules(ignore_right_px=59), "defective"),
        (Rules(ignore_right_px=60), "clean"),
    ],
)
def test_rules_say_which_defects_count(rules: Rules, verdict: str) -> None:
    assert decide([defect()], rules, width_px=100) == verdict


def test_areas_of_counting_defects_are_added() -> None:
    rules = Rules(min_total_area_px=60, classes=("scratch",))
    assert decide([defect(), defect(class_name="pit")], rules, 100) == "clean"
    assert decide([defect(), defect()], rules, 100) == "defective"


def test_no_defect_is_clean() -> None:
    assert decide([], Rules(), 100) == "clean"


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_area"):
        Rules(min_area=3)
