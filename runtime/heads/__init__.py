"""The heads: one module a task, which knows its engines, its settings and how its outputs become findings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from runtime.errors import BundleError

if TYPE_CHECKING:
    from runtime.pipeline import Head

HEADS: Mapping[str, str] = MappingProxyType(
    {
        "strip": "runtime.heads.strip",
        "fracture": "runtime.heads.fracture",
        "crack": "runtime.heads.crack",
        "phase": "runtime.heads.phase",
        "grain": "runtime.heads.grain",
        "boundary": "runtime.heads.boundary",
    }
)
"""The module of each task, by the task that a bundle names in its spec."""


def head_of(task: str) -> Head:
    """The head of a task.

    Raises:
        BundleError: This version has no such task.
    """
    module = HEADS.get(task)
    if module is None:
        raise BundleError(
            f"task {task!r}: found no such task, expected one of {', '.join(sorted(HEADS))}. "
            "Use a bundle of one of these, or a ferrosight that knows the task."
        )
    return cast("Head", importlib.import_module(module))
