"""What a task's head costs behind its network: from the engine's outputs to the answer that is published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from camera.base import Frame
from runtime.cascade import FrameOutput
from runtime.errors import BundleError, ConfigError
from runtime.facts import Facts
from runtime.heads import HEADS, head_of
from runtime.heads.strip import GATE, SEGMENTER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runtime.bundle import Bundle

Outputs = Mapping[str, "NDArray[Any]"]
Answer = Callable[["NDArray[np.uint8]", Outputs], None]
"""From the frames of a batch and an engine's outputs of it to an answer for every frame."""

RULES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"fracture": MappingProxyType({"left_out_thicknesses": 0.0})}  # rates the whole picture, without a scale
)


def _gate(outputs: Outputs, frame: int) -> FrameOutput:
    return FrameOutput(float(outputs["defect_probability"][frame]), None)


def _segmenter(outputs: Outputs, frame: int) -> FrameOutput:
    return FrameOutput(1.0, outputs["class_probability"][frame])


def _single(outputs: Outputs, frame: int) -> Outputs:
    return {name: array[frame] for name, array in outputs.items()}


_RAW: Mapping[tuple[str, str], Callable[[Outputs, int], Any]] = MappingProxyType(
    {("strip", GATE): _gate, ("strip", SEGMENTER): _segmenter}
)


def head_answer(bundle: Bundle, role: str, backend: str) -> Answer | None:
    """The head of a bundle as a call; None where it has no head, or no settings for it.

    A gate alone answers for frames that no segmenter sees, a segmenter for frames that the gate is sure of.

    Args:
        bundle: Opened.
        role: Whose outputs are answered.
        backend: What runs it.
    """
    spec = bundle.spec
    if spec.task not in HEADS:
        return None
    scale = spec.settings.get("mm_per_px")
    facts = Facts(mm_per_px=scale if isinstance(scale, float) else None)
    try:
        answerer = head_of(spec.task).answerer(spec, RULES.get(spec.task, {}), bundle.identity(backend), facts)
    except (BundleError, ConfigError):  # random weights come without settings
        return None
    raw = _RAW.get((spec.task, role), _single)
    counted = 0

    def answer(frames: NDArray[np.uint8], outputs: Outputs) -> None:
        nonlocal counted
        for number, frame in enumerate(frames):
            answerer.answer(Frame("bench", counted, 0, frame[0]), raw(outputs, number))
            counted += 1

    return answer
