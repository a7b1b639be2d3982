"""The doctor's look at Python, the backends and the folders."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from runtime.backends import BACKENDS, CPU_BACKENDS
from runtime.doctor.report import Asked, Finding, Surroundings
from runtime.errors import EngineError
from runtime.plans.user_cache import cache_folder, try_out

LEAST_PYTHON = (3, 10)
LEAST_FREE_GIB = 2.0
"""A journal of a shift and the plans of a bundle."""


def check_python(_: Surroundings, __: Asked) -> Iterator[Finding]:
    """The interpreter, and ferrosight itself."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < LEAST_PYTHON:
        yield Finding("Python", "version", "problem", found, "Install Python 3.10 or newer.")
    else:
        yield Finding("Python", "version", "ok", found)
    try:
        yield Finding("Python", "ferrosight", "ok", version("ferrosight"))
    except PackageNotFoundError:
        yield Finding("Python", "ferrosight", "note", "a checkout that is not installed", "pip install -e .")


def check_backends(around: Surroundings, asked: Asked) -> Iterator[Finding]:
    """The libraries of the CPU's backends; absent ones matter where they are asked for."""
    for name in sorted(asked.backends - set(BACKENDS)):
        yield Finding("Backends", name, "problem", "no such backend", f"Give one of {', '.join(BACKENDS)}.")
    for name in CPU_BACKENDS:
        entry = BACKENDS[name]
        if not around.find(entry.library):
            wanted = name in asked.backends
            yield Finding(
                "Backends", name, "problem" if wanted else "note", "not installed", entry.install_command
            )  # fmt: skip
            continue
        found = around.version(entry.library)
        if found is None:
            yield Finding(
                "Backends",
                name,
                "problem" if name in asked.backends else "note",
                "installed, and cannot be imported",
                f"Run: python -c 'import {entry.library}', and install again: {entry.install_command}",
            )
        else:
            yield Finding("Backends", name, "ok", found)


def check_folders(_: Surroundings, asked: Asked) -> Iterator[Finding]:
    """Where kernels and journals are kept."""
    try:
        try_out(cache_folder())
        yield Finding("Folders", "kernel cache", "ok", f"{cache_folder()} can be written")
    except EngineError:
        yield Finding(
            "Folders",
            "kernel cache",
            "problem" if asked.on_gpu else "note",
            f"{cache_folder()} cannot be written",
            "Set XDG_CACHE_HOME to a folder that can; without it TensorRT-RTX compiles for minutes at each start.",
        )
    stations = asked.line.stations if asked.line is not None else ()
    for station in stations:
        folder = next((each for each in station.journal.absolute().parents if each.exists()), None)
        free_gib = 0.0 if folder is None else shutil.disk_usage(folder).free / 2**30
        state, do = ("ok", "") if free_gib >= LEAST_FREE_GIB else ("problem", "Make room, or move the journal.")
        yield Finding("Folders", f"journal of {station.name}", state, f"{free_gib:.1f} GiB free for it", do)
