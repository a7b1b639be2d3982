"""A station to listen to, and a journal to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.delivery.journal import Journal
from tests.runtime.delivery.stations import Station
from tests.runtime.delivery.wire import LINE


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with Station(tmp_path) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal(path, LINE) as opened:
        yield opened
