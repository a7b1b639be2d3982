"""The software driver refuses what a real one refuses: else what runs on it would prove nothing."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint64, c_void_p

import pytest

from tests.software_driver.library import LIBRARY, compile_driver, needs_compiler

pytestmark = needs_compiler

SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED, INVALID_DEVICE = 0, 1, 2, 3, 101
INVALID_CONTEXT, INVALID_HANDLE, ILLEGAL_STATE, NOT_FOUND, NOT_READY, ILLEGAL_ADDRESS = 201, 400, 401, 500, 600, 700
CONTEXT_IS_DESTROYED, ALREADY_REGISTERED, NOT_REGISTERED, NOT_SUPPORTED = 709, 712, 713, 801
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED, CAPTURE_WRONG_THREAD = 900, 901, 908
CODES = (
    SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED, INVALID_DEVICE, INVALID_CONTEXT, INVALID_HANDLE, NOT_FOUND,
    ILLEGAL_STATE, NOT_READY, ILLEGAL_ADDRESS, CONTEXT_IS_DESTROYED, ALREADY_REGISTERED, NOT_REGISTERED, NOT_SUPPORTED,
    CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED, CAPTURE_WRONG_THREAD,
)  # fmt: skip
NO_TIMES, THREAD_LOCAL, READ_ONLY = 2, 1, 8
HostFunction = ctypes.CFUNCTYPE(None, c_void_p)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Loaded by its path, under which no CUDA library of this process would look for a driver."""
    return ctypes.CDLL(str(compile_driver(tmp_path_factory.mktemp("driver")) / LIBRARY))


@pytest.fixture
def cu(library: ctypes.CDLL) -> Iterator[ctypes.CDLL]:
    """The driver, its context current in this thread."""
    context = c_void_p()
    assert library.cuInit(0) == SUCCESS
    assert library.cuDevicePrimaryCtxRetain(byref(context), 0) == SUCCESS
    assert library.cuCtxSetCurrent(context) == SUCCESS
    yield library
    library.cuDevicePrimaryCtxRelease_v2(0)
    library.cuCtxSetCurrent(None)


def make(function: Callable[..., int], *arguments: object) -> c_void_p:
    """A handle, from a function that gives it by its first argument."""
    handle = c_void_p()
    assert function(byref(handle), *arguments) == SUCCESS
    return handle


def allocate(cu: ctypes.CDLL, size_bytes: int = 64) -> c_uint64:
    address = c_uint64()
    assert cu.cuMemAlloc_v2(byref(address), c_size_t(size_bytes)) == SUCCESS
    return address


@pytest.fixture
def stream(cu: ctypes.CDLL) -> c_void_p:
    return make(cu.cuStreamCreate, 1)


@pytest.fixture
def pinned(cu: ctypes.CDLL) -> c_void_p:
    return make(cu.cuMemHostAlloc, c_size_t(64), 1)


@pytest.fixture
def held(cu: ctypes.CDLL, stream: c_void_p) -> Iterator[Callable[[], None]]:
    """The stream is kept from going on until this is called."""
    may_go = threading.Event()
    function = HostFunction(lambda _: may_go.wait() and None)
    assert cu.cuLaunchHostFunc(stream, function, None) == SUCCESS
    yield may_go.set
    may_go.set()
    cu.cuStreamSynchronize(stream)


def test_nothing_is_made_without_a_context(cu: ctypes.CDLL) -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(cu.cuStreamCreate(byref(c_void_p()), 1)))
    thread.start()
    thread.join()
    assert found == [INVALID_CONTEXT]


def test_a_context_that_is_gone_stays_on_the_stack_and_serves_nobody(cu: ctypes.CDLL, stream: c_void_p) -> None:
    assert cu.cuDevicePrimaryCtxRelease_v2(0) == SUCCESS
    assert cu.cuStreamSynchronize(stream) == CONTEXT_IS_DESTROYED
    assert cu.cuDevicePrimaryCtxRelease_v2(0) == INVALID_CONTEXT
    make(cu.cuDevicePrimaryCtxRetain, 0)
    assert cu.cuStreamSynchronize(stream) == INVALID_HANDLE


def test_a_device_that_is_not_there_is_refused(cu: ctypes.CDLL) -> None:
    assert cu.cuDeviceGet(byref(c_int()), 1) == INVALID_DEVICE


def test_what_was_destroyed_is_no_handle_any_more(cu: ctypes.CDLL, stream: c_void_p) -> None:
    event = make(cu.cuEventCreate, 0)
    assert cu.cuEventDestroy_v2(event) == SUCCESS
    assert cu.cuEventDestroy_v2(event) == INVALID_HANDLE
    assert cu.cuEventRecord(event, stream) == INVALID_HANDLE
    assert cu.cuStreamDestroy_v2(stream) == SUCCESS
    assert cu.cuStreamDestroy_v2(stream) == INVALID_HANDLE
    assert cu.cuStreamSynchronize(make(cu.cuEventCreate, 0)) == INVALID_HANDLE
    assert cu.cuStreamSynchronize(None) == INVALID_HANDLE


