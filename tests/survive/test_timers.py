"""Timers of 2 kHz with Python handlers, while the benchmarks' kernels run: results are the same."""

from __future__ import annotations

import ctypes
import signal
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

import pydbi
from benchmarks import build

_PERIOD = 1 / 2000
KERNELS = tuple(build.kernels())
_LONG = 0.01
"""Seconds that a kernel is to take natively."""


class Timer:
    """Counts its ticks; its handler computes with floats, allocates, and calls C."""

    def __init__(self, period: float = _PERIOD) -> None:
        self.ticks = 0
        self._period = period

    def _handle(self, number: int, frame: object) -> None:
        self.ticks += 1
        assert sum(value * 0.5 for value in range(20)) == 95
        assert ctypes.string_at(ctypes.create_string_buffer(b"x" * 100), 3) == b"xxx"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let it tick while what is inside runs."""
        signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, self._period, self._period)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def machine(address: int) -> Any:
    """A VM with a stack, for the module with a function at *address*."""
    vm = pydbi.VM()
    pydbi.allocateVirtualStack(vm.getGPRState(), 1 << 20)
    assert vm.addInstrumentedModuleFromAddr(address)
    return vm


def kernel(name: str) -> tuple[Any, int]:
    """The native function of a kernel, and its address."""
    try:
        function = ctypes.CDLL(str(build.shared_library(build.kernels()[name]))).run
    except build.BuildError as error:
        pytest.skip(str(error))
    function.restype, function.argtypes = ctypes.c_uint64, [ctypes.c_uint64]
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address
    return function, address


def calibrate(function: Any) -> int:
    """How many units of work take long enough, in processor time."""
    units, taken = 1, 0.0
    while taken < _LONG:
        units *= 2
        begin = time.thread_time()
        function(units)
        taken = time.thread_time() - begin
    return units


@pytest.mark.parametrize("instrumented", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels(name: str, instrumented: bool) -> None:
    """The kernel's result is the native one, run after run."""
    function, address = kernel(name)
    vm = machine(address)
    units = 1 if instrumented else calibrate(function)
    seen = []
    if instrumented:
        vm.addVMEventCB(pydbi.BASIC_BLOCK_ENTRY, lambda *_: seen.append(1) or pydbi.CONTINUE, None)
    expected = function(units)
    timer = Timer()
    with timer.running():
        for _ in range(1 if instrumented else 8):
            assert vm.call(address, [units]) == (True, expected)
    assert timer.ticks > (0 if instrumented else 3)
    assert instrumented == bool(seen)


def test_timers_during_translation() -> None:
    """The handlers run, and memory is allocated, while code is translated all the time."""
    library = ctypes.CDLL("libz.so.1")
    address = ctypes.cast(library.compress, ctypes.c_void_p).value
    assert address
    vm = machine(address)
    source = Random(5).randbytes(1000) * 3
    text = ctypes.create_string_buffer(source, len(source))
    target, size = ctypes.create_string_buffer(5000), ctypes.c_ulong()
    arguments = [ctypes.addressof(target), ctypes.addressof(size), ctypes.addressof(text)]
    timer = Timer()
    with timer.running():
        for _ in range(8):
            size.value = 5000
            vm.clearAllCache()
            assert vm.call(address, [*arguments, len(source)]) == (True, 0)
            assert target.raw[: size.value] == zlib.compress(source)
    assert timer.ticks > 20
