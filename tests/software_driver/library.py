"""The software CUDA driver as a `libcuda.so.1`, compiled where it is needed, for processes of their own.

A process that is started with `environment(folder)` finds it where others find NVIDIA's; this one never loads it. It
calls itself `DEVICE_NAME`, so that nobody takes it for a GPU.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

DEVICE_NAME = "Software CUDA driver"
LIBRARY = "libcuda.so.1"
SOURCES = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc or gcc): the software driver needs one")


def compile_driver(folder: Path) -> Path:
    """Compile the driver into a folder; gives the folder.

    Raises:
        CalledProcessError: The compiler refused; what it says stands in `stderr`.
    """
    unused = folder / "unused.c"
    unused.write_text("".join(f"{each}\n" for each in ("enum { NOT_SUPPORTED = 801 };", *_stubs())), encoding="utf-8")
    sources = [*sorted(SOURCES.glob("*.c")), unused]
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread"]
    name = f'-DDEVICE_NAME="{DEVICE_NAME}"'
    command = [str(COMPILER), *flags, name, *map(str, sources), "-o", str(folder / LIBRARY), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The variables of a process that is to find the driver in a folder, before any other."""
    searched = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(searched)}


def _stubs() -> list[str]:
    """Functions that PyCUDA is linked with and the driver does not have; each refuses."""
    spec = importlib.util.find_spec("pycuda")
    folders = spec.submodule_search_locations if spec is not None else None
    extensions = [str(each) for folder in folders or () for each in Path(folder).glob("_driver*.so")]
    if not extensions:
        return []
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", *extensions], check=True, capture_output=True, text=True
    ).stdout
    called = {line.split()[-1] for line in listed.splitlines() if line.split()[-1].startswith("cu")}
    written = "".join(each.read_text(encoding="utf-8") for each in SOURCES.glob("*.c"))
    return [
        f'__attribute__((visibility("default"))) int {name}(void) {{ return NOT_SUPPORTED; }}'
        for name in sorted(called)
        if f"API CUresult {name}(" not in written
    ]
