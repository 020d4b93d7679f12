"""Small pieces of guest code for tests that look at single instructions (in a child process)."""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Any

from tests.exec.gnu_as import assemble

_SIZE = 0x10000


class GuestCode:
    """Assembled code with the addresses of its labels, a page of data, and a VM with a stack."""

    def __init__(self, engine: Any, text: str, *labels: str) -> None:
        table = "".join(f"\n.long {label} - base" for label in labels)
        source = f".intel_syntax noprefix\n.text\nbase:\n.set data, base + 0x8000\n{text}{table}\n"
        code = assemble(source)
        self._pages = mmap.mmap(-1, _SIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._pages[: len(code)] = code
        self.base: int = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        self.data = self.base + 0x8000
        offsets = struct.unpack(f"<{len(labels)}I", code[len(code) - 4 * len(labels) :])
        self._labels = dict(zip(labels, offsets, strict=True))
        self.vm = engine.VM()
        self.vm.addInstrumentedRange(self.base, self.base + 0x8000)
        gpr = self.vm.getGPRState()
        gpr.rsp = gpr.rbp = self.base + 0xF000
        self.vm.setGPRState(gpr)

    def __getitem__(self, label: str) -> int:
        return self.base + int(self._labels[label])

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the data page."""
        return self._pages[0x8000 + offset : 0x8000 + offset + size]
