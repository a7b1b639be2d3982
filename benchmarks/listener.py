"""A subscriber in a process of its own, as every real line has one: it counts messages until the run has ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from runtime.errors import WireError

JOIN_S = 20.0
"""Longest wait for the subscriber's process to start and connect."""

END_S = 10.0
"""Longest wait, after the run, for the last message to arrive."""


class Listener:
    """Starts the process around a run.

    Attributes:
        heard: Messages of the last run that it received, heartbeats left out.
    """

    def __init__(self) -> None:
        self.heard = 0

    @contextlib.contextmanager
    def around(self, endpoint: str, beat: Callable[[], None]) -> Iterator[None]:
        """Subscribe to an endpoint; within, the subscriber is connected.

        Args:
            endpoint: Of a PUB socket.
            beat: Sends a heartbeat if one is due, by which the subscriber sees that it is connected.

        Raises:
            WireError: The subscriber did not connect, or heard no end of the run.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.listener", endpoint],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "PYTHONSAFEPATH": "1",
            },
        )
        try:
            _read(process, "connected", JOIN_S, beat)
            yield
            self.heard = int(_read(process, "heard", END_S, lambda: None))
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _read(process: subprocess.Popen[str], word: str, timeout_s: float, meanwhile: Callable[[], None]) -> str:
    """The rest of the line that begins with `word`."""
    import select

    if process.stdout is None:
        raise WireError("subscriber: has no output. This is a fault of the benchmark: report it.")
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if select.select([process.stdout], [], [], 0.02)[0]:
            found, _, rest = process.stdout.readline().strip().partition(" ")
            if found == word:
                return rest
            break
        meanwhile()
    raise WireError(
        f"subscriber: found no {word!r} of its process within {timeout_s:g} s, expected one. "
        "Measure again on a machine that is less busy."
    )


def main(endpoint: str) -> None:
    """Count messages from `endpoint` until a run has ended, and print the number."""
    import zmq

    with zmq.Context[zmq.Socket[bytes]]() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.RCVHWM, 0)
        socket.subscribe(b"")
        socket.connect(endpoint)
        heard, joined, kind = 0, False, b""
        while kind != b"run_ended":
            topic = socket.recv_multipart()[0]
            kind = topic.rpartition(b"/")[2]
            heard += kind != b"heartbeat"
            if not joined:
                joined = True
                print("connected", flush=True)
        print(f"heard {heard}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
