"""What TensorRT found out on this machine, kept on disk, so that only the first time is slow.

TensorRT-RTX compiles kernels when a plan is opened, and TensorRT times kernels when one is built; how long a build took
tells how long the next one will. What is in such a file runs on the GPU, or decides what does. A plan is vouched for by
its bundle; these files by their folder alone, so they are read only where nobody but this user could have written them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import EngineError
from runtime.plans.manifest import EngineManifest
from runtime.plans.preflight import Site

log = logging.getLogger(__name__)

KERNELS, TIMINGS, SECONDS = ".kernels", ".timings", ".seconds"


@dataclass(frozen=True, slots=True)
class UserCache:
    """One file in the user's cache folder."""

    path: Path

    @classmethod
    def of_kernels(cls, folder: Path | None, plan_sha256: str, site: Site, driver_cuda: str) -> UserCache:
        """The kernels that were compiled for a plan on a machine.

        Args:
            folder: Where; None takes the user's cache folder.
            plan_sha256: Of the plan.
            site: Where it runs.
            driver_cuda: The newest CUDA that the driver serves; another driver compiles anew.

        Raises:
            EngineError: The folder cannot be written: every start would compile again, for minutes.
        """
        return cls._in(folder, (plan_sha256, *_machine(site), driver_cuda), KERNELS)

    @classmethod
    def of_timings(cls, folder: Path | None, site: Site) -> UserCache:
        """What kernels were timed to take on a machine, whatever graph they were for.

        Args:
            folder: Where; None takes the user's cache folder.
            site: Where plans are built.

        Raises:
            EngineError: The folder cannot be written: every build would time all kernels again, for minutes.
        """
        return cls._in(folder, _machine(site), TIMINGS)

    @classmethod
    def of_build_seconds(cls, folder: Path | None, manifest: EngineManifest) -> UserCache:
        """How long it took to build a plan on this machine.

        Args:
            folder: Where; None takes the user's cache folder.
            manifest: Of the plan.

        Raises:
            EngineError: The folder cannot be written.
        """
        return cls._in(folder, (manifest.to_json(),), SECONDS)

    @classmethod
    def _in(cls, folder: Path | None, key: Sequence[str], suffix: str) -> UserCache:
        chosen = cache_folder() if folder is None else folder
        try_out(chosen)
        return cls(chosen / f"{hashlib.sha256(chr(10).join(key).encode()).hexdigest()[:24]}{suffix}")

    def read(self) -> bytes | None:
        """What is kept; None where there is nothing, or where somebody else could have written it."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cache %s: not read: %s", self.path, error.strerror)
            return None
        with os.fdopen(descriptor, "rb") as file:
            if not (_is_ours(os.fstat(file.fileno())) and _is_ours(self.path.parent.stat())):
                log.warning("cache %s: not read: others than its owner may write it", self.path)
                return None
            return file.read()

    def write(self, data: bytes) -> None:
        """Keep it, whole or not at all; a full disk costs the next start some time and nothing else."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=".cache-", delete=False) as file:
                file.write(data)
            Path(file.name).replace(self.path)
        except OSError as error:
            log.warning("cache %s: not written: %s", self.path, error.strerror)


def cache_folder() -> Path:
    """The user's folder for what can be made again: `$XDG_CACHE_HOME/ferrosight`, or `~/.cache/ferrosight`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "ferrosight"


def try_out(folder: Path) -> None:
    """Make a folder for this user alone, if it is not there, and write to it.

    Raises:
        EngineError: It cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".try-") as file:
            file.write(b"ferrosight")
            file.flush()
    except OSError as error:
        raise EngineError(
            f"cache {folder}: {error.strerror or error}, expected a folder that can be written. Set "
            "XDG_CACHE_HOME to such a folder."
        ) from error


def _machine(site: Site) -> tuple[str, ...]:
    return site.flavour, site.version, site.gpu.name, site.gpu.capability


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
