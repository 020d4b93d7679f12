"""System calls that must not be executed in the cache as they are.

A library function shares the process with Python, so its system calls go to the kernel in place.
The few here would change what the engine stands on, or which code lies where.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING

from pydbi.errors import UnsupportedInstruction
from pydbi.host.libc import libc
from pydbi.host.memory import map_memory, view
from pydbi.jit.context import GPR_OFFSET, SLOT

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.states import GPRState

TABLE_SIZE = 1 << 16

SYS_RT_SIGRETURN, SYS_CLONE, SYS_VFORK, SYS_ARCH_PRCTL, SYS_CLONE3 = 15, 56, 58, 158, 435
SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP, SYS_MREMAP, SYS_PKEY_MPROTECT = 9, 10, 11, 25, 329
_CHANGES_MAPPINGS = frozenset((SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP, SYS_MREMAP, SYS_PKEY_MPROTECT))
_ARCH_SET_GS, _ARCH_SET_FS, _ARCH_GET_FS, _ARCH_GET_GS = 0x1001, 0x1002, 0x1003, 0x1004
_EFAULT, _EINVAL = 14, 22

_REFUSED = {
    SYS_RT_SIGRETURN: "rt_sigreturn outside a signal handler",
    SYS_CLONE: "clone: call pthread_create or fork, which run natively",
    SYS_VFORK: "vfork: call posix_spawn, which runs natively",
    SYS_CLONE3: "clone3: start threads with pthread_create, which runs natively",
}


@cache
def syscall_table() -> int:
    """Return the address of the table that says, by number, which calls leave the cache."""
    address = map_memory(TABLE_SIZE)
    table = view(address, TABLE_SIZE)
    for number in (*_REFUSED, *_CHANGES_MAPPINGS, SYS_ARCH_PRCTL):
        table[number] = 1
    return address


def on_syscall(engine: Engine, exit_index: int) -> int:
    """Do what the guest asks, and return the cache address behind its syscall instruction.

    Raises:
        UnsupportedInstruction: it cannot be done in Python's own process.
    """
    gpr, words = engine.guest.gpr, engine.guest.words
    following, _ = engine.cache.exits[exit_index]
    number = gpr.rax
    gpr.rcx = following
    gpr.r11 = gpr.eflags
    gpr.rip = following
    if number in _REFUSED:
        gpr.rip = following - 2
        raise UnsupportedInstruction(following - 2, b"\x0f\x05", _REFUSED[number])
    if number in _CHANGES_MAPPINGS:
        result = _change_mapping(engine, gpr)
    else:
        result = _arch_prctl(engine, gpr.rdi, gpr.rsi)
    words[GPR_OFFSET["rax"] >> 3] = result & 0xFFFFFFFFFFFFFFFF
    return engine.cache.syscall_resumes[exit_index]


def _change_mapping(engine: Engine, gpr: GPRState) -> int:
    """Let the kernel do it, and forget what was translated there; return its result."""
    call = (gpr.rax, gpr.rdi, gpr.rsi, gpr.rdx, gpr.r10, gpr.r8, gpr.r9)
    result = int(libc.syscall(*call))
    if result == -1:
        return -ctypes.get_errno()
    start = result if gpr.rax in (SYS_MMAP, SYS_MREMAP) else gpr.rdi
    size = gpr.rdx if gpr.rax == SYS_MREMAP else gpr.rsi
    engine.forget(start, start + max(size, 1))
    if gpr.rax == SYS_MREMAP:
        engine.forget(gpr.rdi, gpr.rdi + max(gpr.rsi, 1))
    return result


def _arch_prctl(engine: Engine, code: int, argument: int) -> int:
    """Read or set a segment base of the guest; return the result, or minus an error number."""
    words = engine.guest.words
    if code == _ARCH_SET_GS:
        words[SLOT["GUEST_GS"] >> 3] = argument
    elif code == _ARCH_SET_FS:
        engine.guest.need_fs_swap()
        words[SLOT["GUEST_FS"] >> 3] = argument
    elif code in (_ARCH_GET_FS, _ARCH_GET_GS):
        value = engine.guest.fs_base() if code == _ARCH_GET_FS else words[SLOT["GUEST_GS"] >> 3]
        if not engine.memory.write_data(argument, value.to_bytes(8, "little")):
            return -_EFAULT
    else:
        return -_EINVAL
    return 0
