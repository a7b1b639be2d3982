"""What each task adds to an export: one module a task, imported when a run of it is exported."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from runtime.errors import BundleError

if TYPE_CHECKING:
    from export.tasks.base import ExportTask

TASKS: Mapping[str, str] = MappingProxyType(
    {
        "boundary": "export.tasks.boundary",
        "crack": "export.tasks.crack",
        "fracture": "export.tasks.fracture",
        "grain": "export.tasks.grain",
        "grain-classes": "export.tasks.grain_classes",
        "phase": "export.tasks.phase",
        "strip-gate": "export.tasks.strip",
        "strip-segmenter": "export.tasks.strip",
    }
)
"""The module with an `ExportTask` named `TASK`, by the task that a run was trained for (`train.tasks.TASKS`)."""


def export_task(trained_task: str, tasks: Mapping[str, str] = TASKS) -> ExportTask:
    """How the runs of a training task become a bundle.

    Args:
        trained_task: As a run's record names it.
        tasks: The table.

    Raises:
        BundleError: The table has no such task.
    """
    if trained_task not in tasks:
        raise BundleError(
            f"export: found a run of the task {trained_task!r}, expected one of {', '.join(sorted(tasks))}. "
            "Export runs of these, or give the task a module in export/tasks."
        )
    return cast("ExportTask", importlib.import_module(tasks[trained_task]).TASK)


def trained_tasks(task: ExportTask, tasks: Mapping[str, str] = TASKS) -> tuple[str, ...]:
    """The training tasks whose runs make a bundle of this task, such as `strip-gate` and `strip-segmenter`."""
    return tuple(name for name in tasks if export_task(name, tasks) is task)
