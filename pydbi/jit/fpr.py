"""FPRState: the guest's floating-point, vector and mask registers as Python sees them."""

from __future__ import annotations

import ctypes
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, overload

from pydbi.enums.integers import Integer, unsigned
from pydbi.jit.context import (
    FCW_DEFAULT,
    FPR_OFFSET,
    MXCSR_DEFAULT,
    OPMASK_OFFSET,
    ZMM_OFFSET,
)
from pydbi.jit.state import State
from pydbi.jit.x87 import FPControl, FPStatus, MMSTReg, tell, write_bytes

_T = TypeVar("_T")
_S = TypeVar("_S")
_ZMM = ZMM_OFFSET - FPR_OFFSET
_OPMASK = OPMASK_OFFSET - FPR_OFFSET


class _Layout(State):
    """The FXSAVE area up to the XMM registers (SDM vol. 2, FXSAVE), zmm0-31, k0-7."""

    __slots__ = ("on_write",)
    _fields_ = (
        ("_fcw", FPControl),
        ("_fsw", FPStatus),
        ("_words", ctypes.c_ubyte * 28),
        *((f"_stmm{index}", MMSTReg) for index in range(8)),
        ("_xmm_unused", ctypes.c_ubyte * (_ZMM - 160)),
        ("_zmm", ctypes.c_ubyte * 64 * 32),
        ("_k", ctypes.c_uint64 * 8),
    )
    on_write: Callable[[], None]
    """Called after a register was set, on the state that a guest lives in."""


class _Register(ABC, Generic[_T, _S]):
    """A register of an `FPRState`: read as one type, set from another.

    If it is *rare*, not every switch saves and restores it, and the guest is told that it was set.
    """

    rare: bool

    def __init__(self, description: str) -> None:
        self.__doc__ = description

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, state: None, _kind: type) -> _Register[_T, _S]: ...
    @overload
    def __get__(self, state: _Layout, _kind: type) -> _T: ...
    def __get__(self, state: _Layout | None, _kind: type) -> _T | _Register[_T, _S]:
        return self if state is None else self.read(state)

    def __set__(self, state: _Layout, value: _S) -> None:
        self.write(state, value)
        if self.rare:
            tell(state)

    @abstractmethod
    def read(self, state: _Layout) -> _T:
        """Return its value in *state*."""

    @abstractmethod
    def write(self, state: _Layout, value: _S) -> None:
        """Give it *value* in *state*."""


class _Integer(_Register[int, Integer]):
    """An unsigned integer at an offset; *code* is the format character of `struct`."""

    def __init__(self, offset: int, code: str, description: str, *, rare: bool = False) -> None:
        super().__init__(description)
        self.offset, self.rare = offset, rare
        self._form = struct.Struct("<" + code)

    def read(self, state: _Layout) -> int:
        value: int = self._form.unpack_from(state, self.offset)[0]
        return value

    def write(self, state: _Layout, value: Integer) -> None:
        number = unsigned(value, self.name, self._form.size * 8)
        self._form.pack_into(state, self.offset, number)


class _Bytes(_Register[bytes, bytes]):
    """Bytes at an offset, least significant first."""

    def __init__(self, offset: int, size: int, description: str, *, rare: bool) -> None:
        super().__init__(description)
        self.offset, self.size, self.rare = offset, size, rare
        self._form = struct.Struct(f"{size}s")

    def read(self, state: _Layout) -> bytes:
        value: bytes = self._form.unpack_from(state, self.offset)[0]
        return value

    def write(self, state: _Layout, value: bytes) -> None:
        write_bytes(state, self.offset, self.size, value, self.name)


class _Part(_Register[_T, _T]):
    """A view on the field of its name; setting it copies another one there."""

    rare = True

    def read(self, state: _Layout) -> _T:
        part: _T = getattr(state, "_" + self.name)
        return part

    def write(self, state: _Layout, value: _T) -> None:
        setattr(state, "_" + self.name, value)


def _vectors(name: str, first: int, size: int, bits: str) -> Iterator[_Bytes]:
    """Yield one register for each of the 32: *size* bytes from byte *first* on of zmmN."""
    for index in range(32):
        yield _Bytes(
            _ZMM + 64 * index + first,
            size,
            f"{name.upper()}{index}{bits}: {size} bytes.",
            rare=size != 16 or first != 0 or index >= 16,
        )


