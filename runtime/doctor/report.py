"""`ferrosight doctor`: what this machine has, what is wrong with it, and what to do.

A check is a function from the surroundings and what was asked to findings; `CHECKS` is all of them, in the order in
which they are shown. A check never raises: what it cannot find out is a finding too.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from runtime.backends import BACKENDS, DEFAULT_BACKEND
from runtime.config import LineConfig
from runtime.cuda import DEFAULT_API, CudaApi, open_cuda

if TYPE_CHECKING:
    from rich.console import Console

    from runtime.cuda.calls import Cuda

State = Literal["ok", "note", "problem"]
"""A note is worth knowing and stops nothing; a problem makes the exit code 1."""
MARKS: Mapping[State, tuple[str, str]] = MappingProxyType(
    {"ok": ("OK", "green"), "note": ("note", "yellow"), "problem": ("PROBLEM", "red")}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        area: Which check it belongs to, such as `GPU`.
        what: What was looked at.
        state: How it is.
        found: What was found.
        do: What to do; empty where nothing is to be done.
    """

    area: str
    what: str
    state: State
    found: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the report is about.

    Attributes:
        bundles: To look into.
        line: A line's configuration.
        backends: That are to work here; their lacks are problems, those of others are notes.
        cuda_apis: By which a GPU is to be driven; likewise, where a backend needs a GPU.
    """

    bundles: tuple[Path, ...] = ()
    line: LineConfig | None = None
    backends: frozenset[str] = frozenset({DEFAULT_BACKEND})
    cuda_apis: frozenset[CudaApi] = frozenset({DEFAULT_API})

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is needed."""
        return any(BACKENDS[name].on_gpu for name in self.backends if name in BACKENDS)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Through what a check looks at the machine.

    Attributes:
        root: Of the file system.
        run: The output of a command; None where it is not there or fails.
        find: Whether a library can be imported.
        version: Of a library, None where it does not say; runs in a process of its own, for some crash when imported.
        open_cuda: Opens the first GPU by an implementation.
        in_environment: Whether Python runs in a virtual environment that hides the system's packages.
    """

    root: Path
    run: Callable[[Sequence[str]], str | None]
    find: Callable[[str], bool]
    version: Callable[[str], str | None]
    open_cuda: Callable[[Any], Cuda]
    in_environment: bool


Check = Callable[[Surroundings, Asked], Iterator[Finding]]


def examine(asked: Asked, around: Surroundings | None = None) -> list[Finding]:
    """All findings, in the order of the checks.

    Args:
        asked: What the report is about.
        around: Through what to look; None takes this machine.
    """
    from runtime.doctor.bundle import check_bundles
    from runtime.doctor.gpu import check_clocks, check_cuda, check_gpu, check_tensorrt
    from runtime.doctor.line import check_cameras, check_ports
    from runtime.doctor.machine import check_backends, check_folders, check_python

    checks: tuple[Check, ...] = (
        check_python, check_backends, check_gpu, check_cuda, check_tensorrt, check_clocks, check_folders, check_cameras,
        check_ports, check_bundles,
    )  # fmt: skip
    looked = this_machine() if around is None else around
    return [finding for check in checks for finding in check(looked, asked)]


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Whether there is no problem."""
    return all(finding.state != "problem" for finding in findings)


def to_json(findings: Sequence[Finding]) -> str:
    """The report for programs."""
    report = {"schema": "ferrosight.doctor/1", "healthy": is_healthy(findings), "findings": list(map(asdict, findings))}
    return json.dumps(report, indent=2)


def show(findings: Sequence[Finding], console: Console) -> None:
    """The report for people: a line each, and under it what to do."""
    from rich.markup import escape

    area = ""
    for finding in findings:
        if finding.area != area:
            area = finding.area
            console.print(f"\n[bold]{escape(area)}[/bold]")
        mark, colour = MARKS[finding.state]
        console.print(f"  [{colour}]{mark:8}[/{colour}]{escape(finding.what)}: {escape(finding.found)}", soft_wrap=True)
        if finding.do:
            console.print(f"          -> {escape(finding.do)}", soft_wrap=True)
    problems = sum(finding.state == "problem" for finding in findings)
    console.print(f"\n{problems or 'no'} problem{'' if problems == 1 else 's'}")


def this_machine() -> Surroundings:
    """The machine on which this runs."""
    return Surroundings(
        root=Path("/"),
        run=_run,
        find=_find,
        version=_version,
        open_cuda=open_cuda,
        in_environment=sys.prefix != sys.base_prefix and not _sees_the_system(),
    )


def _run(command: Sequence[str]) -> str | None:
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _find(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _version(library: str) -> str | None:
    code = f"import {library}; print(getattr({library}, '__version__', ''))"
    said = _run([sys.executable, "-c", code])
    return (said.strip().splitlines() or [""])[-1] or None if said is not None else None


def _sees_the_system() -> bool:
    """Whether the virtual environment was made with --system-site-packages."""
    try:
        text = (Path(sys.prefix) / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(line.replace(" ", "").lower() == "include-system-site-packages=true" for line in text.splitlines())
