"""Grabbers of cameras that go wrong, and what came of them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from camera.base import CameraError, Lost
from camera.config import GrabberSettings, RingSettings
from camera.grabber import Grabber
from camera.ring import Batch, Policy

WAIT = RingSettings(slots=16, policy=Policy.WAIT)
QUICK = GrabberSettings(hang_timeout_s=1.5, stop_timeout_s=1.0, restart_first_s=0.05, restart_most_s=0.2)
PATIENCE_S = 90.0  # a stuck test ends; a slow machine does not fail it


def faulty(openings: Path, fault: str, **values: Any) -> Any:
    from faulty_drivers import FaultySettings

    return FaultySettings(fault=fault, openings=openings, name="top", **values)


def grabber(settings: Any, ring: RingSettings = WAIT, watch: GrabberSettings = QUICK, **values: Any) -> Grabber:
    from faulty_drivers import FAULTY_DRIVERS

    return Grabber(settings, ring=ring, watch=watch, drivers=FAULTY_DRIVERS, **values)


def claim_all(source: Grabber, max_frames: int = 4, fill_s: float = 0.0) -> list[Batch | Lost]:
    """Everything until the end, each batch released at once."""
    events: list[Batch | Lost] = []
    give_up = time.monotonic() + PATIENCE_S
    while not source.ended:
        event = source.claim(max_frames, 0.2, fill_s=fill_s)
        if event is not None:
            events.append(event)
        if isinstance(event, Batch):
            event.release()
        assert time.monotonic() < give_up
    assert source.claim(max_frames, 0.0) is None
    return events


def claim_until_gone(source: Grabber, kills: int = 0) -> tuple[list[Batch | Lost], str]:
    """Everything until the camera is gone for good, and the error's text; kill its process after some batches."""
    events: list[Batch | Lost] = []
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        try:
            event = source.claim(4, 1.0)
        except CameraError as error:
            return events, str(error)
        if event is not None:
            events.append(event)
        if isinstance(event, Batch):
            event.release()
            if kills and source.pid is not None:
                os.kill(source.pid, signal.SIGKILL)
                kills -= 1
    pytest.fail("the camera is still there")


def indexes(events: list[Batch | Lost]) -> list[int]:
    """Every index in the order of its answer."""
    covered: list[int] = []
    for each in events:
        stop = each.first_index + len(each) if isinstance(each, Batch) else each.stop_index
        covered.extend(range(each.first_index, stop))
    return covered


def frames(events: list[Batch | Lost]) -> int:
    return sum(len(each) for each in events if isinstance(each, Batch))


def outages(events: list[Batch | Lost]) -> list[Lost]:
    return [each for each in events if isinstance(each, Lost) and each.reason == "camera_outage"]
