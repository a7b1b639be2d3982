"""Does an engine on this machine decide as the network that was trained? Asked with a bundle's golden frames.

What is compared is the task's own: each has a module here with the figures of each role's outputs. How far a figure may
go was decided when the bundle was exported, and stands in its `parity.json`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from runtime.errors import BundleError

if TYPE_CHECKING:
    from runtime.golden.frames import Compare

TASKS: Mapping[str, str] = MappingProxyType(
    {
        "strip": "runtime.golden.strip",
        "fracture": "runtime.golden.fracture",
        "crack": "runtime.golden.crack",
        "phase": "runtime.golden.phase",
        "grain": "runtime.golden.grain",
        "boundary": "runtime.golden.boundary",
    }
)
"""The module of each task; its `COMPARE` has, by role, what gives the figures."""


def comparisons_of(task: str) -> Mapping[str, Compare]:
    """What gives the figures of a task's graphs, by role.

    Args:
        task: As a bundle's spec names it.

    Raises:
        BundleError: There is no such task.
    """
    if task not in TASKS:
        raise BundleError(
            f"golden frames: found a bundle of the task {task!r}, expected one of {', '.join(sorted(TASKS))}. "
            "Use the ferrosight that exported it."
        )
    return cast("Mapping[str, Compare]", importlib.import_module(TASKS[task]).COMPARE)
