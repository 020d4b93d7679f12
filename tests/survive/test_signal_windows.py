"""A signal at each instruction of the way into the cache: its handler runs first of all."""

from __future__ import annotations

import os
import select
import signal
import struct
from collections.abc import Iterator
from typing import Any

import pytest

import pydbi
from pydbi.jit.context import SLOT
from pydbi.jit.stubs import stubs
from tests.compat.harness import Guest
from tests.lockstep.tracer import EFLAGS, RIP, TRAP_FLAG, Tracee, trace_me

_DETACH = 17  # PTRACE_DETACH, <sys/ptrace.h>
_BREAKPOINT, _PUSHF = b"\xcc", b"\x9c"
_SA_SIGINFO, _SA_RESTORER = 4, 0x04000000
_TEXT = """
    mov eax, 13; mov edi, 10; lea rsi, [rip + data + 8]; xor edx, edx; mov r10d, 8; syscall
    jmp end
handler:
    inc qword ptr [rip + data]
    ret
restorer:
    mov eax, 15
    syscall
flags:
    pushfq
    popfq
look:
    nop
    mov rbx, [rip + data]
    nop
"""


class Traced(Tracee):
    """A child that is let go in the end."""

    def stop_at(self, address: int) -> None:
        """Let it run until it is about to execute *address*."""
        code = self.read(address, 1)
        self.write(address, _BREAKPOINT)
        while self.resume() != signal.SIGTRAP:
            pass
        self.write(address, code)
        values = list(self.registers)
        values[RIP] = address
        self.registers = tuple(values)

    def go_on(self, steps: int) -> int:
        """Let it execute so many instructions, and return where it is then."""
        for _ in range(steps):
            pushes_flags = self.read(self.registers[RIP], 1) == _PUSHF
            assert self.step() == signal.SIGTRAP
            if pushes_flags:
                self.hide_trap_flag()
        return self.registers[RIP]

    def let_go(self) -> None:
        """Trace it no longer. TF is cleared: the kernel leaves it, once POPF was stepped over."""
        values = list(self.registers)
        values[EFLAGS] &= ~TRAP_FLAG
        self.registers = tuple(values)
        self._request(_DETACH, 0, 0)


def guest(flags: bool) -> Guest:
    """A guest with a handler of SIGUSR1 that counts; from ``look`` on rbx gets the count."""
    g = Guest(pydbi, _TEXT)
    g.write(8, struct.pack("<4Q", g["handler"], _SA_SIGINFO | _SA_RESTORER, g["restorer"], 0))
    assert g.vm.run(g["start"], g["end"])
    for _ in range(2):
        assert g.vm.run(g["flags" if flags else "look"], g["end"])
    return g


def ends(pid: int) -> int:
    """How the process ends, if it does so in time."""
    ended = os.pidfd_open(pid)
    if not select.select([ended], [], [], 10)[0]:
        os.kill(pid, signal.SIGKILL)
    os.close(ended)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def signalled(
    g: Guest, start: str, first: int, places: list[tuple[int, int]]
) -> Iterator[tuple[int, int, int]]:
    """Run *g* with a signal at each instruction from *first* on, until one is outside of *places*.

    Yields:
        The place of the instruction from *first*, how often the handler has run in the end, and
        what the guest has found in rbx.
    """
    steps, rip = 0, first
    while any(low <= rip < high for low, high in places):
        child = os.fork()
        if child == 0:
            trace_me()
            os.kill(os.getpid(), signal.SIGSTOP)
            g.run(start)
            os._exit(g.read(0, 1)[0] << 4 | g.get("rbx"))
        traced = Traced(child)
        traced.stop_at(first)
        rip = traced.go_on(steps)
        os.kill(child, signal.SIGUSR1)
        traced.let_go()
        yield rip - first, *divmod(ends(child), 16)
        steps += 1


def check(found: list[tuple[int, int, int]], in_time: bool = True) -> None:
    """Check that the handler has run once each time, and, if *in_time*, before rbx was loaded."""
    assert len(found) > 50
    assert [each for each in found if each[1] != 1 or (in_time and each[2] != 1)] == []


@pytest.mark.parametrize("flags", [False, True])
def test_on_the_way_into_the_cache(flags: bool) -> None:
    """`enter` finds the signal, or its steps lead to where it is found."""
    g = guest(flags)
    words = g.vm._engine.guest.words
    first, last = words[SLOT["ENTER"] >> 3], words[SLOT["ENTER_END"] >> 3]
    check(list(signalled(g, "look", first, [(first, last)])))


@pytest.mark.parametrize("flags", [False, True])
def test_on_the_way_from_a_callback(flags: bool) -> None:
    """The same for the end of a gate, where POPF may load the flags, or SAHF.

    The instruction with the callback is executed before.
    """
    g = guest(flags)

    def called(*_: Any) -> pydbi.VMAction:
        return pydbi.CONTINUE

    g.vm.addCodeAddrCB(g["look"], pydbi.PREINST, called, None)
    assert g.vm.run(g["look"], g["end"])
    words = g.vm._engine.guest.words
    first, last = words[SLOT["GATE_RESUME"] >> 3], words[SLOT["GATE_RESUME_END"] >> 3]
    check(list(signalled(g, "look", first, [(first, last)])))


def test_on_the_way_out() -> None:
    """In `leave` no signal is lost, and none is handled twice."""
    g = guest(False)
    first = g.vm._engine.guest.words[SLOT["LEAVE"] >> 3]
    places = [(stubs().address, stubs().address + stubs().size)]
    check(list(signalled(g, "look", first, places)), in_time=False)