class FPRState(_Layout):
    """x87, MMX, SSE, AVX and AVX-512 state.

    ``rfcw`` and ``rfsw`` are the x87 control and status words as integers; ``fcw`` and ``fsw`` are
    the same words bit by bit, and ``stmm0``-``stmm7`` ST(0)-ST(7), whose low 8 bytes are MM0-MM7:
    all of these are views, which stay connected with the state.

    ``xmm0``-``xmm15`` and ``ymm0``-``ymm15`` are 16 bytes each, least significant first: the lower
    and, as in PyQBDI, the upper half of the register. Beyond PyQBDI there are the same of registers
    16 to 31, ``zmm0``-``zmm31`` with all 64 bytes, and ``k0``-``k7``. They overlap as they do in
    the CPU. Fewer bytes than the register has replace its low part; further ones are cut.

    The pointers of the latest x87 instruction and operand are ``ip`` and ``dp`` with the selectors
    ``cs`` and ``ds``, and beyond PyQBDI ``fip`` and ``fdp``, their 64-bit form.
    """

    __slots__ = ()

    rfcw = _Integer(0, "H", "x87 FPU control word", rare=True)
    fcw = _Part[FPControl]("x87 FPU control word, bit by bit")
    rfsw = _Integer(2, "H", "x87 FPU status word", rare=True)
    fsw = _Part[FPStatus]("x87 FPU status word, bit by bit")
    ftw = _Integer(4, "B", "x87 FPU tag word, abridged: a bit for each register", rare=True)
    fop = _Integer(6, "H", "x87 FPU opcode")
    ip = _Integer(8, "I", "x87 FPU instruction pointer offset")
    cs = _Integer(12, "H", "x87 FPU instruction pointer selector")
    fip = _Integer(8, "Q", "x87 FPU instruction pointer of 64 bits")
    dp = _Integer(16, "I", "x87 FPU operand (data) pointer offset")
    ds = _Integer(20, "H", "x87 FPU operand (data) pointer selector")
    fdp = _Integer(16, "Q", "x87 FPU operand (data) pointer of 64 bits")
    mxcsr = _Integer(24, "I", "MXCSR register state")
    mxcsrmask = _Integer(28, "I", "MXCSR mask: the bits that may be set")
    # fmt: off
    (
        stmm0, stmm1, stmm2, stmm3, stmm4, stmm5, stmm6, stmm7,
    ) = (_Part[MMSTReg](f"ST{index}/MM{index}") for index in range(8))
    (
        xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7,
        xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15,
        xmm16, xmm17, xmm18, xmm19, xmm20, xmm21, xmm22, xmm23,
        xmm24, xmm25, xmm26, xmm27, xmm28, xmm29, xmm30, xmm31,
    ) = _vectors("xmm", 0, 16, "")
    (
        ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7,
        ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15,
        ymm16, ymm17, ymm18, ymm19, ymm20, ymm21, ymm22, ymm23,
        ymm24, ymm25, ymm26, ymm27, ymm28, ymm29, ymm30, ymm31,
    ) = _vectors("ymm", 16, 16, "[255:128]")
    (
        zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7,
        zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15,
        zmm16, zmm17, zmm18, zmm19, zmm20, zmm21, zmm22, zmm23,
        zmm24, zmm25, zmm26, zmm27, zmm28, zmm29, zmm30, zmm31,
    ) = _vectors("zmm", 0, 64, "")
    # fmt: on
    k0, k1, k2, k3, k4, k5, k6, k7 = (
        _Integer(_OPMASK + 8 * index, "Q", f"Opmask register K{index}", rare=True)
        for index in range(8)
    )

    def reset(self) -> None:
        """Give every register the value it has in a new process (SDM vol. 1, 8.1 and 10.2.3)."""
        ctypes.memset(ctypes.addressof(self), 0, ctypes.sizeof(self))
        self.rfcw = FCW_DEFAULT
        self.mxcsr = MXCSR_DEFAULT
        self.mxcsrmask = 0xFFFF

    def __str__(self) -> str:
        """One register a line: those of PyQBDI, then those beyond it that are not 0."""
        zmm = [getattr(self, f"zmm{n}")[::-1].hex() for n in range(32)]
        values = [
            *((name, f"{getattr(self, name):0{digits}x}") for name, digits in _PRINTED),
            *((f"stmm{n}", getattr(self, f"stmm{n}").st[::-1].hex()) for n in range(8)),
            *((f"xmm{n}", zmm[n][-32:]) for n in range(16)),
            *((f"ymm{n}", zmm[n][-64:]) for n in range(16)),
            *((f"zmm{n}", zmm[n]) for n in range(16) if zmm[n][:-64].strip("0")),
            *((f"zmm{n}", zmm[n]) for n in range(16, 32) if zmm[n].strip("0")),
            *((f"k{n}", f"{k:016x}") for n in range(8) if (k := getattr(self, f"k{n}"))),
        ]
        lines = (f"{name:<5} : 0x{value}" for name, value in values)
        return "\n".join(("=== FPRState begin ===", *lines, "=== FPRState end ===", ""))


_PRINTED = (
    ("rfcw", 4), ("rfsw", 4), ("ftw", 2), ("fop", 4), ("ip", 8), ("cs", 4), ("dp", 8), ("ds", 4),
    ("mxcsr", 8), ("mxcsrmask", 8),
)  # fmt: skip
"""Integers in the order of `FPRState.__str__`, with their digits."""
