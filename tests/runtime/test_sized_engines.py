from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle import open_bundle
from runtime.cuda.calls import Owner
from runtime.errors import EngineError
from runtime.sized_engines import SIZES_KEPT, SizedEngines
from tests.fracture_bundles import make_fracture_bundle

SIZES = [(40, 40 + 8 * number) for number in range(SIZES_KEPT)]


@dataclass
class OwnedPipeline:
    """A pipeline of nothing but its owner."""

    owner: Owner = field(default_factory=lambda: Owner("test"))

    def hand_over(self) -> None:
        self.owner.hand_over()

    def take_over(self) -> None:
        self.owner.take_over()

    def keep_awake(self) -> None:
        self.owner.check()

    def close(self) -> None:
        self.owner.close()


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SizedEngines:
    """Engines of every size, made by a thread that is gone."""
    monkeypatch.setattr(SizedEngines, "_open_pipeline", lambda *_: OwnedPipeline())
    made: list[Any] = []

    def work() -> None:
        made.append(SizedEngines(open_bundle(make_fracture_bundle(tmp_path / "b")), "openvino"))
        for size in SIZES:
            made[0].open(size)
        made[0].hand_over()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return made[0]


def test_the_engines_of_all_sizes_change_hands(engines: SizedEngines) -> None:
    with pytest.raises(EngineError, match="expected the thread that owns"):
        engines.keep_awake()
    engines.take_over()
    engines.keep_awake()
    engines.hand_over()
    with pytest.raises(EngineError, match="expected the thread that owns"):
        engines.keep_awake()


def test_sizes_are_named_in_the_order_of_their_use_as_long_as_they_are_open(engines: SizedEngines) -> None:
    assert engines.sizes_px == tuple(SIZES)
    engines.open(SIZES[0])
    engines.open((80, 80))
    assert engines.sizes_px == (*SIZES[2:], SIZES[0], (80, 80))
    engines.close()
    assert engines.sizes_px == ()
