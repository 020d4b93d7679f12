"""The records of memory accesses of single instructions: how the tables are written and checked.

A table is a text. Each row is one instruction with the records before and after it::

    xor edx, edx => add [rdi], rax | R di:8=706050403020100 | + W di:8=1828384858687888
    ! why it is wrong | R di:8=0 | same

In front of ``=>`` stand instructions that prepare. ``same`` are the records before it, ``+`` adds
to them, ``-`` is none. A line that starts with ``!`` says what PyQBDI gives for the row above it,
where it is wrong, and in what; a signal in place of the records is its end. A line that starts with
``|`` or a record goes on with the one above. Records are in the order of the list, each as
``TYPE ADDRESS:SIZE=VALUE``:

- ADDRESS is relative to a register as `State` sets it, or to the data page, or to FS's base;
- SIZE is ``?`` with MEMORY_UNKNOWN_SIZE (it is 0 then), ``>=N`` with MEMORY_MINIMUM_SIZE;
- VALUE is hexadecimal, or a label's name, or ``?`` with MEMORY_UNKNOWN_VALUE (it is 0 then).

Data byte i is i modulo 256, up to 0x400; so ``706050403020100`` is the qword at any multiple of
256. xmm0 holds bytes 0x10 to 0x1f.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.compat.harness import BASE, Guest, either, fate, wrong
from tests.exec.native_runner import cpu_flags

LOW = 0x3000_0000
"""Where the rows that use 32-bit addresses run."""
MASKS, INDICES, TARGET = 0x400, 0x440, 0x480
"""Offsets in the data: dwords -1, 0, -1, 0, ...; dwords 0, 8, 16, ...; the address of `target`."""
TAIL = "\nbehind: jmp end\ntarget: nop\njmp end\n"
REGISTERS = {"di": 0x100, "si": 0x200, "sp": 0x6F00, "bp": 0x6F40}
"""The offsets in the data of what rdi, rsi, rsp and rbp point to."""
NUMBERS = {
    "rax": 0x1122334455667788,
    "rbx": 0x99AABBCCDDEEFF00,
    "rcx": 3,
    "rdx": 0xDEADBEEF01020304,
    "r8": 2,
    "r9": -2 & 0xFFFFFFFFFFFFFFFF,
}


class Row(NamedTuple):
    """An instruction and its records; those of PyQBDI differ where it is `wrong`."""

    text: str
    before: list[str]
    after: list[str]
    wrong: str
    pyqbdi: tuple[list[str], list[str]]


def parse(table: str, silent: str = "") -> list[Row]:
    """Return the rows of a table. PyQBDI has no records at all if it is *silent* (a reason)."""
    rows: list[Row] = []
    for line in _join(table):
        text, before, after = map(str.strip, line.lstrip("! ").split("|"))
        records = _records(before, after)
        if line.startswith("!"):
            rows[-1] = rows[-1]._replace(wrong=text, pyqbdi=records)
        else:
            rows.append(Row(text, *records, silent, ([], []) if silent else records))
    return rows


def _join(table: str) -> list[str]:
    """The lines, each with those that go on with it: they begin with ``|`` or a record."""
    lines: list[str] = []
    for line in table.strip().splitlines():
        if re.match(r"[|+RW] ", line):
            lines[-1] += " " + line
        else:
            lines.append(line)
    return lines


def _records(before: str, after: str) -> tuple[list[str], list[str]]:
    first = _split(before)
    if after.startswith(("same", "+")):
        return first, first + _split(after.removeprefix("same").lstrip("+ ") or "-")
    return first, _split(after)


def _split(records: str) -> list[str]:
    return [] if records == "-" else re.split(r" (?=[RW] )", records)


class State(Guest):
    """A guest that stands before one instruction, with known registers and data."""

    def __init__(self, qbdi: Any, text: str, **more: Any) -> None:
        prepare, _, instruction = text.rpartition("=>")
        low = re.search(r"\[(e[a-ds]|eip|r\d+d)", instruction)
        at = LOW if low else BASE
        text = f"movups xmm0, [r15 + 0x10]\n{prepare}\nhere: {instruction}{TAIL}"
        super().__init__(qbdi, text, at=at, **more)
        self.write(0, bytes(range(256)) * 4)
        self.write(MASKS, struct.pack("<16i", *[-1, 0] * 8))
        self.write(INDICES, struct.pack("<16i", *range(0, 128, 8)))
        self.write(TARGET, struct.pack("<Q", self["target"]))
        for offset in range(0, 0x200, 8):
            self.write(0x6E00 + offset, struct.pack("<Q", 0x5000 + offset))
        self.write(0x6F00, struct.pack("<Q", self["target"]))
        pointers = {"r" + name: self.data + offset for name, offset in REGISTERS.items()}
        self.set(**NUMBERS, **pointers, r15=self.data)
        self.records: list[list[str]] = []

    def note(self, vm: Any) -> None:
        """Append the records of the instruction as words."""
        accesses = vm.getInstMemoryAccess()
        assert {access.instAddress for access in accesses} <= {self["here"]}
        self.records.append([self.words(access) for access in accesses])

    def words(self, access: Any) -> str:
        """One record in words."""
        qbdi, flags = self.qbdi, access.flags.value
        size, value = str(access.size), f"{access.value:x}"
        if flags & qbdi.MEMORY_UNKNOWN_SIZE.value:
            assert access.size == 0
            size = "?"
        if flags & qbdi.MEMORY_MINIMUM_SIZE.value:
            size = ">=" + size
        if flags & qbdi.MEMORY_UNKNOWN_VALUE.value:
            assert access.value == 0
            value = "?"
        elif access.value >= LOW:
            value = self._value(access.value)
        kind = {qbdi.MEMORY_READ: "R", qbdi.MEMORY_WRITE: "W"}[access.type]
        return f"{kind} {self._address(access.accessAddress)}:{size}={value}"

    def _value(self, value: int) -> str:
        if value == _fs_base():
            return "fs"
        named = self.where(value)
        return named if named in self.labels else f"{value:x}"

    def _address(self, address: int) -> str:
        bases = {name: self.data + offset for name, offset in REGISTERS.items()}
        for name, base in {**bases, "fs": _fs_base()}.items():
            if -32 <= address - base < 64:
                return f"{name}{address - base:+d}" if address != base else name
        if 0 <= address - self.data < 0x7000:
            return f"data+{address - self.data:#x}"
        return f"{address:#x}"


def _fs_base() -> int:
    """Where FS points: pthread_t is the address of the thread's control block."""
    function = ctypes.CDLL(None).pthread_self
    function.restype = ctypes.c_uint64
    return int(function())


