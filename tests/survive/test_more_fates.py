"""What is tested elsewhere for pydbi alone, beside PyQBDI: signals, code that changes, threads."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import BASE, Guest
from tests.survive.fates import check_fate
from tests.survive.test_libc import format_text, machine

_LOOP = "a: inc rbx; dec rcx; jnz a"
_COUNTED = "lea rbx, [rip + data]; a: .rept 512; inc qword ptr [rbx]; .endr; dec rcx; jnz a"
_ROUNDS = 1 << 18
"""Long enough for some timer ticks and thread switches, whatever else the machine does. Blocks are
long, for PyQBDI takes its time for each."""


def _seen_under_way(counts: list[int]) -> int:
    """How many of *counts*, the progress of `_COUNTED`, are neither its beginning nor its end."""
    return sum(0 < count < 512 * _ROUNDS for count in counts)


def _progress(g: Guest) -> int:
    return int.from_bytes(g.read(0, 8), "little")


def timers_tick(qbdi: Any) -> None:
    """A Python handler runs while a linked loop does."""
    g = Guest(qbdi, _COUNTED)
    g.set(rcx=_ROUNDS)
    seen: list[int] = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(_progress(g)))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    g.run()
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert _seen_under_way(seen) > 2


def interrupted_while_waiting(qbdi: Any) -> None:
    """Ctrl-C in a system call that waits for ever, and is repeated when it is interrupted."""
    g = Guest(
        qbdi,
        "again: xor edi, edi; lea rsi, [rip + data]; mov edx, 1; xor eax, eax; syscall;"
        "cmp rax, -4; je again",
    )
    reader, _ = os.pipe()
    os.dup2(reader, 0)
    signal.signal(signal.SIGALRM, signal.default_int_handler)

    def wait() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        g.run()

    with pytest.raises(KeyboardInterrupt):
        wait()


def code_that_changes_itself(qbdi: Any) -> None:
    """An instruction writes over a later one of its own block, which was executed before."""
    g = Guest(qbdi, "again: mov eax, 1; mov byte ptr [rip + again + 1], 2; dec ecx; jnz again")
    g.set(rcx=2)
    g.run()
    assert g.get("rax") == 2


def the_running_block_changes(qbdi: Any) -> None:
    """An instruction writes over the next one."""
    g = Guest(qbdi, "mov byte ptr [rip + next + 1], 7; next: mov eax, 1")
    g.run()
    assert g.get("rax") == 7


def code_that_is_mapped_anew(qbdi: Any) -> None:
    """The guest unmaps a function that it has called, and maps another one there."""
    g = Guest(
        qbdi,
        "mov r12, rdi; call r12; mov r13, rax; mov rdi, r12; mov esi, 4096; mov eax, 11; syscall;"
        "mov rdi, r12; mov edx, 3; mov r10d, 0x100022; mov r8, -1; xor r9d, r9d; mov eax, 9;"
        "syscall; mov dword ptr [r12], 0x000002b8; mov word ptr [r12 + 4], 0xc300;"
        "mov rdi, r12; mov edx, 5; mov eax, 10; syscall; call r12; add rax, r13",
    )
    other = Guest(qbdi, "mov eax, 1; ret", at=BASE - (1 << 28), vm=g.vm)
    assert ctypes.CDLL(None).mprotect(ctypes.c_size_t(other.base), ctypes.c_size_t(4096), 5) == 0
    g.set(rdi=other.base)
    g.run()
    assert g.get("rax") == 3


def faults_while_recording(qbdi: Any) -> None:
    """A bad pointer while accesses are recorded, in a callback's sight."""
    g = Guest(qbdi, "a: mov rax, [rbx]")
    g.vm.recordMemoryAccess(qbdi.MEMORY_READ_WRITE)
    g.on("PRE", "pre")
    g.set(rbx=0x123000)
    with pytest.raises(RuntimeError):
        g.run()
    assert g.log == [("pre", "a")]


def vms_in_threads(qbdi: Any) -> None:
    """A VM in each of several threads, with callbacks."""
    guests = [Guest(qbdi, _LOOP, at=BASE - (number << 28)) for number in range(4)]
    results: list[bool] = []
    together = threading.Barrier(4)

    def work(g: Guest) -> None:
        g.on("PRE", "pre")
        together.wait()
        for rounds in range(1, 60):
            g.set(rbx=0, rcx=rounds)
            results.append(g.run() and g.get("rbx") == rounds)

    threads = [threading.Thread(target=work, args=(g,)) for g in guests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4 * 59


def other_threads_go_on(qbdi: Any) -> None:
    """Another thread of Python's works while a linked loop runs."""
    g = Guest(qbdi, _COUNTED)
    g.set(rcx=_ROUNDS)
    seen: list[int] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            seen.append(_progress(g))
            time.sleep(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    g.run()
    ended.set()
    thread.join()
    assert _seen_under_way(seen) > 3


def a_gs_base_of_its_own(qbdi: Any) -> None:
    """The guest sets its GS base and uses it, with callbacks in between."""
    g = Guest(qbdi, "lea rax, [rip + data]; wrgsbase rax; mov gs:[8], rax; mov rbx, gs:[8]")
    g.on("PRE", "pre")
    g.run()
    assert g.get("rbx") == g.data


def everything_executable(qbdi: Any) -> None:
    """All executable maps are instrumented, and snprintf is called with a callback."""
    seen = [0]
    vm = machine(qbdi, "everything", seen)
    for turn in range(1, 4):
        format_text(vm, turn)
    assert seen[0]


_CASES: dict[Callable[[Any], None], tuple[str, str]] = {
    timers_tick: ("raises AssertionError", "handlers wait for the guest's end"),
    interrupted_while_waiting: ("hangs", "handlers wait for the guest's end"),
    code_that_changes_itself: ("raises AssertionError", "the change is not noticed"),
    the_running_block_changes: ("raises AssertionError", "the change is not noticed"),
    code_that_is_mapped_anew: ("raises AssertionError", "the change is not noticed"),
    faults_while_recording: ("SIGSEGV", "the fault ends the process"),
    vms_in_threads: ("exit 1 or SIGSEGV", "VMs take one another's callbacks"),
    other_threads_go_on: ("raises AssertionError", "they wait for the guest's end"),
    a_gs_base_of_its_own: ("lives", ""),
    everything_executable: ("raises AssertionError", "libc's results are wrong"),
}
"""What becomes of PyQBDI, and what is wrong with it."""


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.__name__)
def test_fates(qbdi: Any, case: Callable[[Any], None]) -> None:
    """pydbi lives and is right."""
    how, reason = _CASES[case]
    check_fate(qbdi, lambda: case(qbdi), pyqbdi=how, right="lives", reason=reason)
