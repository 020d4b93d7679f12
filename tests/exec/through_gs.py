"""Runs one instruction through FS, natively, and through GS, and compares all that it leaves."""

from __future__ import annotations

import ctypes
import mmap
import random
from typing import Any

import pydbi
from tests.exec.gnu_as import assemble
from tests.exec.machine_state import differences, from_engine, random_state, to_engine
from tests.exec.native_runner import vector_level
from tests.exec.region import map_pages

LOW = 0x30000000
"""A page below 4 GiB, and behind it one that is not accessible."""
HIGH = 0x500000000000
"""The same far above."""
_LAST = HIGH + (1 << 32) - 0x1000
"""With base HIGH the page where 32-bit addresses end. What follows it is not mapped."""
_PAGE = 0x1000
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


class ThroughGs:
    """A VM, the memory above, and a page of code."""

    def __init__(self, callbacks: bool) -> None:
        self._code = mmap.mmap(-1, _PAGE, prot=_READ_WRITE | mmap.PROT_EXEC)
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self._pages = (LOW, HIGH, _LAST)
        for address in self._pages:
            map_pages(address, _PAGE, _READ_WRITE)
            if address != _LAST:
                map_pages(address + _PAGE, _PAGE, 0)
        self.vm = pydbi.VM()
        self.vm.addInstrumentedRange(self._at, self._at + _PAGE)
        self.seen: list[int] = []
        if callbacks:
            for position in (pydbi.PREINST, pydbi.POSTINST):
                self.vm.addCodeCB(position, self._note, None)

    def _note(self, vm: Any, gpr: Any, fpr: Any, data: Any) -> Any:
        self.seen.append(gpr.rip - self._at)
        return pydbi.CONTINUE

    def prepare(self, text: str, segment: str) -> tuple[int, int]:
        """Write code that sets the base to rax and is *text*; return where it begins and ends."""
        text = text.replace("gs:", f"{segment}:")
        text = text.replace("GS", {"fs": "0x64", "gs": "0x65"}[segment])
        code = assemble(f".intel_syntax noprefix\n.text\nwr{segment}base rax\n{text}\nend: nop\n")
        self._code[: len(code)] = code
        self.vm.clearAllCache()
        return self._at, self._at + len(code) - 1

    def fill(self) -> None:
        """Let all memory have known contents."""
        for address in self._pages:
            data = random.Random(address).randbytes(_PAGE // 2)
            ctypes.memmove(address, data + data, _PAGE)

    def memory(self) -> list[bytes]:
        """All memory that is accessible."""
        return [ctypes.string_at(address, _PAGE) for address in self._pages]

    def outcome(self, text: str, segment: str, registers: dict[str, int]) -> list[Any]:
        """Run *text* once; return the fault, the state, the memory, and what callbacks saw."""
        self.fill()
        start, end = self.prepare(text, segment)
        state = random_state(random.Random(5), registers, vector=vector_level())
        to_engine(state, self.vm)
        self.seen.clear()
        fault: tuple[int, ...] = ()
        try:
            assert self.vm.run(start, end)
        except pydbi.GuestFault as error:
            fault = (error.signal, error.si_code, error.fault_address, error.app_address - start)
        rip = self.vm.getGPRState().rip
        found = from_engine(self.vm, state)
        return [fault, found, self.memory(), list(self.seen), rip - start]

    def compare(self, text: str, registers: dict[str, int]) -> bool:
        """Assert that *text* does the same through FS and through GS; return whether it faults."""
        expected = self.outcome(text, "fs", registers)
        found = self.outcome(text, "gs", registers)
        assert not differences(expected[1], found[1]), (text, differences(expected[1], found[1]))
        del expected[1], found[1]
        assert found == expected, text
        return bool(found[0])
