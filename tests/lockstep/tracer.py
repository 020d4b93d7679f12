"""ptrace(2) through ctypes: a child that is executed one instruction at a time."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from typing import NamedTuple

REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs",
    "gs",
)  # fmt: skip
"""The fields of struct user_regs_struct, <sys/user.h>, in order."""
RIP, EFLAGS, RSP = (REGISTERS.index(name) for name in ("rip", "eflags", "rsp"))
TRAP_FLAG = 0x100

# <sys/ptrace.h> and <linux/elf.h>.
_TRACEME, _CONT, _SINGLESTEP, _GETREGS, _SETREGS = 0, 7, 9, 12, 13
_SETOPTIONS, _GETSIGINFO, _GETREGSET, _SETREGSET = 0x4200, 0x4202, 0x4204, 0x4205
_EXITKILL = 1 << 20
_NT_X86_XSTATE = 0x202
_FORM = struct.Struct(f"<{len(REGISTERS)}Q")
_WAIT_ALL = 0x40000000  # __WALL

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class SignalInfo(NamedTuple):
    """What the kernel says about a signal: siginfo_t, <bits/types/siginfo_t.h>."""

    signal: int
    code: int
    address: int


class TraceeDiedError(Exception):
    """The child is no more; the argument says how it ended."""


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def trace_me() -> None:
    """Let the parent trace this process."""
    _libc.ptrace(_TRACEME, 0, None, None)


def instruction_bytes(code: bytes) -> bytes:
    """Return *code* without the prefixes it begins with, REX included."""
    at = 0
    while at < len(code) and code[at] in _PREFIXES:
        at += 1
    return code[at:]


_PREFIXES = frozenset(bytes.fromhex("66 67 f2 f3 f0 2e 36 3e 26 64 65") + bytes(range(0x40, 0x50)))


class Tracee:
    """A stopped child of this thread.

    Its registers are a tuple in the order of `REGISTERS`.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._raw = ctypes.create_string_buffer(_FORM.size)
        self._info = ctypes.create_string_buffer(128)
        self._area = ctypes.create_string_buffer(1 << 14)
        self.wait()
        self._request(_SETOPTIONS, 0, _EXITKILL)
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Kill it."""
        os.close(self._memory)
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, _WAIT_ALL)
        except (ProcessLookupError, ChildProcessError):
            pass

    def _request(self, number: int, address: int, data: int) -> None:
        if _libc.ptrace(number, self.pid, address, data) < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"ptrace({number}): {os.strerror(error)}")

    def wait(self) -> int:
        """Wait until it stops, and return the signal that it stops with."""
        status = os.waitpid(self.pid, _WAIT_ALL)[1]
        if not os.WIFSTOPPED(status):
            raise TraceeDiedError(f"the traced process ended with status {status:#x}")
        return os.WSTOPSIG(status)

    def step(self) -> int:
        """Execute one instruction, or one iteration of REP: SIGTRAP if all is well."""
        if _libc.ptrace(_SINGLESTEP, self.pid, None, None) < 0:
            raise TraceeDiedError(os.strerror(ctypes.get_errno()))
        return self.wait()

    def resume(self) -> int:
        """Let it run until a signal, and return that."""
        self._request(_CONT, 0, 0)
        return self.wait()

    def signal_info(self) -> SignalInfo:
        """Return what the kernel says about the signal that has stopped it."""
        self._request(_GETSIGINFO, 0, ctypes.addressof(self._info))
        number, _errno, code = struct.unpack_from("<3i", self._info)
        return SignalInfo(number, code, struct.unpack_from("<Q", self._info, 16)[0])

    @property
    def registers(self) -> tuple[int, ...]:
        """All registers of struct user_regs_struct."""
        self._request(_GETREGS, 0, ctypes.addressof(self._raw))
        return _FORM.unpack(self._raw)

    @registers.setter
    def registers(self, values: tuple[int, ...]) -> None:
        _FORM.pack_into(self._raw, 0, *values)
        self._request(_SETREGS, 0, ctypes.addressof(self._raw))

    @property
    def area(self) -> bytes:
        """The XSAVE area."""
        vector = _Vector(ctypes.addressof(self._area), len(self._area))
        self._request(_GETREGSET, _NT_X86_XSTATE, ctypes.addressof(vector))
        return self._area.raw[: vector.length]

    @area.setter
    def area(self, value: bytes) -> None:
        vector = _Vector(ctypes.addressof(self._area), len(value))
        ctypes.memmove(self._area, value, len(value))
        self._request(_SETREGSET, _NT_X86_XSTATE, ctypes.addressof(vector))

    def read(self, address: int, size: int) -> bytes:
        """Return memory, or what of it is mapped: maybe nothing."""
        try:
            return os.pread(self._memory, size, address)
        except (OSError, OverflowError):
            return b""

    def write(self, address: int, data: bytes) -> None:
        """Write memory, whatever its protection."""
        os.pwrite(self._memory, data, address)

    def hide_trap_flag(self) -> None:
        """After a PUSHF that was stepped over: clear TF in what it pushed, for it is ours."""
        rsp = self.registers[RSP]
        second = self.read(rsp + 1, 1)
        if second:
            self.write(rsp + 1, bytes([second[0] & ~(TRAP_FLAG >> 8)]))
