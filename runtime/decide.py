"""From findings and rules to a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.errors import ConfigError
from runtime.messages import Defect

Verdict = Literal["clean", "defective"]

R = TypeVar("R", bound=BaseModel)


class Rules(BaseModel):
    """When a frame is defective. Every defect is published, whether or not it counts here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="classes that count; unset: all of the bundle's"
    )
    min_total_area_px: int = Field(
        default=1, ge=1, description="pixels that the counting defects must have together, each as a whole so far"
    )
    min_probability: float = Field(
        default=0.0, ge=0, le=1, description="mean probability below which a defect does not count"
    )
    ignore_left_px: int = Field(default=0, ge=0, description="defects that lie wholly in this margin do not count")
    ignore_right_px: int = Field(default=0, ge=0, description="likewise on the right")


def read_rules(model: type[R], table: Mapping[str, Any]) -> R:
    """A task's rules from the table of a configuration.

    Raises:
        ConfigError: A key does not exist, or a value is out of range.

    >>> read_rules(Rules, {"min_total_area_px": 30}).min_total_area_px
    30
    """
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        first = min(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(model.model_fields)
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"rules: key {key!r} does not exist, expected some of {known}. Rename it.") from error
        raise ConfigError(
            f"rules: {key}: found {first['input']!r}, but {first['msg'].lower()}. Change the value."
        ) from error


def check_rules(rules: Rules, class_names: Sequence[str]) -> None:
    """Check that the rules speak of classes that there are.

    Raises:
        ConfigError: They name another one.
    """
    unknown = sorted(set(rules.classes or ()) - set(class_names))
    if unknown:
        raise ConfigError(
            f"rules: found classes {unknown}, expected some of {', '.join(class_names)}. "
            "Name the classes as the bundle does."
        )


def counts(defect: Defect, rules: Rules, width_px: int) -> bool:
    """Whether a defect counts towards the verdict."""
    return (
        (rules.classes is None or defect.class_name in rules.classes)
        and defect.probability >= rules.min_probability
        and defect.box.stop_col > rules.ignore_left_px
        and defect.box.first_col < width_px - rules.ignore_right_px
    )


def decide(defects: Sequence[Defect], rules: Rules, width_px: int) -> Verdict:
    """The verdict on a frame.

    Args:
        defects: What was found on it.
        rules: What counts.
        width_px: Columns of the frame.
    """
    area_px = sum(defect.total_area_px for defect in defects if counts(defect, rules, width_px))
    return "defective" if area_px >= rules.min_total_area_px else "clean"
