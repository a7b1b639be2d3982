"""Whether plans can be built here, for tests that build some."""

from __future__ import annotations

import pytest


def rtx_works() -> bool:
    try:
        import tensorrt_rtx
    except (ImportError, OSError):
        return False
    return bool(tensorrt_rtx.__version__)


needs_rtx = pytest.mark.skipif(not rtx_works(), reason="tensorrt-rtx is not installed")