def records_of(qbdi: Any, text: str) -> tuple[list[str], list[str]]:
    """Execute the instruction in *text* and return the records before and after it."""
    g = State(qbdi, text)
    g.vm.recordMemoryAccess(qbdi.MEMORY_READ_WRITE)
    for position, action in ((qbdi.PREINST, qbdi.CONTINUE), (qbdi.POSTINST, qbdi.STOP)):
        g.vm.addCodeAddrCB(g["here"], position, lambda vm, g_, f, act: (g.note(vm), act)[1], action)
    assert g.run()
    before, after = g.records
    return before, after


def table_test(table: str, needs: str = "", silent: str = "") -> Callable[[Any, Row], None]:
    """Return a test of a table, with one case for each row.

    It is skipped where the processor lacks one of *needs*, flags of /proc/cpuinfo.
    PyQBDI has no records of any row if it is *silent*, for that reason.
    """
    rows = parse(table, silent)

    @pytest.mark.skipif(
        not cpu_flags().issuperset(needs.split()), reason=f"the processor lacks {needs}"
    )
    @pytest.mark.parametrize("row", rows, ids=[row.text.replace(" => ", "=>") for row in rows])
    def test(qbdi: Any, row: Row) -> None:
        expected = (row.before, row.after)
        if row.pyqbdi[0] and row.pyqbdi[0][0].startswith("SIG") and wrong(qbdi, row.wrong):
            assert fate(records_of, qbdi, row.text) == row.pyqbdi[0][0]
            return
        if row.wrong:
            expected = either(qbdi, pyqbdi=row.pyqbdi, right=expected, reason=row.wrong)
        assert records_of(qbdi, row.text) == expected

    return test


def test_fields_of_a_record(qbdi: Any) -> None:
    g = State(qbdi, "add [rdi], rax")
    records: list[Any] = []
    g.vm.recordMemoryAccess(qbdi.MEMORY_READ_WRITE)

    def note(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        records.extend(vm.getInstMemoryAccess())
        return qbdi.STOP

    g.vm.addCodeAddrCB(g["here"], qbdi.POSTINST, note, None)
    g.run()
    read, write = records
    assert type(read) is qbdi.MemoryAccess
    assert read.instAddress == write.instAddress == g["here"]
    assert read.accessAddress == write.accessAddress == g.data + 0x100
    assert (read.size, write.size) == (8, 8)
    assert (read.value, write.value) == (0x0706050403020100, 0x1828384858687888)
    assert (read.type, write.type) == (qbdi.MEMORY_READ, qbdi.MEMORY_WRITE)
    assert read.flags == write.flags == qbdi.MEMORY_NO_FLAGS
    assert (type(read.type), type(read.flags)) == (qbdi.MemoryAccessType, qbdi.MemoryAccessFlags)


def test_record_cannot_be_made(qbdi: Any) -> None:
    with pytest.raises(TypeError):
        qbdi.MemoryAccess()


def test_fields_of_a_record_can_be_written(qbdi: Any) -> None:
    g = State(qbdi, "mov rax, [rdi]")
    values: list[Any] = []
    g.vm.recordMemoryAccess(qbdi.MEMORY_READ)

    def note(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        (record,) = vm.getInstMemoryAccess()
        record.value, record.size, record.accessAddress = 5, 6, 7
        record.type, record.flags = qbdi.MEMORY_WRITE, qbdi.MEMORY_UNKNOWN_VALUE
        values.extend([record.value, record.size, record.accessAddress, record.type, record.flags])
        values.append([again.value for again in vm.getInstMemoryAccess()])
        return qbdi.STOP

    g.vm.addCodeAddrCB(g["here"], qbdi.PREINST, note, None)
    g.run()
    mine = [5, 6, 7, qbdi.MEMORY_WRITE, qbdi.MEMORY_UNKNOWN_VALUE]
    assert values == [*mine, [0x0706050403020100]]
