"""The processor itself as an oracle: is this an instruction, how long is it, what does it do?

The bytes are put at the very end of a page that no readable page follows, and a traced child
process executes one instruction there. As long as the processor must fetch from the missing page
there are too few bytes (the method of sandsifter, Domas 2017). The child is disposable: all
its general purpose registers point nowhere, and rax holds no system call's number.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
from types import TracebackType
from typing import Final, NamedTuple

__all__ = ["EXECUTED", "FAULT", "FETCH", "TOO_LONG", "UNDEFINED", "Outcome", "Processor"]

#: Outcomes: the instruction completed, it is none (#UD), or it is one that faults otherwise.
EXECUTED: Final = "executed"
UNDEFINED: Final = "undefined"
FAULT: Final = "fault"
#: It needs more bytes than were given, or than the limit of 15 permits.
FETCH: Final = "fetch"
TOO_LONG: Final = "perhaps too long"

_PTRACE_TRACEME: Final = 0
_PTRACE_POKEDATA: Final = 5
_PTRACE_KILL: Final = 8
_PTRACE_SINGLESTEP: Final = 9
_PTRACE_GETREGS: Final = 12
_PTRACE_SETREGS: Final = 13
_PTRACE_GETSIGINFO: Final = 0x4202

_PAGE: Final = mmap.PAGESIZE
#: Far from all other mappings, so that RIP-relative operands hit nothing.
_CODE: Final = 0x3000_0000_0000
_BOUNDARY: Final = _CODE + _PAGE
#: An address where nothing is mapped, odd enough to be recognised.
NOWHERE: Final = 0x2345_6789_1000

_MAP_FIXED: Final = 0x10

_REGISTERS: Final = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
    "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds",
    "es", "fs", "gs",
)  # fmt: skip


class UserRegisters(ctypes.Structure):
    """`struct user_regs_struct` of <sys/user.h>."""

    _fields_ = [(name, ctypes.c_uint64) for name in _REGISTERS]


class Outcome(NamedTuple):
    """What the processor did: how, with how many bytes, and with which flags afterwards."""

    kind: str
    length: int
    flags: int = 0
    fault_address: int = 0


class Processor:
    """A traced child that executes single instructions; use it in a `with` statement."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.restype = ctypes.c_long
        self._libc.ptrace.argtypes = [
            ctypes.c_long,
            ctypes.c_long,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_long,
        ]
        # The page is shared, so the parent writes code without a system call.
        self._file = os.memfd_create("pydbi-oracle")
        os.ftruncate(self._file, _PAGE)
        self._page = mmap.mmap(self._file, _PAGE)
        self._child = 0
        self._registers = UserRegisters()
        self._start()

    def __enter__(self) -> Processor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        self._page.close()
        os.close(self._file)

    def _start(self) -> None:
        child = os.fork()
        if child == 0:
            try:
                protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
                flags = mmap.MAP_SHARED | _MAP_FIXED
                mapped = self._libc.mmap(_CODE, _PAGE, protection, flags, self._file, 0)
                if mapped == _CODE and self._libc.ptrace(_PTRACE_TRACEME, 0, None, None) == 0:
                    os.kill(os.getpid(), signal.SIGSTOP)
            finally:
                os._exit(1)
        self._child = child
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            self._child = 0
            raise OSError("the traced child did not start")
        self._request(_PTRACE_GETREGS, ctypes.byref(self._registers))

    def _stop(self) -> None:
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._child = 0

    def _request(self, request: int, data: object = None) -> None:
        if self._libc.ptrace(request, self._child, None, data) == -1:
            raise OSError(ctypes.get_errno(), f"ptrace request {request}")

    def step(self, code: bytes, flags: int = 0, **registers: int) -> Outcome:
        """Execute the instruction that *code* begins with; length is that of *code*.

        kind is FETCH where more bytes are needed. registers overrides the initial values.
        """
        if not self._child:
            self._start()
        self._page[_PAGE - len(code) :] = code
        work = UserRegisters.from_buffer_copy(self._registers)
        for name in _REGISTERS[:15]:
            setattr(work, name, NOWHERE)
        work.rax = 0xFFFF_FFFF_FFFF_FFFF
        work.rcx = 0
        work.rsp = NOWHERE
        work.orig_rax = 0xFFFF_FFFF_FFFF_FFFF
        work.fs_base = work.gs_base = 0
        work.rip = _BOUNDARY - len(code)
        work.eflags = 0x202 | flags
        for name, value in registers.items():
            setattr(work, name, value)
        self._request(_PTRACE_SETREGS, ctypes.byref(work))
        self._request(_PTRACE_SINGLESTEP)
        _, status = os.waitpid(self._child, 0)
        if not os.WIFSTOPPED(status):
            self._child = 0
            return Outcome(FAULT, len(code))
        number = os.WSTOPSIG(status)
        information = (ctypes.c_uint64 * 16)()
        self._request(_PTRACE_GETSIGINFO, ctypes.byref(information))
        address = information[2]
        self._request(_PTRACE_GETREGS, ctypes.byref(work))
        moved = work.rip != _BOUNDARY - len(code)
        if number == signal.SIGTRAP:
            return Outcome(EXECUTED, len(code), work.eflags, work.rip)
        if number == signal.SIGILL:
            return Outcome(UNDEFINED, len(code))
        if number == signal.SIGSEGV and address == _BOUNDARY and not moved:
            return Outcome(FETCH, len(code))
        return Outcome(FAULT, len(code), 0, address)

    def measure(self, code: bytes) -> Outcome:
        """Find the length of the instruction at the start of *code*, at most 15 bytes.

        UNDEFINED comes with the number of bytes that the processor saw before it refused.
        """
        outcome = Outcome(FETCH, 0)
        for length in range(1, min(len(code), 15) + 1):
            outcome = self.step(code[:length])
            if outcome.kind != FETCH:
                break
        if outcome.length == 15 and outcome.kind == FAULT and not outcome.fault_address:
            # #GP without an address: more than 15 bytes, or privileged, or a bad address.
            return outcome._replace(kind=TOO_LONG)
        return outcome
