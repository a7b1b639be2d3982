"""Which implementation of CUDA is opened, and what is said of one that cannot be."""

from __future__ import annotations

from typing import cast

import pytest

from runtime.cuda import CUDA_APIS, CudaApi, CudaEntry, open_cuda
from runtime.errors import EngineError
from tests.gpu import installed_apis


def test_an_unknown_implementation_lists_the_known_ones() -> None:
    with pytest.raises(EngineError, match="'hip', expected one of cuda_bindings, pycuda"):
        open_cuda(cast("CudaApi", "hip"))


@pytest.mark.skipif(CUDA_APIS["pycuda"].installed, reason="PyCUDA is installed")
def test_an_absent_library_names_its_install_command() -> None:
    with pytest.raises(EngineError, match=r"no library 'pycuda'.*Run: pip install pycuda"):
        open_cuda("pycuda")


@pytest.mark.parametrize("api", installed_apis())
def test_without_a_driver_or_a_gpu_it_says_so(api: CudaApi) -> None:
    with pytest.raises(EngineError, match=r"no NVIDIA driver|not to be loaded|expected GPU 99 among them"):
        open_cuda(api, number=99)


def test_a_library_that_cannot_be_loaded_is_an_error_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CudaEntry("runtime.cuda.no_such_module", "json", "pip install it", captures=False)
    monkeypatch.setattr("runtime.cuda.CUDA_APIS", {"pycuda": entry})
    with pytest.raises(EngineError, match=r"found json installed but not to be loaded .*Install the NVIDIA driver"):
        open_cuda("pycuda")
