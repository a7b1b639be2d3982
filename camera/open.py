"""The table of camera drivers, and the one way to open a camera."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from camera.base import Camera, CameraError
from camera.config import NamedSettings


@dataclass(frozen=True, slots=True)
class Driver:
    """Where a driver lives and what kind of source it is.

    Attributes:
        module: Imported only when a camera of this kind is opened.
        camera: The class in `module`, called with (name, settings, *, clock_ns, sleep_s).
        settings: The settings' class as `module:class`.
        is_live: Whether the source goes on without us, so that it is worth a restart after a failure; a file
            would begin again at its first frame.
        counts: Whether a frame that was not fetched in time shows in the counter.
    """

    module: str
    camera: str
    settings: str
    is_live: Callable[[Any], bool]
    counts: bool


DRIVERS: Mapping[str, Driver] = MappingProxyType(
    {
        "synthetic": Driver(
            "camera.synthetic",
            "SyntheticCamera",
            "camera.config:SyntheticCameraSettings",
            is_live=lambda settings: settings.paced,
            counts=True,
        ),
        "folder": Driver(
            "camera.folder",
            "FolderCamera",
            "camera.config:FolderSettings",
            is_live=lambda _: False,
            counts=True,
        ),
        "opencv": Driver(
            "camera.opencv_driver",
            "OpenCvCamera",
            "camera.config:OpenCvSettings",
            is_live=lambda settings: settings.path is None,
            counts=False,
        ),
    }
)
"""Every kind of camera; a new driver is a module and a line here."""


def driver_of(kind: str, drivers: Mapping[str, Driver] = DRIVERS) -> Driver:
    """The driver of a kind of camera.

    Raises:
        CameraError: There is none.
    """
    if kind not in drivers:
        raise CameraError(
            f"camera: found no driver {kind!r}, expected one of {', '.join(sorted(drivers))}. Change 'kind'."
        )
    return drivers[kind]


def open_camera(
    settings: NamedSettings,
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep_s: Callable[[float], None] = time.sleep,
    drivers: Mapping[str, Driver] = DRIVERS,
) -> Camera:
    """Open a camera in this process. A line uses `camera.grabber.Grabber`, which gives it one of its own.

    Args:
        settings: Any of `camera.config.CameraSettings`.
        clock_ns: A monotonic clock in nanoseconds.
        sleep_s: Waits for so many seconds.
        drivers: The table of drivers.

    Raises:
        CameraError: The camera cannot be opened.
    """
    kind: str = settings.kind  # pyright: ignore[reportAttributeAccessIssue]  - every member of the union has it
    driver = driver_of(kind, drivers)
    return load_camera(driver.module, driver.camera)(settings.name, settings, clock_ns=clock_ns, sleep_s=sleep_s)


def load_camera(module: str, camera: str) -> Callable[..., Camera]:
    """The class of a driver, imported now.

    Raises:
        CameraError: Its module, or a library that it needs, is not installed.
    """
    try:
        return getattr(importlib.import_module(module), camera)
    except ImportError as error:
        raise CameraError(
            f"camera driver {module}: cannot be imported ({error}), expected it and its libraries to be "
            "installed. Run 'pip install ferrosight' again."
        ) from error


def settings_class(driver: Driver) -> type[NamedSettings]:
    """The class of a driver's settings, imported now."""
    module, name = driver.settings.split(":")
    return getattr(importlib.import_module(module), name)
