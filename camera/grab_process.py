"""A process that does nothing but grab: its main function, and the handle by which it is started and watched.

A driver is other people's code in C: it may hang, crash or leak, and must not take the inspection along. So it
runs alone, and this is all that passes between it and its parent besides the ring:

```
parent -> child  boot      which driver, which settings, which policy
child  -> parent opened    the size of the frames
parent -> child  ring      the ring's size, and its descriptors
child  -> parent ended     the source has no more frames, or was asked to stop
child  -> parent failed    why not
```
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from camera.account import Ledger
from camera.base import Camera, CameraError, Frame, Lost, PlacingCamera
from camera.config import NamedSettings
from camera.open import Driver, load_camera, settings_class
from camera.promptness import run_in_turn, wake_when_due
from camera.ring_memory import Policy, RingHandles
from camera.ring_writer import RingWriter

_GRAB_S = 0.2
"""The longest time in a driver or before a full ring without a sign of life and a look at the stop request."""
_MESSAGE_BYTES = 1 << 16
_SENTENCES = ("camera ", "picture ", "folder ", "ring: ")  # how an error begins that says all by itself


class GrabProcess:
    """A camera's process, seen from its parent.

    Args:
        driver: Which driver.
        settings: Of the camera.
        policy: What to do when the ring is full.
    """

    def __init__(self, driver: Driver, settings: NamedSettings, policy: Policy) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lifeline_out, self._lifeline = os.pipe()
        self._gone = False
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "camera.grab_process", str(theirs.fileno()), str(lifeline_out)],
                stdin=subprocess.DEVNULL,
                stdout=2,  # a library that prints must not write into our output
                pass_fds=(theirs.fileno(), lifeline_out),
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                    "PYTHONSAFEPATH": "1",
                },
            )
        os.close(lifeline_out)
        self._control.setblocking(False)
        self._send(
            {
                "driver": [driver.module, driver.camera, driver.settings],
                "settings": settings.model_dump(mode="json"),
                "policy": policy.value,
            }
        )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def gone(self) -> bool:
        """Whether `messages` has seen the process end."""
        return self._gone

    def fileno(self) -> int:
        """Becomes readable when there is a message, or when the process ends."""
        return self._control.fileno()

    def messages(self) -> list[dict[str, Any]]:
        """What the process has said since the last call."""
        said: list[dict[str, Any]] = []
        while not self._gone:
            try:
                data = self._control.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            if not data:
                self._gone = True
                break
            said.append(json.loads(data))
        return said

    def send_ring(self, handles: RingHandles) -> None:
        """Let the process write into a ring."""
        size = {"slots": handles.slots, "height_px": handles.height_px, "width_px": handles.width_px}
        self._send(size, handles.descriptors)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the process; False if it has not come in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.returncode is not None

    def end(self) -> str:
        """Kill the process if it still lives, collect it, and say in words how it ended."""
        if self._process.poll() is None:
            self._process.kill()
        status = self._process.wait()
        self._gone = True
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        self._control.close()
        return f"status {status}" if status >= 0 else signal.Signals(-status).name

    def _send(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        rights = array.array("i", descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
        # A process that has just died is seen by `messages`, and told there.
        with contextlib.suppress(ConnectionError):
            self._control.sendmsg([json.dumps(message).encode()], ancillary)


def in_full(camera: str, fault: str) -> str:
    """What ended a camera's process as a whole error; a driver's own says already who, what and what to do."""
    if fault.startswith(_SENTENCES):
        return fault
    return f"camera {camera}: {fault}; expected it to deliver frames. 'ferrosight camera show' tries it alone."


def pump(camera: Camera, writer: RingWriter) -> None:
    """Move everything that a camera delivers into the ring, until it ends or the reader asks to stop.

    A jump of the camera's counter becomes a loss here, and nowhere else.

    Raises:
        CameraError: The camera failed, or its counter ran backwards.
    """
    ledger = Ledger(camera.name)
    placing = camera if isinstance(camera, PlacingCamera) else None
    while not writer.stop_requested:
        writer.beat()
        slot = writer.lend() if placing is not None else None
        try:
            grabbed = camera.grab(_GRAB_S) if placing is None or slot is None else placing.grab_into(slot, _GRAB_S)
        except TimeoutError:
            writer.flush()
            continue
        if grabbed is None:
            break
        gap = ledger.lost(grabbed) if isinstance(grabbed, Lost) else ledger.frame(grabbed.index)
        if gap is not None:
            _insist(writer, gap)
        _insist(writer, grabbed)
    while not writer.flush(_GRAB_S) and not writer.stop_requested:
        writer.beat()


def _insist(writer: RingWriter, event: Frame | Lost) -> None:
    """Offer an event until the ring has room for it, or nobody wants it any more."""
    offer = writer.lose if isinstance(event, Lost) else writer.put
    while not offer(event, _GRAB_S) and not writer.stop_requested:  # pyright: ignore[reportArgumentType]
        writer.beat()


def _serve(control: socket.socket) -> None:
    """Boot, open, and pump."""
    boot = json.loads(control.recv(_MESSAGE_BYTES))
    driver = Driver(*boot["driver"], is_live=bool, counts=True)  # what the parent knows of it does not matter here
    settings = settings_class(driver).model_validate(boot["settings"])
    make = load_camera(driver.module, driver.camera)
    with make(settings.name, settings, clock_ns=time.monotonic_ns, sleep_s=time.sleep) as camera:
        _say(control, {"event": "opened", "height_px": camera.height_px, "width_px": camera.width_px})
        data, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 5)
        size = json.loads(data)
        handles = RingHandles(size["slots"], size["height_px"], size["width_px"], *descriptors)
        pump(camera, RingWriter(settings.name, handles, Policy(boot["policy"])))
    _say(control, {"event": "ended"})


def _say(control: socket.socket, message: dict[str, Any]) -> None:
    control.send(json.dumps(message).encode())


def _die_with_parent(lifeline: int) -> None:
    """Ask the kernel to end this process when the other end of a pipe is closed, that is, when the parent is gone.

    The kernel does it itself, by SIGIO, even while a driver hangs in C and no Python runs. The usual way,
    PR_SET_PDEATHSIG, would end us with the parent's *thread* that started us.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline, 0)
    if poll.poll(0):  # it was closed before we asked
        os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Run a driver until it ends; the parent gives two descriptors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer: what was grabbed still counts
    _die_with_parent(int(arguments[1]))
    wake_when_due()
    run_in_turn()  # a frame that is in the ring goes before the next one
    with socket.socket(fileno=int(arguments[0])) as control:
        try:
            _serve(control)
        except CameraError as error:
            _say(control, {"event": "failed", "detail": str(error)})
        except Exception as error:  # noqa: BLE001 - a driver may raise anything, and the parent must hear of it
            _say(control, {"event": "failed", "detail": f"its driver failed: {type(error).__name__}: {error}"})
        else:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
