"""GPRState and FPRState: the guest's registers as Python sees them.

Both are ctypes structures laid over the beginning of a context, so inside a callback they are the
registers themselves: a read costs about 15 ns, and a write takes effect when the guest goes on.
Made by themselves (``GPRState()``) or copied they stand alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from pydbi.jit.context import FCW_DEFAULT, FPR_OFFSET, GPR_NAMES, MXCSR_DEFAULT, ZMM_OFFSET

_REGISTERS = frozenset((*GPR_NAMES, "fs", "gs"))
NUM_GPR = 17
"""How many registers an index reaches: all up to and with rip."""


class GPRState(ctypes.Structure):
    """The general registers, rip and eflags; ``fs`` and ``gs`` are the segment bases.

    Registers are unsigned 64-bit integers. ``state[index]`` counts them as ``REG_*`` does, up to
    ``NUM_GPR``. eflags and the segment bases have no index.
    """

    _fields_ = [(name, ctypes.c_uint64) for name in (*GPR_NAMES, "fs", "gs")]

    owner: object = None
    """What the memory belongs to, if not to this object."""

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

    def __init__(self) -> None:
        super().__init__()

    def __getitem__(self, index: int) -> int:
        """Return the register with this ``REG_*`` index."""
        return int(getattr(self, _name_of(index)))

    def __setitem__(self, index: int, value: int) -> None:
        """Set the register with this ``REG_*`` index."""
        setattr(self, _name_of(index), value)

    def __setattr__(self, name: str, value: object) -> None:
        """Set a register; TypeError if it cannot hold *value* (ctypes itself would cut it)."""
        if name in _REGISTERS and not (isinstance(value, int) and 0 <= value < 1 << 64):
            raise TypeError(f"{name} holds an unsigned 64-bit integer, not {value!r}")
        super().__setattr__(name, value)

    def __str__(self) -> str:
        names = (*GPR_NAMES, "fs", "gs")
        lines = (f"{name:7}: {getattr(self, name):#018x}" for name in names)
        return "\n".join(("=== GPRState begin ===", *lines, "=== GPRState end ===", ""))

    __hash__ = object.__hash__  # by identity, which ctypes takes away

    def __copy__(self) -> GPRState:
        return GPRState.from_buffer_copy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> GPRState:
        return GPRState.from_buffer_copy(self)

    def __reduce__(self) -> tuple[Callable[[bytes], GPRState], tuple[bytes]]:
        return GPRState.from_buffer_copy, (bytes(self),)


def _name_of(index: int) -> str:
    if not 0 <= index < NUM_GPR:
        raise IndexError(f"general register index {index} is outside 0..{NUM_GPR - 1}")
    return GPR_NAMES[index]


class _Register80(ctypes.Structure):
    _fields_ = [("value", ctypes.c_ubyte * 10), ("reserved", ctypes.c_ubyte * 6)]


class _FXSaveHeader(ctypes.Structure):
    """The FXSAVE area up to the XMM registers (SDM vol. 2, FXSAVE, 64-bit layout)."""

    _fields_ = [
        ("rfcw", ctypes.c_uint16),
        ("rfsw", ctypes.c_uint16),
        ("ftw", ctypes.c_uint8),
        ("_reserved", ctypes.c_uint8),
        ("fop", ctypes.c_uint16),
        ("fip", ctypes.c_uint64),
        ("fdp", ctypes.c_uint64),
        ("mxcsr", ctypes.c_uint32),
        ("mxcsrmask", ctypes.c_uint32),
        ("_st", _Register80 * 8),
        ("_xmm_unused", ctypes.c_ubyte * (ZMM_OFFSET - FPR_OFFSET - 160)),
    ]


class FPRState(_FXSaveHeader):
    """x87, MMX, SSE, AVX and AVX-512 state.

    ``xmm0``-``xmm15``, ``ymm0``-``ymm15``, ``zmm0``-``zmm31`` are bytes, least significant first,
    and overlap as they do in the CPU; ``k0``-``k7`` are integers; ``stmm0``-``stmm7`` the 10-byte
    values of ST(0)-ST(7), whose low 8 bytes are MM0-MM7. A shorter value replaces the low part
    only, a longer one is cut.
    """

    _fields_ = [("_zmm", ctypes.c_ubyte * 2048), ("_k", ctypes.c_uint64 * 8)]

    owner: object = None
    """What the memory belongs to, if not to this object."""

    on_write: Callable[[], None] | None = None
    """Called after a register was set, on the state that a guest lives in."""

    rfcw: int
    rfsw: int
    ftw: int
    fop: int
    fip: int
    fdp: int
    mxcsr: int
    mxcsrmask: int

    def __init__(self) -> None:
        super().__init__()

    def reset(self) -> None:
        """Give every register the value it has in a new process (SDM vol. 1, 8.1 and 10.2.3)."""
        ctypes.memset(ctypes.addressof(self), 0, ctypes.sizeof(self))
        self.rfcw = FCW_DEFAULT
        self.mxcsr = MXCSR_DEFAULT
        self.mxcsrmask = 0xFFFF

    __hash__ = object.__hash__

    def __copy__(self) -> FPRState:
        return FPRState.from_buffer_copy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> FPRState:
        return FPRState.from_buffer_copy(self)

    def __reduce__(self) -> tuple[Callable[[bytes], FPRState], tuple[bytes]]:
        return FPRState.from_buffer_copy, (bytes(self),)

    def __str__(self) -> str:
        lines = [f"{name:9} : {getattr(self, name):#x}" for name in _CONTROL_NAMES]
        lines += [f"{name:9} : 0x{getattr(self, name)[::-1].hex()}" for name in _VECTOR_NAMES]
        return "\n".join(("=== FPRState begin ===", *lines, "=== FPRState end ===", ""))


_CONTROL_NAMES = ("rfcw", "rfsw", "ftw", "fop", "mxcsr", "mxcsrmask")
_VECTOR_NAMES = tuple(
    f"{kind}{index}" for kind, count in (("stmm", 8), ("ymm", 16)) for index in range(count)
)


def _bytes_property(offset: int, size: int, name: str) -> property:
    # Not every switch saves and restores these: the guest must be told that it has them now.
    rare = size != 16 or offset >= ZMM_OFFSET - FPR_OFFSET + 16 * 64

    def read(self: FPRState) -> bytes:
        return ctypes.string_at(ctypes.addressof(self) + offset, size)

    def write(self: FPRState, value: bytes) -> None:
        data = bytes(value)[:size]
        ctypes.memmove(ctypes.addressof(self) + offset, data, len(data))
        if self.on_write and rare:
            self.on_write()

    return property(read, write, doc=f"{name}: {size} bytes, least significant first.")


def _opmask_property(index: int) -> property:
    def read(self: FPRState) -> int:
        return int(self._k[index])

    def write(self: FPRState, value: int) -> None:
        self._k[index] = value
        if self.on_write:
            self.on_write()

    return property(read, write, doc=f"Opmask register k{index}: 64 bits.")


def _add_register_properties() -> None:
    first_zmm = ZMM_OFFSET - FPR_OFFSET
    for kind, count, size in (("xmm", 32, 16), ("ymm", 32, 32), ("zmm", 32, 64)):
        for index in range(count):
            name = f"{kind}{index}"
            setattr(FPRState, name, _bytes_property(first_zmm + 64 * index, size, name))
    for index in range(8):
        setattr(FPRState, f"stmm{index}", _bytes_property(32 + 16 * index, 10, f"ST({index})"))
        setattr(FPRState, f"k{index}", _opmask_property(index))


_add_register_properties()
