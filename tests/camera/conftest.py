"""Makes the drivers that go wrong importable, here and in the cameras' processes."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def faulty_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
