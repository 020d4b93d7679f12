"""The stacks on which Python handles calls of hooked functions.

The hooked function itself has its caller's stack. Python must not lie below it there, where the
function's own frames go.
"""

from __future__ import annotations

import ctypes
from functools import cache

from pydbi.host.libc import PROT_NONE
from pydbi.host.maps import gaps
from pydbi.host.memory import PAGE_SIZE, map_memory, protect_memory
from pydbi.jit.context import OPMASK_OFFSET

COUNT = 64
"""Calls that can be handled at once; further ones are not instrumented."""
SIZE = 1 << 20
_GUARD = 1 << 16
FRAME_SIZE = -(-(OPMASK_OFFSET + 64) // PAGE_SIZE) * PAGE_SIZE
"""A frame has a context's layout, up to the opmask registers (``hook.S``)."""
_END = (1 << 64) - 1


class Stacks:
    """A table of stacks, from which machine code takes one, and puts it back.

    Attributes:
        table: its address: the frame at the upper end of each free stack, 0 for one that is taken;
            -1 behind the last.
        low, high: where the stacks lie.
    """

    def __init__(self) -> None:
        self.low = _map_high(COUNT * SIZE)
        self.high = self.low + COUNT * SIZE
        frames = range(self.low + SIZE - FRAME_SIZE, self.high, SIZE)
        self._table = (ctypes.c_uint64 * (COUNT + 1))(*frames, _END)
        self.table = ctypes.addressof(self._table)
        for stack in range(self.low, self.high, SIZE):
            protect_memory(stack, _GUARD, PROT_NONE)


def _map_high(size: int) -> int:
    """Map memory as high as possible: above the threads' own stacks.

    Since 3.14, CPython takes a stack pointer below the thread's own stack for an overflow.
    """
    for start, end in reversed(gaps()):
        place = end - size & -PAGE_SIZE
        if place >= start:
            try:
                return map_memory(size, address=place, fixed_noreplace=True)
            except OSError:
                continue
    return map_memory(size)


@cache
def stacks() -> Stacks:
    """Return the process's stacks, mapping them on first use."""
    return Stacks()
