from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.backends import BACKENDS, DEFAULT_BACKEND, BackendEntry, open_engine
from runtime.engine import EngineSettings
from runtime.errors import EngineError
from tests.runtime.backends.graphs import write_pair


def test_an_unknown_backend_lists_the_known_ones(tmp_path: Path) -> None:
    graph = write_pair(tmp_path / "pair.onnx")
    with pytest.raises(EngineError, match="'tensorflow': found no such backend, expected one of onnxruntime, openvino"):
        open_engine("tensorflow", tmp_path / "pair.onnx", graph, EngineSettings(max_batch=1))


def test_an_absent_library_names_its_install_command(tmp_path: Path) -> None:
    graph = write_pair(tmp_path / "pair.onnx")
    table = {"rare": BackendEntry("runtime.backends.rare", "open_rare", "no_such_library", "pip install rare")}
    with pytest.raises(EngineError, match=r"no library 'no_such_library'.*Run: pip install rare"):
        open_engine("rare", tmp_path / "pair.onnx", graph, EngineSettings(max_batch=1), backends=table)


def test_a_broken_library_is_said_to_be_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text("raise ImportError('libtbb.so.12: not found')")
    (tmp_path / "broken_backend.py").write_text("import broken_library")
    monkeypatch.syspath_prepend(tmp_path)
    graph = write_pair(tmp_path / "pair.onnx")
    table = {"rare": BackendEntry("broken_backend", "open_rare", "broken_library", "pip install rare")}
    with pytest.raises(EngineError, match=r"cannot be imported \(libtbb.so.12: not found\).*pip install rare"):
        open_engine("rare", tmp_path / "pair.onnx", graph, EngineSettings(max_batch=1), backends=table)


def test_the_table_names_real_modules_and_a_default() -> None:
    assert DEFAULT_BACKEND in BACKENDS
    for entry in BACKENDS.values():
        file = Path(__file__).parents[3] / (entry.module.replace(".", "/") + ".py")
        assert f"def {entry.function}(" in file.read_text(encoding="utf-8")


def test_the_table_imports_no_library() -> None:
    code = (
        "import sys, runtime.backends, runtime.backends.slots, runtime.backends.contract; "
        "print(sorted({'openvino', 'onnxruntime', 'torch', 'cv2'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert found.stdout.strip() == "[]"
