"""The stack that the guest has named for its signal handlers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pydbi.jit.guest import AlternateStack

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.states import GPRState

SS_ONSTACK, _SS_DISABLE, SS_AUTODISARM = 1, 2, 1 << 31
_MINSIGSTKSZ = 2048
_EPERM, _ENOMEM, _EFAULT, _EINVAL = 1, 12, 14, 22
_STACK = struct.Struct("<QiiQ")
"""stack_t of <bits/types/stack_t.h>."""


def sigaltstack(engine: Engine, gpr: GPRState) -> int:
    """Do what the guest's system call of that name asks for; return 0, or -errno."""
    guest, memory = engine.guest, engine.memory
    before = guest.alternate_stack
    on_it = before.contains(gpr.rsp) and not before.flags & SS_AUTODISARM
    if gpr.rdi:
        content = memory.read_data(gpr.rdi, _STACK.size)
        if content is None:
            return -_EFAULT
        sp, flags, _, size = _STACK.unpack(content)
        if on_it:
            return -_EPERM
        mode = flags & 0x7FFFFFFF
        if mode not in (0, SS_ONSTACK, _SS_DISABLE):
            return -_EINVAL
        if mode == _SS_DISABLE:
            guest.alternate_stack = AlternateStack()
        elif size < _MINSIGSTKSZ:
            return -_ENOMEM
        else:
            guest.alternate_stack = AlternateStack(sp, flags & -(1 << 31), size)
    if gpr.rsi:
        flags = before.flags | SS_ONSTACK if on_it else before.flags
        shown = _STACK.pack(before.sp, _signed(flags), 0, before.size)
        if not memory.write_data(gpr.rsi, shown):
            return -_EFAULT
    return 0


def _signed(flags: int) -> int:
    return (flags & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)
