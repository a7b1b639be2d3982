"""Frames through an engine."""

from __future__ import annotations

import numpy as np

from runtime.engine import Engine, EngineSettings

SETTINGS = EngineSettings(max_batch=4, slots=3)


def run(engine: Engine, frames: np.ndarray) -> dict[str, np.ndarray]:
    ticket = engine.submit(frames)
    outputs = {name: value.copy() for name, value in engine.collect(ticket).items()}
    engine.release(ticket)
    return outputs
