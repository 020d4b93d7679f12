"""GPRState: the guest's general registers as Python sees them."""

from __future__ import annotations

import ctypes

from pydbi.enums.integers import Integer, unsigned
from pydbi.jit.context import GPR_NAMES
from pydbi.jit.state import State

# What PyQBDI's constants of these names are.
REG_RETURN, REG_BP, REG_SP, REG_PC, REG_FLAG = 0, 14, 15, 16, 17
REG_LR = None
AVAILABLE_GPR = 14
"""How many registers code may use freely: all but rbp, rsp and rip."""
NUM_GPR = 17
"""How many general registers there are, with rip."""

_INDEXED = (*GPR_NAMES, "fs", "gs")
_SHADOWS = {
    "REG_RETURN": "rax",
    "REG_BP": "rbp",
    "REG_SP": "rsp",
    "REG_PC": "rip",
    "REG_FLAG": "eflags",
    "AVAILABLE_GPR": "rbp",
    "NUM_GPR": "eflags",
}
"""Further names of registers: PyQBDI has those of all its constants."""
_set_attribute = State.__setattr__
_REGISTERS = frozenset((*_INDEXED, *_SHADOWS))


class GPRState(State):
    """The general registers, rip and eflags; ``fs`` and ``gs`` are the segment bases.

    Registers are unsigned 64-bit integers. ``state[index]`` counts them as ``REG_*`` does; behind
    eflags, which is 17, come fs and gs. ``REG_SP`` is ``rsp`` by another name, and so on.
    """

    __slots__ = ()
    _fields_ = tuple((name, ctypes.c_uint64) for name in _INDEXED)

    rax: int
    rbx: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rbp: int
    rsp: int
    rip: int
    eflags: int
    fs: int
    gs: int
    REG_RETURN: int
    REG_BP: int
    REG_SP: int
    REG_PC: int
    REG_FLAG: int
    REG_LR: None = None
    AVAILABLE_GPR: int
    NUM_GPR: int

    def __getitem__(self, index: Integer) -> int:
        """Return the register with this ``REG_*`` index."""
        return int(getattr(self, _name_of(index)))

    def __setitem__(self, index: Integer, value: Integer) -> None:
        """Set the register with this ``REG_*`` index."""
        setattr(self, _name_of(index), value)

    def __setattr__(self, name: str, value: object) -> None:
        """Set a register; TypeError if it cannot hold *value* (ctypes itself would cut it)."""
        if name in _REGISTERS and not (type(value) is int and 0 <= value < 1 << 64):
            value = unsigned(value, name)
        _set_attribute(self, name, value)

    def __str__(self) -> str:
        lines = (f"{name:7}: {getattr(self, name):#018x}" for name in _INDEXED)
        return "\n".join(("=== GPRState begin ===", *lines, "=== GPRState end ===", ""))


for _shadow, _register in _SHADOWS.items():
    setattr(GPRState, _shadow, getattr(GPRState, _register))


def _name_of(index: Integer) -> str:
    number = unsigned(index, "register index", 32)
    if number >= len(_INDEXED):
        raise IndexError("Out of range of GPRState")
    return _INDEXED[number]
