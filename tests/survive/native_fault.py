"""What the kernel says about a fault of some code, run natively in a child under ptrace."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping
from typing import NamedTuple

# Of <sys/ptrace.h> and <linux/ptrace.h>.
_TRACEME, _CONT, _KILL, _GETREGS, _SETREGS, _GETSIGINFO = 0, 7, 8, 12, 13, 0x4202
_REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs",
    "gs",
)  # fmt: skip
_SIGINFO_SIZE, _SIGNO, _CODE, _ADDRESS = 128, 0, 8, 16
_RESUME_FLAG = 0x10000
_NO_SYSTEM_CALL = (1 << 64) - 1


class NativeFault(NamedTuple):
    """A signal with what its siginfo says, and the registers it struck with."""

    signal: int
    si_code: int
    address: int
    registers: dict[str, int]


class _Registers(ctypes.Structure):
    """struct user_regs_struct of <sys/user.h>."""

    _fields_ = [(name, ctypes.c_uint64) for name in _REGISTERS]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def native_fault(registers: Mapping[str, int]) -> NativeFault:
    """Run from ``registers["rip"]``, with this process's memory as it is, until a signal comes."""
    child = os.fork()
    if child == 0:
        _ptrace(_TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    try:
        os.waitpid(child, 0)
        state = _Registers()
        _ptrace(_GETREGS, child, data=ctypes.addressof(state))
        state.orig_rax = _NO_SYSTEM_CALL
        for name, value in registers.items():
            setattr(state, name, value)
        _ptrace(_SETREGS, child, data=ctypes.addressof(state))
        _ptrace(_CONT, child)
        _, status = os.waitpid(child, 0)
        assert os.WIFSTOPPED(status), status
        _ptrace(_GETREGS, child, data=ctypes.addressof(state))
        info = ctypes.create_string_buffer(_SIGINFO_SIZE)
        _ptrace(_GETSIGINFO, child, data=ctypes.addressof(info))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    found = {name: getattr(state, name) for name in _REGISTERS[:15]}
    found |= {"rsp": state.rsp, "rip": state.rip, "eflags": state.eflags & ~_RESUME_FLAG}
    at = ctypes.addressof(info)
    return NativeFault(
        ctypes.c_int.from_address(at + _SIGNO).value,
        ctypes.c_int.from_address(at + _CODE).value,
        ctypes.c_uint64.from_address(at + _ADDRESS).value,
        found,
    )


def _ptrace(request: int, child: int, data: int = 0) -> None:
    if _libc.ptrace(request, child, None, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace request {request} failed")
