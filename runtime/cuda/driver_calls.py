"""Calls of the CUDA driver that PyCUDA lacks, or makes in a way that fails: straight to `libcuda`.

`pycuda.driver.register_host_memory` is one of these: with NumPy 2, PyCUDA 2026.1 ends the process in it.
"""

from __future__ import annotations

import ctypes

from runtime.errors import EngineError

_LIBRARY = "libcuda.so.1"
_PORTABLE = 1
_ALREADY_REGISTERED = 712
_MEMORY_TYPE = 2
_HOST = 1


class DriverCalls:
    """The calls; each needs the context to be current in the calling thread.

    Raises:
        EngineError: There is no driver.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise EngineError(
                f"CUDA: found no {_LIBRARY} ({error}), expected the NVIDIA driver. Install the driver."
            ) from error

    def lock(self, address: int, size_bytes: int) -> bool:
        """Page-lock memory that is there, for all contexts; False where somebody has locked it already.

        Raises:
            EngineError: The driver refused.
        """
        code = self._library.cuMemHostRegister_v2(
            ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), ctypes.c_uint(_PORTABLE)
        )
        if code == _ALREADY_REGISTERED:
            return False
        self._check("cuMemHostRegister", code)
        return True

    def unlock(self, address: int) -> None:
        """Undo `lock`.

        Raises:
            EngineError: The driver refused.
        """
        self._check("cuMemHostUnregister", self._library.cuMemHostUnregister(ctypes.c_void_p(address)))

    def is_locked(self, address: int) -> bool:
        """Whether the driver knows an address as page-locked memory of the host."""
        kind = ctypes.c_uint()
        code = self._library.cuPointerGetAttribute(
            ctypes.byref(kind), ctypes.c_int(_MEMORY_TYPE), ctypes.c_uint64(address)
        )
        return code == 0 and kind.value == _HOST

    def pop_context(self) -> None:
        """Take the current context off the calling thread's stack; does nothing where there is none."""
        self._library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))

    def _check(self, call: str, code: int) -> None:
        if code == 0:
            return
        name = ctypes.c_char_p()
        known = self._library.cuGetErrorName(ctypes.c_int(code), ctypes.byref(name)) == 0 and name.value is not None
        said = name.value.decode() if known and name.value is not None else f"error {code}"
        raise EngineError(f"CUDA: {call} found {said}, expected success.")
