"""What a thread asks of the kernel so that it runs when it is due. Nothing here needs a privilege."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from types import MappingProxyType

_PR_SET_TIMERSLACK = 29  # <linux/prctl.h>; in nanoseconds, of the calling thread

_SCHED_SETATTR = MappingProxyType({"x86_64": 314, "aarch64": 274})
"""Number of the system call, which few C libraries wrap, by machine."""

_SCHED_ATTR = struct.Struct("=IIQiIQQQII")
"""`struct sched_attr` of <linux/sched/types.h>: size, policy, flags, nice, priority, runtime_ns, and four not used."""

_KEEP_POLICY = 0x08
_SHORT_TURN_NS = 500_000  # the kernel's own is 1.4 ms on two cores and longer on more; it takes 0.1 to 100 ms
_USUAL_TURN = 0


def wake_when_due() -> None:
    """Let a sleep of this thread end when it is due; the kernel may else end it 50 us late to save power."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0)


def run_when_woken() -> bool:
    """Let this thread run as soon as it is woken, before one that runs already and has not asked for the same.

    It gets no larger share of the processor for that: it asks for short turns, and Linux from 6.12 on lets a short
    turn begin inside a longer one. Otherwise a thread that is woken by a frame on its camera's own processor waits
    until the camera's process sleeps again.

    Returns:
        Whether the kernel took note; an older one takes it and does nothing, and a real-time thread stays what it is.
    """
    return _ask_for_turns(_SHORT_TURN_NS)


def run_in_turn() -> bool:
    """Take back `run_when_woken`, which a process has from the thread that started it.

    Returns:
        As `run_when_woken`.
    """
    return _ask_for_turns(_USUAL_TURN)


def _ask_for_turns(length_ns: int) -> bool:
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)  # on Linux the thread's own
    wish = _SCHED_ATTR.pack(_SCHED_ATTR.size, 0, _KEEP_POLICY, nice, 0, length_ns, 0, 0, 0, 0)
    return ctypes.CDLL(None).syscall(number, 0, wish, 0) == 0
