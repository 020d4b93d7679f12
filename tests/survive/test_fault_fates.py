"""Whose fault it is: the guest's is an exception, the host's goes to whoever had the signal."""

from __future__ import annotations

import ctypes
import faulthandler
import signal
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

import pydbi
from tests.compat.harness import BASE, Guest, fate
from tests.survive.fates import check_fate

UNMAPPED = 0x10_0000

FATES = {
    # what: (code, what PyQBDI does)
    "a bad read": ("mov rdx, [rax]", "SIGSEGV"),
    "a bad stack": ("mov rsp, rax; push rax", "SIGSEGV"),
    "a division by zero": ("xor ecx, ecx; div rcx", "SIGFPE"),
    "UD2": ("ud2", "SIGILL"),
    "INT3": ("int3", "SIGTRAP"),
    "HLT": ("hlt", "SIGSEGV"),
    "a misaligned access with AC": ("push 0x40202; popfq; mov rdx, [rsp + 1]", "SIGSEGV"),
    "no instruction": (".byte 6", "SIGABRT"),
    "a jump to nowhere": ("jmp rax", "SIGSEGV"),
    "a call of nothing": ("call rax", "SIGSEGV"),
    "a return to nowhere": ("push rax; ret", "SIGSEGV"),
}


@pytest.mark.parametrize("name", FATES)
def test_fates(qbdi: Any, name: str) -> None:
    """What takes PyQBDI's process along is an exception in pydbi."""
    text, pyqbdi = FATES[name]

    def run() -> None:
        g = Guest(qbdi, text)
        g.set(rax=UNMAPPED, rdx=0)
        g.vm.addInstrumentedRange(0, 1 << 47)
        g.run()

    right = "raises DecodeError" if name == "no instruction" else "raises GuestFault"
    check_fate(qbdi, run, pyqbdi=pyqbdi, right=right, reason="it is not caught")


def test_not_executable_memory(qbdi: Any) -> None:
    """PyQBDI executes what is not executable; here it is the fault that the processor raises."""

    def run() -> None:
        g = Guest(qbdi, "f: ret")
        ctypes.memmove(g.data, b"\xb8\x07\0\0\0\xc3", 6)
        ctypes.CDLL(None).mprotect(ctypes.c_void_p(g.data), 4096, 3)
        g.vm.addInstrumentedRange(g.data, g.data + 4096)
        assert g.vm.call(g.data, []) == (True, 7)

    check_fate(qbdi, run, pyqbdi="lives", right="raises GuestFault", reason="NX is ignored")


def _address(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address
    return address


def native_fault_in_the_guest() -> None:
    """The guest calls libc's free, which runs natively, with a pointer to nowhere."""
    g = Guest(pydbi, "sub rsp, 8; mov edi, 0x1010; call rax; add rsp, 8")
    g.set(rax=_address(ctypes.CDLL("libc.so.6").malloc_usable_size))
    g.run()


def fault_in_a_callback() -> None:
    """A callback reads where nothing is."""
    g = Guest(pydbi, "nop")
    g.vm.addCodeCB(pydbi.PREINST, lambda *_: ctypes.string_at(8, 1), None)
    g.run()


def fault_outside() -> None:
    """Python reads where nothing is, after a run."""
    g = Guest(pydbi, "nop")
    assert g.run()
    ctypes.string_at(8, 1)


@pytest.mark.parametrize(
    "function", [native_fault_in_the_guest, fault_in_a_callback, fault_outside]
)
def test_faults_of_the_host(function: Callable[[], None]) -> None:
    """A fault that is not the guest's goes to faulthandler, and then ends the process."""
    with tempfile.TemporaryFile() as file:

        def run() -> None:
            faulthandler.enable(file)
            function()

        assert fate(run, timeout=10) == "SIGSEGV"
        file.seek(0)
        text = file.read().decode()
    assert "Segmentation fault" in text
    assert function.__name__ in text
    assert fate(function, timeout=10) == "SIGSEGV"


def test_signals_that_programs_send() -> None:
    """SIGSEGV and others sent by kill go to Python's own handlers, also while a guest runs."""
    seen = []
    numbers = [signal.SIGSEGV, signal.SIGFPE, signal.SIGTRAP]
    faulthandler.disable()
    for number in numbers:
        signal.signal(number, lambda number, frame: seen.append(number))
    g = Guest(pydbi, "inc rbx; mov eax, 39; syscall; mov edi, eax; mov eax, 62; syscall; inc rbx")
    for number in numbers:
        g.set(rbx=0, rsi=number)
        assert g.run()
        assert g.get("rbx") == 2
    assert seen == numbers
    with pytest.raises(pydbi.GuestFault):
        Guest(pydbi, "mov rax, [0]", at=BASE - (1 << 32)).run()
