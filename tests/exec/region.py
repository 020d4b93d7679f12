"""The memory in which snippets run: code, data and stack, at a chosen kind of address."""

from __future__ import annotations

import ctypes
import mmap
import struct

from tests.exec.batch import CODE_SIZE, DATA, FINISH_SLOT, PAGE, REGION_SIZE, STACK
from tests.exec.snippets import DATA_SIZE, STACK_SIZE

_LOW = (0x30000000, 0x70000000, 0xB0000000)
"""Below 4 GiB, so that address-size prefixes work, and over 2 GiB from any shared library. A python
that is no position-independent executable may have its heap at one of these."""
PLACES: dict[str, tuple[int | None, ...]] = {
    "low": _LOW,
    "distant": _LOW,
    "near": (None,),
    "crowded": (0x200000000000,),
}
"""``low``; ``near`` the libraries; ``distant``: low, after code near the libraries has run;
``crowded``: nothing is free for 2 GiB around the code."""
_CROWD = 3 << 30

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_MAP_FIXED_NOREPLACE, _MAP_NORESERVE = 0x100000, 0x4000

Memory = tuple[bytes, bytes]
"""The data area and the stack."""


def map_pages(address: int | None, size: int, protection: int) -> int:
    """Map private memory at *address* and nowhere else, or, if None, anywhere."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    flags |= _MAP_FIXED_NOREPLACE if address else 0
    result = _libc.mmap(address, size, protection, flags, -1, 0)
    if result in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), f"no room for {size:#x} bytes")
    return int(result)


def _map_first(addresses: tuple[int | None, ...], size: int) -> int:
    for address in addresses[:-1]:
        try:
            return map_pages(address, size, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError:
            continue
    return map_pages(addresses[-1], size, mmap.PROT_READ | mmap.PROT_WRITE)


class Region:
    """The mapping that batches are put in."""

    def __init__(self, place: str) -> None:
        self.is_low = place in ("low", "distant")
        self.base = _map_first(PLACES[place], REGION_SIZE)
        if place == "crowded":
            map_pages(self.base - _CROWD, _CROWD, 0)
            map_pages(self.base + REGION_SIZE, _CROWD, 0)
        base = self.base
        for hole in (FINISH_SLOT + PAGE, DATA + DATA_SIZE, STACK + STACK_SIZE):
            _libc.mprotect(base + hole, PAGE, 0)

    def load(self, code: bytes, finish_address: int) -> None:
        """Put the code of a batch in, readable and executable."""
        size = CODE_SIZE + PAGE
        _libc.mprotect(self.base, size, mmap.PROT_READ | mmap.PROT_WRITE)
        ctypes.memmove(self.base, code, len(code))
        ctypes.memset(self.base + len(code), 0xCC, CODE_SIZE - len(code))
        ctypes.memmove(self.base + FINISH_SLOT, struct.pack("<Q", finish_address), 8)
        _libc.mprotect(self.base, size, mmap.PROT_READ | mmap.PROT_EXEC)

    @property
    def memory(self) -> Memory:
        """The data area and the stack."""
        return (
            ctypes.string_at(self.base + DATA, DATA_SIZE),
            ctypes.string_at(self.base + STACK, STACK_SIZE),
        )

    @memory.setter
    def memory(self, values: Memory) -> None:
        ctypes.memmove(self.base + DATA, values[0], DATA_SIZE)
        ctypes.memmove(self.base + STACK, values[1], STACK_SIZE)