def test_memory_is_freed_once_and_by_its_own_call(cu: ctypes.CDLL, pinned: c_void_p) -> None:
    address = allocate(cu)
    assert cu.cuMemFree_v2(c_uint64(address.value + 1)) == INVALID_VALUE
    assert cu.cuMemFreeHost(address) == INVALID_VALUE
    assert cu.cuMemFree_v2(address) == SUCCESS
    assert cu.cuMemFree_v2(address) == INVALID_VALUE
    assert cu.cuMemHostUnregister(pinned) == NOT_REGISTERED
    assert cu.cuMemFreeHost(pinned) == SUCCESS
    assert cu.cuMemFreeHost(pinned) == INVALID_VALUE
    assert allocate(cu).value != address.value


def test_more_memory_than_there_is_cannot_be_had(cu: ctypes.CDLL) -> None:
    assert cu.cuMemAlloc_v2(byref(c_uint64()), c_size_t(1 << 40)) == OUT_OF_MEMORY
    assert cu.cuMemAlloc_v2(byref(c_uint64()), c_size_t(0)) == INVALID_VALUE


def test_a_copy_stays_within_its_memories(cu: ctypes.CDLL, stream: c_void_p, pinned: c_void_p) -> None:
    address, pageable = allocate(cu), ctypes.create_string_buffer(64)
    assert cu.cuMemcpyHtoDAsync_v2(address, pinned, c_size_t(65), stream) == INVALID_VALUE
    assert cu.cuMemcpyHtoDAsync_v2(c_uint64(address.value + 1), pinned, c_size_t(64), stream) == INVALID_VALUE
    assert cu.cuMemcpyHtoDAsync_v2(pinned, pinned, c_size_t(64), stream) == INVALID_VALUE
    assert cu.cuMemcpyDtoHAsync_v2(pageable, address, c_size_t(64), stream) == INVALID_VALUE
    assert cu.cuMemcpyHtoDAsync_v2(address, pinned, c_size_t(64), None) == INVALID_HANDLE
    assert cu.cuMemcpyHtoDAsync_v2(address, pinned, c_size_t(64), stream) == SUCCESS


def test_memory_is_registered_once_and_only_for_writing(cu: ctypes.CDLL) -> None:
    memory = ctypes.create_string_buffer(4096)
    assert cu.cuMemHostRegister_v2(memory, c_size_t(4096), READ_ONLY) == NOT_SUPPORTED
    assert cu.cuMemHostRegister_v2(memory, c_size_t(100), 1) == SUCCESS
    assert cu.cuMemHostRegister_v2(memory, c_size_t(4096), 1) == ALREADY_REGISTERED
    assert cu.cuMemHostUnregister(memory) == SUCCESS
    assert cu.cuMemHostUnregister(memory) == NOT_REGISTERED


def test_a_copy_whose_memory_was_unlocked_breaks_the_context_for_good(
    cu: ctypes.CDLL, stream: c_void_p, held: Callable[[], None]
) -> None:
    address, memory = allocate(cu), ctypes.create_string_buffer(64)
    assert cu.cuMemHostRegister_v2(memory, c_size_t(64), 1) == SUCCESS
    assert cu.cuMemcpyHtoDAsync_v2(address, memory, c_size_t(64), stream) == SUCCESS
    assert cu.cuMemHostUnregister(memory) == SUCCESS
    held()
    assert cu.cuStreamSynchronize(stream) == ILLEGAL_ADDRESS
    assert cu.cuStreamCreate(byref(c_void_p()), 1) == ILLEGAL_ADDRESS
    assert cu.cuMemFree_v2(address) == ILLEGAL_ADDRESS
    assert cu.cuDevicePrimaryCtxRelease_v2(0) == SUCCESS
    context = make(cu.cuDevicePrimaryCtxRetain, 0)
    assert cu.cuCtxSetCurrent(context) == SUCCESS
    assert cu.cuStreamCreate(byref(c_void_p()), 1) == SUCCESS


def test_times_are_taken_of_events_that_take_them_and_were_reached(
    cu: ctypes.CDLL, stream: c_void_p, held: Callable[[], None]
) -> None:
    timed, other, plain = make(cu.cuEventCreate, 0), make(cu.cuEventCreate, 0), make(cu.cuEventCreate, NO_TIMES)
    elapsed = c_float()
    assert cu.cuEventElapsedTime_v2(byref(elapsed), timed, other) == INVALID_HANDLE  # never recorded
    for event in (timed, other, plain):
        assert cu.cuEventRecord(event, stream) == SUCCESS
    assert cu.cuEventQuery(timed) == NOT_READY
    assert cu.cuEventElapsedTime_v2(byref(elapsed), timed, other) == NOT_READY
    held()
    assert cu.cuStreamSynchronize(stream) == SUCCESS
    assert cu.cuEventQuery(timed) == SUCCESS
    assert cu.cuEventElapsedTime_v2(byref(elapsed), timed, plain) == INVALID_HANDLE
    assert cu.cuEventElapsedTime_v2(byref(elapsed), timed, other) == SUCCESS


