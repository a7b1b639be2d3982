from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles import make_strip_bundle


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What builds keep is kept here, and not in the home of whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_strip_bundle(tmp_path / "tiny", 64, 64)
