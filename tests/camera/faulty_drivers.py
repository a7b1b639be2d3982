"""Drivers that go wrong in every way that a camera's driver does; a file counts how often they were opened."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np

from camera.base import CameraError, Frame, Lost
from camera.config import NamedSettings
from camera.open import DRIVERS, Driver

Fault = Literal[
    "none",
    "hang",
    "hang_in_c",
    "hang_in_open",
    "hang_in_close",
    "crash",
    "exit",
    "camera_error",
    "bug",
    "backwards",
    "resize",
    "print",
]


class FaultySettings(NamedSettings):
    """Which fault, when, and in how many of the openings."""

    kind: Literal["faulty"] = "faulty"
    fault: Fault
    after_frames: int = 5
    faulty_openings: tuple[int, ...] = (1,)
    frames: int | None = 10
    period_s: float = 0.0
    openings: Path
    is_live: bool = True


class FaultyCamera:
    """Counts from 100 upwards, shows its index, jumps over 103, and then fails."""

    height_px = 4
    width_px = 8

    def __init__(
        self,
        name: str,
        settings: FaultySettings,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep_s: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._settings = settings
        self._clock_ns = clock_ns
        self._sleep_s = sleep_s
        with settings.openings.open("a") as file:
            file.write("x")
        opening = settings.openings.stat().st_size
        self._fault = settings.fault if opening in settings.faulty_openings else "none"
        self._given = 0
        if self._fault == "hang_in_open":
            time.sleep(1000)
        if self._fault == "resize":
            self.height_px = 5

    def grab(self, timeout_s: float) -> Frame | Lost | None:
        if self._given == self._settings.after_frames:
            self._fail()
        if self._settings.frames is not None and self._given >= self._settings.frames:
            return None
        self._sleep_s(self._settings.period_s)
        index = 100 + self._given + (self._given > 2)
        self._given += 1
        return Frame(
            self.name, index, self._clock_ns(), np.full((self.height_px, self.width_px), index % 256, np.uint8)
        )

    def _fail(self) -> None:
        if self._fault == "hang":
            time.sleep(1000)
        elif self._fault == "hang_in_c":
            ctypes.PyDLL(None).sleep(1000)  # keeps the interpreter's lock, as a bad extension module does
        elif self._fault == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self._fault == "exit":
            os._exit(3)
        elif self._fault == "camera_error":
            raise CameraError(f"camera {self.name}: its cable was pulled, expected a cable. Plug it in.")
        elif self._fault == "bug":
            raise ZeroDivisionError("an oversight")
        elif self._fault == "backwards":
            self._given = 0
            self._fault = "none"
        elif self._fault == "print":
            os.write(1, b"a library's chatter\n")

    def close(self) -> None:
        if self._fault == "hang_in_close":
            time.sleep(1000)

    def __enter__(self) -> FaultyCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


FAULTY_DRIVERS = {
    **DRIVERS,
    "faulty": Driver(
        "faulty_drivers",
        "FaultyCamera",
        "faulty_drivers:FaultySettings",
        is_live=lambda settings: settings.is_live,
        counts=True,
    ),
}
