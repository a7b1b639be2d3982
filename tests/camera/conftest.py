"""For tests of cameras in processes: drivers that go wrong, and nothing that is left behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.camera.rings import descriptors_open


@pytest.fixture
def faulty_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the drivers that go wrong importable, here and in the cameras' processes."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def nothing_is_left_behind() -> Iterator[None]:
    """No descriptor, no process, no zombie."""
    gc.collect()  # what earlier tests dropped is not to be freed in the middle of this one
    descriptors = descriptors_open()
    yield
    assert psutil.Process().children() == []
    assert descriptors_open() == descriptors


@pytest.fixture
def openings(tmp_path: Path) -> Path:
    return tmp_path / "openings"
