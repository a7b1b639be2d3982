"""The doctor's look at what a line needs: cameras, and the ports of its stations."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from camera.base import CameraError
from camera.open import DRIVERS, driver_of
from runtime.doctor.report import Asked, Finding, Surroundings

ARAVIS = "usr/lib/*/girepository-1.0/Aravis-0.8.typelib"


def check_cameras(around: Surroundings, asked: Asked) -> Iterator[Finding]:
    """The libraries of the drivers, the video devices, and the cameras of the line; none is opened."""
    yield Finding("Cameras", "drivers", "ok", ", ".join(sorted(DRIVERS)))
    if around.find("cv2"):
        yield Finding("Cameras", "OpenCV", "ok", around.version("cv2") or "of an unknown version")
    else:
        yield Finding("Cameras", "OpenCV", "problem", "not installed", "pip install ferrosight")
    if around.find("gi") and list(around.root.glob(ARAVIS)):
        yield Finding("Cameras", "Aravis", "ok", "installed (GigE Vision, USB3 Vision)")
    else:
        yield Finding(
            "Cameras", "Aravis", "note", "not installed: no GigE Vision and USB3 Vision cameras",
            "apt install gir1.2-aravis-0.8 python3-gi",
        )  # fmt: skip
    devices = sorted((around.root / "sys/class/video4linux").glob("video*"))
    if devices:
        yield Finding("Cameras", "video devices", "ok", ", ".join(f"/dev/{each.name}" for each in devices))
    for station in asked.line.stations if asked.line is not None else ():
        if station.camera is None:
            continue
        what = f"camera of {station.name}"
        try:
            driver_of(station.camera.kind)
        except CameraError as error:
            yield Finding("Cameras", what, "problem", str(error), "Change its kind.")
            continue
        path = getattr(station.camera, "path", None)
        if isinstance(path, Path) and not path.exists():
            yield Finding("Cameras", what, "problem", f"{path} is not there", "Correct its path.")
        else:
            yield Finding("Cameras", what, "ok", f"{station.camera.kind} (ferrosight camera show tries it out)")


def check_ports(_: Surroundings, asked: Asked) -> Iterator[Finding]:
    """Whether each station could bind where it publishes."""
    for station in asked.line.stations if asked.line is not None else ():
        for endpoint in station.endpoints:
            fault = _why_not_bind(endpoint)
            if fault is None:
                yield Finding("Ports", f"{station.name} {endpoint}", "ok", "free")
            else:
                yield Finding("Ports", f"{station.name} {endpoint}", "problem", *fault)


def _why_not_bind(endpoint: str) -> tuple[str, str] | None:
    """What stands against binding a ZeroMQ endpoint, and what to do; None where nothing does."""
    parts = urlsplit(endpoint)
    if parts.scheme != "tcp" or endpoint.endswith(":*"):
        return None
    host = "" if parts.hostname in (None, "*") else str(parts.hostname)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host or "0.0.0.0", parts.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE  # noqa: S104  as asked for
        )[0]  # fmt: skip
    except (OSError, ValueError) as error:
        return f"no address of this machine ({error})", "Correct the endpoint."
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(place)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "in use", f"Is the station running? Who has it: ss -ltnp 'sport = :{parts.port}'"
            return f"cannot be bound ({error.strerror})", "Take a port from 1024 up, and an address of this machine."
    return None
