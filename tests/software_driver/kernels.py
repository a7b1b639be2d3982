"""What stands for kernels on the software driver: functions of the host that its streams call in their turn.

For a process whose `libcuda.so.1` is the software driver; see `library.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tests.software_driver.library import LIBRARY
from tests.software_streams import MisuseError, Span

_Function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_called: list[object] = []
"""Every function that was put into a stream: a graph may call it for as long as there is a device."""


class DriverKernels:
    """The software TensorRT's way to the device; see `tests.software_tensorrt.Kernels`."""

    def __init__(self) -> None:
        self._driver = ctypes.CDLL(LIBRARY)
        self._driver.software_memory.restype = ctypes.c_void_p

    def at(self, address: int, size_bytes: int) -> NDArray[np.uint8]:
        """Memory of the device, for a kernel that runs.

        Raises:
            MisuseError: There is none, or it is shorter.
        """
        pointer = self._driver.software_memory(ctypes.c_uint64(address), ctypes.c_size_t(size_bytes))
        if pointer is None:
            raise MisuseError(f"{size_bytes} bytes at {address:#x} are not in any memory of the device")
        return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(pointer))

    def is_capturing(self, stream: int) -> bool:
        """Whether what is put into a stream is only noted."""
        status = ctypes.c_int()
        self._check(self._driver.cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(status)))
        return status.value != 0

    def enqueue(
        self, stream: int, name: str, run: Callable[[], None], reads: Sequence[Span] = (), writes: Sequence[Span] = ()
    ) -> None:
        """Put a kernel into a stream."""
        function = _Function(lambda _: run())
        _called.append(function)
        self._check(self._driver.cuLaunchHostFunc(ctypes.c_void_p(stream), function, None))

    def _check(self, code: int) -> None:
        if code != 0:
            raise MisuseError(f"the software driver refused a kernel with error {code}")
