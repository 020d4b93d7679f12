"""System calls of a guest that is a library in Python's own process.

The few here would change what the engine stands on, or which code lies where.
"""

from __future__ import annotations

import ctypes
from functools import partial
from typing import TYPE_CHECKING

from pydbi.errors import UnsupportedInstruction
from pydbi.host.libc import libc
from pydbi.jit.context import SLOT
from pydbi.jit.syscalls import SYSCALL_SIZE, Handler, SystemCalls

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.states import GPRState

SYS_CLONE, SYS_VFORK, SYS_ARCH_PRCTL, SYS_CLONE3 = 56, 58, 158, 435
SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP, SYS_MREMAP, SYS_PKEY_MPROTECT = 9, 10, 11, 25, 329
_CHANGES_MAPPINGS = (SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP, SYS_MREMAP, SYS_PKEY_MPROTECT)
_ARCH_SET_GS, _ARCH_SET_FS, _ARCH_GET_FS, _ARCH_GET_GS = 0x1001, 0x1002, 0x1003, 0x1004
_END_OF_BASES = (1 << 47) - 4096
"""The kernel refuses to set a segment base from here on: TASK_SIZE_MAX, <asm/page_64_types.h>."""
_EPERM, _EFAULT, _EINVAL = 1, 14, 22

_REFUSED = {
    SYS_CLONE: "clone: call pthread_create or fork, which run natively",
    SYS_VFORK: "vfork: call posix_spawn, which runs natively",
    SYS_CLONE3: "clone3: start threads with pthread_create, which runs natively",
}


def library_calls(engine: Engine) -> SystemCalls:
    """Return what handles the system calls of *engine*'s guest, which is a library."""
    handlers: dict[int, Handler] = {}
    for number, reason in _REFUSED.items():
        handlers[number] = partial(_refuse, reason)
    handlers |= dict.fromkeys(_CHANGES_MAPPINGS, partial(_change_mapping, engine))
    handlers[SYS_ARCH_PRCTL] = partial(arch_prctl, engine)
    handlers |= engine.signals.handlers
    return SystemCalls(engine, handlers)


def _refuse(reason: str, gpr: GPRState) -> int:
    raise UnsupportedInstruction(gpr.rip - SYSCALL_SIZE, b"\x0f\x05", reason)


def _change_mapping(engine: Engine, gpr: GPRState) -> int:
    """Let the kernel do it, and forget what was translated there."""
    call = (gpr.rax, gpr.rdi, gpr.rsi, gpr.rdx, gpr.r10, gpr.r8, gpr.r9)
    result = int(libc.syscall(*call))
    if result == -1:
        return -ctypes.get_errno()
    start = result if gpr.rax in (SYS_MMAP, SYS_MREMAP) else gpr.rdi
    size = gpr.rdx if gpr.rax == SYS_MREMAP else gpr.rsi
    engine.invalidation.forget(start, start + max(size, 1))
    if gpr.rax == SYS_MREMAP:
        engine.invalidation.forget(gpr.rdi, gpr.rdi + max(gpr.rsi, 1))
    return result


def arch_prctl(engine: Engine, gpr: GPRState) -> int:
    """Read or set a segment base of the guest."""
    words = engine.guest.words
    code, argument = gpr.rdi, gpr.rsi
    if code in (_ARCH_SET_GS, _ARCH_SET_FS) and argument >= _END_OF_BASES:
        return -_EPERM
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
