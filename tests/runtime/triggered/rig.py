"""A triggered station in a thread of the test: real sockets, a real journal, a real engine on a tiny graph."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from runtime.bundle import open_bundle
from runtime.config import read_config
from runtime.delivery.client import Subscriber
from runtime.messages import Message
from runtime.station_parts import open_parts
from runtime.triggered.client import RequestClient
from runtime.triggered.station import check_trigger, run_triggered
from tests.fracture_bundles import surface


@dataclass(frozen=True, slots=True)
class Rig:
    """A station that runs: its endpoints and its hot folder."""

    publish: str
    replay: str
    request: str
    hot: Path
    swap: str = ""
    reload: threading.Event = field(default_factory=threading.Event)

    def client(self, timeout_s: float = 30.0, station: str | None = "rig") -> RequestClient:
        return RequestClient(self.request, station, timeout_s=timeout_s)

    def messages(self, count: int, within_s: float = 60.0) -> list[Message]:
        """The first so many messages of the station, `run_started` among them."""
        got: list[Message] = []
        give_up = time.monotonic() + within_s
        with Subscriber(self.publish, self.replay, station="rig") as subscriber:
            while len(got) < count and time.monotonic() < give_up:
                received = subscriber.receive(timeout_s=0.2)
                if received is not None:
                    got.append(received.message)
        return got


@contextlib.contextmanager
def rig(config_file: Path) -> Iterator[Rig]:
    """Run the station of a configuration until the block ends; its own errors are raised."""
    line = read_config(config_file)
    (config,) = line.stations
    assert config.trigger is not None
    bundle = open_bundle(config.bundle)
    check_trigger(config, config.trigger, bundle)
    stop, ready, reload = threading.Event(), threading.Event(), threading.Event()
    endpoints: list[str] = []
    failed: list[BaseException] = []
    with contextlib.ExitStack() as opened:
        parts = open_parts(opened, line, config, bundle)

        def say_ready(request: str, swap: str) -> None:
            endpoints.extend((request, swap))
            ready.set()

        def work() -> None:
            assert config.trigger is not None
            try:
                run_triggered(config, config.trigger, parts, stop.is_set, say_ready, reload)
            except BaseException as error:  # noqa: BLE001
                failed.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert ready.wait(60)
            if not failed:
                hot = config_file.parent / "hot"
                yield Rig(parts.publisher.endpoint, parts.replay.endpoint, endpoints[0], hot, endpoints[1], reload)
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


def png(brittle_ratio: float, seed: int, size_px: tuple[int, int] = (64, 96)) -> bytes:
    """The bytes of a picture's file."""
    done, data = cv2.imencode(".png", surface(brittle_ratio, seed, *size_px))
    assert done
    return data.tobytes()
