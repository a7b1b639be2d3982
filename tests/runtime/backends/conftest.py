"""Every backend in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.backends.openers import EVERY_BACKEND, WITHOUT_DEVICE, Backend


@pytest.fixture(params=EVERY_BACKEND)
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return request.param


@pytest.fixture(params=WITHOUT_DEVICE)
def sturdy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A backend that lives through what a device does not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return request.param
