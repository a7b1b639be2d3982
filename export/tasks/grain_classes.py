"""The export of grain networks that were trained on grades."""

from __future__ import annotations

from export.tasks.grain import CLASSES_TASK

TASK = CLASSES_TASK
