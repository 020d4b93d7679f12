"""System calls that must not be executed in the cache as they are.

A library function shares the process with Python, so its system calls go to the kernel in place.
The few here would change what the engine stands on.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from pydbi.errors import UnsupportedInstruction
from pydbi.host.memory import map_memory, view
from pydbi.jit.context import GPR_OFFSET, SLOT

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

TABLE_SIZE = 1 << 16

SYS_RT_SIGRETURN, SYS_CLONE, SYS_VFORK, SYS_ARCH_PRCTL, SYS_CLONE3 = 15, 56, 58, 158, 435
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
    for number in (*_REFUSED, SYS_ARCH_PRCTL):
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
    result = 0
    code, argument = gpr.rdi, gpr.rsi
    if code == _ARCH_SET_GS:
        words[SLOT["GUEST_GS"] >> 3] = argument
    elif code == _ARCH_SET_FS:
        engine.guest.need_fs_swap()
        words[SLOT["GUEST_FS"] >> 3] = argument
    elif code in (_ARCH_GET_FS, _ARCH_GET_GS):
        value = engine.guest.fs_base() if code == _ARCH_GET_FS else words[SLOT["GUEST_GS"] >> 3]
        result = 0 if engine.memory.write_data(argument, value.to_bytes(8, "little")) else -_EFAULT
    else:
        result = -_EINVAL
    words[GPR_OFFSET["rax"] >> 3] = result & 0xFFFFFFFFFFFFFFFF
    return engine.cache.syscall_resumes[exit_index]
