"""libc instrumented by several VMs in several threads at once: its locks are real ones."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pydbi
from tests.survive.test_libc import (
    LIBC,
    call,
    copy_memory,
    format_text,
    machine,
    text,
    use_the_heap,
)

_THREADS = 4
_TURNS = 120


def in_threads(work: Callable[[int], None]) -> None:
    """Call *work* with a number in each of several threads; raise what one of them raises."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def prepared(what: str, events: bool) -> Any:
    """A VM with a callback for each block, in which another thread may get the interpreter."""
    vm = machine(pydbi, what)
    if events:
        vm.addVMEventCB(pydbi.BASIC_BLOCK_ENTRY, lambda *_: pydbi.CONTINUE, None)
    return vm


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("what", ["libc", "everything"])
def test_a_stream_that_all_write_to(what: str, events: bool, tmp_path: Path) -> None:
    """A guest that holds the stream's lock loses the interpreter; the others wait for the lock.

    They wait with the interpreter: without kicks while they wait this never ends.
    """
    LIBC.fopen.restype = ctypes.c_size_t
    stream = LIBC.fopen(bytes(tmp_path / "out"), b"w")
    line = text(b"line %d of %d\n")

    def work(number: int) -> None:
        vm = prepared(what, events)
        for turn in range(_TURNS):
            assert call(vm, LIBC.fprintf, stream, line, turn, number) > 10

    in_threads(work)
    LIBC.fclose(ctypes.c_size_t(stream))
    lines = (tmp_path / "out").read_text().splitlines()
    expected = {f"line {n} of {m}" for n in range(_TURNS) for m in range(_THREADS)}
    assert len(lines) == _TURNS * _THREADS
    assert set(lines) == expected
    for number in range(_THREADS):  # each thread's own are in order
        own = [line for line in lines if line.endswith(f"of {number}")]
        assert own == [f"line {turn} of {number}" for turn in range(_TURNS)]


def test_a_mutex(tmp_path: Path) -> None:
    """pthread_mutex_lock and unlock around a callback that gives the interpreter away."""
    mutex = (ctypes.c_char * 40)()
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        vm = prepared("libc", True)
        for _ in range(40):
            assert call(vm, LIBC.pthread_mutex_lock, mutex) == 0
            inside.append(number)
            most.append(len(inside))
            format_text(vm, number)
            inside.remove(number)
            assert call(vm, LIBC.pthread_mutex_unlock, mutex) == 0

    in_threads(work)
    assert set(most) == {1}
    assert len(most) == 40 * _THREADS


@pytest.mark.parametrize("use", [format_text, copy_memory, use_the_heap], ids=lambda f: f.__name__)
def test_each_for_itself(use: Callable[[Any, int], None]) -> None:
    """Threads that use libc at the same time, and let go of their translations."""

    def work(number: int) -> None:
        vm = prepared("everything", number % 2 == 0)
        for turn in range(1, 6):
            use(vm, turn + number)
            if turn % 2:
                vm.clearAllCache()

    in_threads(work)


def test_errno_is_each_threads_own() -> None:
    """Calls that fail differently in each thread leave each its own error."""

    def work(number: int) -> None:
        vm = prepared("libc", True)
        for _ in range(60):
            if number % 2:
                assert call(vm, LIBC.close, -1) == -1
                assert vm.getErrno() == 9
            else:
                assert call(vm, LIBC.access, text(b"/nowhere at all"), 0) == -1
                assert vm.getErrno() == 2

    in_threads(work)
