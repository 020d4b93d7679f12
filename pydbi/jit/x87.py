"""The x87 words and registers as Python sees them: views on an `FPRState`, or on their own."""

from __future__ import annotations

import ctypes
import struct

_BIT = ctypes.c_uint16


class _View(ctypes.Structure):
    """Memory of its own, or a part of an `FPRState`. Two are equal if they are the same memory."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        tell(self._b_base_)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return ctypes.addressof(self) == ctypes.addressof(other)

    def __hash__(self) -> int:
        return hash(ctypes.addressof(self))

    def __reduce__(self) -> str:
        raise TypeError(f"cannot copy or pickle a {type(self).__name__}: do so with the FPRState")


_EXCEPTIONS = [
    (name, _BIT, 1) for name in ("invalid", "denorm", "zdiv", "ovrfl", "undfl", "precis")
]


class _Word(_View):
    """A word whose low six bits are about the floating-point exceptions."""

    __slots__ = ()

    invalid: int
    denorm: int
    zdiv: int
    ovrfl: int
    undfl: int
    precis: int


class FPControl(_Word):
    """The x87 control word, bit by bit (SDM vol. 1, 8.1.5).

    ``invalid``, ``denorm``, ``zdiv``, ``ovrfl``, ``undfl``, ``precis`` mask an exception each;
    ``pc`` is the precision and ``rc`` the rounding, two bits each. Further bits of a value are cut.
    """

    __slots__ = ()
    _fields_ = [
        *_EXCEPTIONS,
        ("_reserved0", _BIT, 2),
        ("pc", _BIT, 2),
        ("rc", _BIT, 2),
        ("_reserved1", _BIT, 4),
    ]

    pc: int
    rc: int


class FPStatus(_Word):
    """The x87 status word, bit by bit (SDM vol. 1, 8.1.3).

    ``invalid``, ``denorm``, ``zdiv``, ``ovrfl``, ``undfl``, ``precis`` are the exceptions that
    occurred, ``stkflt`` and ``errsumm`` the stack fault and the summary, ``c0``-``c3`` the
    condition codes, ``tos`` the top of the stack (three bits). Further bits of a value are cut.
    """

    __slots__ = ()
    _fields_ = [
        *_EXCEPTIONS,
        ("stkflt", _BIT, 1),
        ("errsumm", _BIT, 1),
        ("c0", _BIT, 1),
        ("c1", _BIT, 1),
        ("c2", _BIT, 1),
        ("tos", _BIT, 3),
        ("c3", _BIT, 1),
        ("busy", _BIT, 1),
    ]

    stkflt: int
    errsumm: int
    c0: int
    c1: int
    c2: int
    tos: int
    c3: int
    busy: int


class MMSTReg(_View):
    """One x87 register as FXSAVE stores it: ten bytes, padded to sixteen."""

    __slots__ = ()
    _fields_ = [("_bytes", ctypes.c_uint8 * 10), ("_padding", ctypes.c_uint8 * 6)]

    @property
    def st(self) -> bytes:
        """The register's ten bytes; setting fewer replaces the low ones, further ones are cut."""
        return bytes(self._bytes)

    @st.setter
    def st(self, value: bytes) -> None:
        write_bytes(self, 0, 10, value, "st")


def tell(state: object) -> None:
    """Tell the guest that lives in *state*, if there is one, that a register was set."""
    on_write = getattr(state, "on_write", None)
    if on_write:
        on_write()


def write_bytes(memory: ctypes.Structure, offset: int, size: int, value: bytes, what: str) -> None:
    """Write *value* at *offset*: fewer bytes than *size* replace the low ones, others are cut.

    Raises:
        TypeError: it is not ``bytes``.
    """
    if not isinstance(value, bytes):
        raise TypeError(f"{what} must be bytes, not {value!r}")
    struct.pack_into(f"{min(size, len(value))}s", memory, offset, value)
