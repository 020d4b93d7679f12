"""A builtin function in machine code that makes `MemoryAccess` objects from recorded words.

Python needs a quarter of a microsecond for each; this, a fourth of that, and there is one for each
access that the guest makes. It is a builtin by all rules of CPython's API, but for one thing: it
writes into the objects' slots where a sample object has them. If that cannot be found out,
or the outcome is not as it should be, it is not used.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Callable
from functools import cache

from pydbi.host.libc import PROT_EXEC, PROT_READ
from pydbi.host.memory import PAGE_SIZE, map_memory, protect_memory, view
from pydbi.jit.context import SLOT
from pydbi.jit.stubs import stubs
from pydbi.types import MemoryAccess, MemoryAccessFlags, MemoryAccessType

Maker = Callable[[int, int], list[MemoryAccess]]
"""Called with the address of a plan (see `plan_words`) and of the context."""

_FUNCTIONS = (
    "PyLong_AsVoidPtr",
    "PyList_New",
    "PyType_GenericAlloc",
    "PyLong_FromUnsignedLongLong",
    "PyList_SetItem",
    "Py_IncRef",
    "Py_DecRef",
)
_SLOTS = ("accessAddress", "value", "instAddress", "size", "type", "flags")
_METH_FASTCALL = 0x80
_SELF = SLOT["SELF"] >> 3

Fields = tuple[int, int, MemoryAccessType, MemoryAccessFlags]
"""What is known at scan time: instAddress, size, type, flags."""


class _MethodDefinition(ctypes.Structure):
    """``PyMethodDef`` of CPython's C API."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    ]


_DEFINITION = _MethodDefinition(b"make_accesses", None, _METH_FASTCALL, None)


def plan_words(first: int, records: list[Fields]) -> array[int]:
    """Return a plan for a `Maker`: it makes an access of each pair of words from *first* on.

    Args:
        first: offset in the context, in bytes.
        records: the objects themselves must outlive the plan.
    """
    words = array("Q", (len(records), first))
    for fields in records:
        words.extend(map(id, fields))
    return words


def pairs_reader(first: int, records: list[Fields]) -> Callable[[memoryview], list[MemoryAccess]]:
    """Return what makes, of a context's words, an access of each pair of words from *first* on.

    Args:
        first: offset in the context, in bytes.
    """
    maker = access_maker()
    if maker is None:
        return _slow_reader(first >> 3, records)
    plan = plan_words(first, records)
    address, _ = plan.buffer_info()

    def read(words: memoryview, *, _kept: object = (plan, records)) -> list[MemoryAccess]:
        return maker(address, words[_SELF])

    return read


def _slow_reader(word: int, records: list[Fields]) -> Callable[[memoryview], list[MemoryAccess]]:
    instructions, sizes, types, flags = zip(*records, strict=True)
    end = word + 2 * len(records)

    def read(words: memoryview) -> list[MemoryAccess]:
        pairs = words[word:end].tolist()
        return [*map(MemoryAccess, instructions, pairs[::2], pairs[1::2], sizes, types, flags)]

    return read


@cache
def access_maker() -> Maker | None:
    """Return the builtin, or None if it does not work on this Python."""
    if sys.implementation.name != "cpython":
        return None
    try:
        maker = _make_builtin(_table())
        return maker if _works(maker) else None
    except (AttributeError, ValueError):  # a function is not there; a slot was not found
        return None


def _table() -> array[int]:
    """What the machine code has to know."""
    words = array("Q")
    for name in _FUNCTIONS:
        function = getattr(ctypes.pythonapi, name)
        words.append(ctypes.cast(function, ctypes.c_void_p).value or 0)
    words.append(id(MemoryAccess))
    marks = [object() for _ in _SLOTS]
    sample = object.__new__(MemoryAccess)
    for name, mark in zip(_SLOTS, marks, strict=True):
        setattr(sample, name, mark)
    memory = ctypes.string_at(id(sample), MemoryAccess.__basicsize__)
    held = memoryview(memory).cast("Q").tolist()
    words.extend(held.index(id(mark)) * 8 for mark in marks)
    return words


_kept: list[object] = []
"""What the machine code refers to."""


def _make_builtin(table: array[int]) -> Maker:
    address, _ = table.buffer_info()
    template = stubs().template("make_accesses")
    page = map_memory(PAGE_SIZE)
    code = template.filled("table", address.to_bytes(8, "little"))
    view(page, PAGE_SIZE)[: len(code)] = code
    protect_memory(page, PAGE_SIZE, PROT_READ | PROT_EXEC)
    _DEFINITION.function = page
    _kept.append(table)
    new_function = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
    )(("PyCFunction_NewEx", ctypes.pythonapi))
    maker: Maker = new_function(ctypes.addressof(_DEFINITION), None, None)
    return maker


def _works(maker: Maker) -> bool:
    """Whether it makes of a sample what it should."""
    fields: Fields = (
        1 << 63, 4, MemoryAccessType.MEMORY_READ, MemoryAccessFlags.MEMORY_NO_FLAGS,
    )  # fmt: skip
    pairs = array("Q", (0, (1 << 64) - 1, 5))
    plan = plan_words(8, [fields])
    found = maker(plan.buffer_info()[0], pairs.buffer_info()[0])
    expected = MemoryAccess(fields[0], pairs[1], pairs[2], *fields[1:])
    return len(found) == 1 and all(
        getattr(found[0], name) == getattr(expected, name) for name in _SLOTS
    )
