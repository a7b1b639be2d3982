"""The networks, by what they do and by architecture.

Every model takes frames as a camera gives them, (N, 1, H, W) with grey levels 0..255 as uint8 or float32, and scales
them itself (`grey`). Nothing else in the project scales pixels, so training, export and every backend agree. Every
model returns the named tuple of its task (`outputs`), before sigmoid or argmax; an export adds these behind it.

One file a task holds the paper's networks to the last parameter, and `TASK_compact` the ones for CPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from torch import nn

from runtime.errors import ConfigError
from train.encoder_weights import EncoderWeights
from train.models import crack, fracture, grain, phase
from train.models.blueprint import Blueprint, Blueprints, Variant
from train.models.boundary_compact import COMPACT_BOUNDARY
from train.models.crack_compact import COMPACT_CRACK
from train.models.fracture_compact import COMPACT_FRACTURE
from train.models.grain_compact import COMPACT_GRAIN
from train.models.grey import GREY_MEAN, GREY_STD, pad_to_multiple, prepare, scale_grey
from train.models.outputs import (
    BoundaryOutput,
    CrackOutput,
    FractureOutput,
    GateOutput,
    GrainOutput,
    PhaseOutput,
    SegmenterOutput,
)
from train.models.phase_compact import COMPACT_PHASE
from train.models.strip import GATES, SEGMENTERS
from train.models.weights import count_parameters, fine_tune_from, load_weights

__all__ = [
    "ARCHITECTURES",
    "GREY_MEAN",
    "GREY_STD",
    "JOBS",
    "Blueprint",
    "BoundaryOutput",
    "CrackOutput",
    "EncoderWeights",
    "FractureOutput",
    "GateOutput",
    "GrainOutput",
    "Job",
    "PhaseOutput",
    "SegmenterOutput",
    "Variant",
    "build",
    "count_parameters",
    "find_blueprint",
    "fine_tune_from",
    "job_of",
    "load_weights",
    "pad_to_multiple",
    "prepare",
    "scale_grey",
]

Job = Literal["gate", "segmenter", "fracture", "crack", "phase", "grain", "boundary"]
"""What a network does: a part of the strip cascade, or a whole task."""

ARCHITECTURES: Mapping[Job, Blueprints] = MappingProxyType(
    {
        "gate": GATES,
        "segmenter": SEGMENTERS,
        "fracture": MappingProxyType({**fracture.BLUEPRINTS, **COMPACT_FRACTURE}),
        "crack": MappingProxyType({**crack.BLUEPRINTS, **COMPACT_CRACK}),
        "phase": MappingProxyType({**phase.BLUEPRINTS, **COMPACT_PHASE}),
        "grain": MappingProxyType({**grain.BLUEPRINTS, **COMPACT_GRAIN}),
        "boundary": COMPACT_BOUNDARY,
    }
)
"""Every network by job and architecture; the first of a variant is its default."""


JOBS: Mapping[str, Job] = MappingProxyType(
    {
        "strip-gate": "gate",
        "strip-segmenter": "segmenter",
        "fracture": "fracture",
        "crack": "crack",
        "phase": "phase",
        "grain": "grain",
        "grain-classes": "grain",
        "boundary": "boundary",
    }
)
"""What the network of each of `train.tasks.TASKS` does."""


def job_of(task: str) -> Job:
    """What a task's network does.

    Raises:
        ConfigError: No such task.
    """
    if task not in JOBS:
        raise ConfigError(f"task {task!r}: no network is known for it, expected one of {', '.join(JOBS)}.")
    return JOBS[task]


def find_blueprint(job: Job, architecture: str) -> Blueprint:
    """The table's entry.

    Raises:
        ConfigError: No such architecture for the job.
    """
    known = ARCHITECTURES.get(job, {})
    if architecture not in known:
        raise ConfigError(
            f"{job}: no architecture {architecture!r}, expected one of {', '.join(known) or 'none yet'}. "
            "Set model.architecture to one of these."
        )
    return known[architecture]


def build(job: Job, architecture: str, *, classes: int = 1, encoder_weights: EncoderWeights = "none") -> nn.Module:
    """A fresh network in float32 on the CPU.

    Args:
        job: A key of `ARCHITECTURES`.
        architecture: A key of `ARCHITECTURES[job]`.
        classes: Outputs: 1 for a gate, a ratio, a crack, a boundary or a grain size number, one a class else.
        encoder_weights: `none`, `imagenet` (downloaded by the library that made the encoder) or a file.

    Returns:
        A module from frames (N, 1, H, W) to the named tuple of its job, see `outputs`.

    Raises:
        ConfigError: No such architecture, no such number of outputs, or the encoder's weights cannot be had or do not
            fit.
    """
    return find_blueprint(job, architecture).build(classes, encoder_weights)