def test_a_stream_waits_for_another(cu: ctypes.CDLL, stream: c_void_p, held: Callable[[], None]) -> None:
    second, reached, said = make(cu.cuStreamCreate, 1), make(cu.cuEventCreate, NO_TIMES), []
    functions = [HostFunction(lambda _, name=name: said.append(name)) for name in ("first", "second")]
    assert cu.cuLaunchHostFunc(stream, functions[0], None) == SUCCESS
    assert cu.cuEventRecord(reached, stream) == SUCCESS
    assert cu.cuStreamWaitEvent(second, reached, 0) == SUCCESS
    assert cu.cuLaunchHostFunc(second, functions[1], None) == SUCCESS
    held()
    assert cu.cuStreamSynchronize(second) == SUCCESS
    assert said == ["first", "second"]


def test_what_a_capture_forbids_spoils_it(cu: ctypes.CDLL, stream: c_void_p) -> None:
    event = make(cu.cuEventCreate, NO_TIMES)
    spoiling: list[Callable[[], int]] = [
        lambda: cu.cuMemAlloc_v2(byref(c_uint64()), c_size_t(64)),
        lambda: cu.cuStreamSynchronize(stream),
        cu.cuCtxSynchronize,
        lambda: cu.cuEventRecord(event, stream),
    ]
    for spoil in spoiling:
        assert cu.cuStreamBeginCapture_v2(stream, THREAD_LOCAL) == SUCCESS
        assert spoil() == CAPTURE_UNSUPPORTED
        assert cu.cuStreamEndCapture(stream, byref(c_void_p())) == CAPTURE_INVALIDATED


def test_a_capture_is_begun_and_ended_once_and_by_one_thread(cu: ctypes.CDLL, stream: c_void_p) -> None:
    context, found = make(cu.cuCtxGetCurrent), []
    assert cu.cuStreamEndCapture(stream, byref(c_void_p())) == ILLEGAL_STATE
    assert cu.cuStreamBeginCapture_v2(stream, THREAD_LOCAL) == SUCCESS
    assert cu.cuStreamBeginCapture_v2(stream, THREAD_LOCAL) == ILLEGAL_STATE

    def end() -> None:
        cu.cuCtxSetCurrent(context)
        found.append(cu.cuStreamEndCapture(stream, byref(c_void_p())))

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert found == [CAPTURE_WRONG_THREAD]


def test_a_graph_outlives_what_it_was_made_from_and_runs_as_often_as_asked(cu: ctypes.CDLL, stream: c_void_p) -> None:
    said: list[int] = []
    function = HostFunction(lambda _: said.append(len(said)))
    assert cu.cuStreamBeginCapture_v2(stream, THREAD_LOCAL) == SUCCESS
    assert cu.cuLaunchHostFunc(stream, function, None) == SUCCESS
    captured = make(lambda graph: cu.cuStreamEndCapture(stream, graph))
    graph = make(cu.cuGraphInstantiateWithFlags, captured, c_uint64(0))
    assert cu.cuGraphLaunch(captured, stream) == INVALID_HANDLE
    assert cu.cuGraphDestroy(captured) == SUCCESS
    assert said == []
    for _ in range(3):
        assert cu.cuGraphLaunch(graph, stream) == SUCCESS
    assert cu.cuStreamSynchronize(stream) == SUCCESS
    assert said == [0, 1, 2]
    assert cu.cuGraphExecDestroy(graph) == SUCCESS
    assert cu.cuGraphLaunch(graph, stream) == INVALID_HANDLE


def test_every_code_has_a_name_and_a_text(library: ctypes.CDLL) -> None:
    for code in CODES:
        for ask in (library.cuGetErrorName, library.cuGetErrorString):
            text = c_char_p()
            assert ask(code, byref(text)) == SUCCESS
            assert text.value
    assert library.cuGetErrorName(12345, byref(c_char_p())) == INVALID_VALUE


def test_functions_are_found_by_their_name_without_a_version(library: ctypes.CDLL) -> None:
    found, status = c_void_p(), c_int(-1)
    assert library.cuGetProcAddress_v2(b"cuMemAlloc", byref(found), 13000, c_uint64(0), byref(status)) == SUCCESS
    assert found.value == ctypes.cast(library.cuMemAlloc_v2, c_void_p).value
    assert status.value == 0
    assert library.cuGetProcAddress_v2(b"cuLaunchKernel", byref(found), 13000, c_uint64(0), byref(status)) == NOT_FOUND
    assert found.value is None
