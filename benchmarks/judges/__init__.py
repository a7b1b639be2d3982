"""Judges of the tasks that score a picture as a whole: one module a task, by the task that a bundle names."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from runtime.errors import BundleError

if TYPE_CHECKING:
    from benchmarks.judges.base import TaskJudge

JUDGES: Mapping[str, str] = MappingProxyType(
    {
        "fracture": "benchmarks.judges.fracture",
        "crack": "benchmarks.judges.crack",
        "phase": "benchmarks.judges.phase",
        "grain": "benchmarks.judges.grain",
        "boundary": "benchmarks.judges.boundary",
    }
)


def judge_of(task: str) -> TaskJudge:
    """The judge of a task.

    Raises:
        BundleError: This version judges no such task.
    """
    module = JUDGES.get(task)
    if module is None:
        raise BundleError(
            f"evaluate: found a bundle of the task {task!r}, expected one of strip, {', '.join(JUDGES)}. "
            "Use a ferrosight that knows the task."
        )
    return cast("TaskJudge", importlib.import_module(module))
