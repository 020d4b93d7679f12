"""Where guest code, data and stack lie, in the traced process and under the engine alike."""

from __future__ import annotations

import ctypes
import mmap

from tests.exec.region import map_pages

PAGE = 0x1000
BASE = 0x30000000
"""Below 4 GiB, so that address-size prefixes work, and where neither Python nor its heap is."""
SLOT_COUNT = 128
"""Cases of one batch: each has a page of its own."""
CHANGING_COUNT = 16
"""The last slots are writable: code there may change itself."""
CODE = BASE
CODE_SIZE = (SLOT_COUNT - CHANGING_COUNT) * PAGE
CHANGING = CODE + 0x200000
CHANGING_SIZE = CHANGING_COUNT * PAGE
DATA = BASE + 0x400000
STACK = BASE + 0x500000
AREA_SIZE = 2 * PAGE

READ, WRITE, EXECUTE = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC
AREAS = (
    (CODE, CODE_SIZE, READ | EXECUTE),
    (CHANGING, CHANGING_SIZE, READ | WRITE | EXECUTE),
    (DATA, AREA_SIZE, READ | WRITE),
    (STACK, AREA_SIZE, READ | WRITE),
)
"""Address, size and protection; nothing is mapped between them."""

_LOWEST, _HIGHEST, _REACH = 0x10000, BASE + 0x1000000, 0x81000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def slot_address(slot: int) -> int:
    """Return where the page of a slot begins."""
    within = slot * PAGE
    return CODE + within if within < CODE_SIZE else CHANGING + within - CODE_SIZE


def map_areas() -> None:
    """Map all areas in this process.

    Raises:
        OSError: something is there.
    """
    for address, size, protection in AREAS:
        map_pages(address, size, protection)


def crowd() -> None:
    """Leave nothing free in reach of the code: translations lie too far for displacements.

    Raises:
        OSError: something is in reach already.
    """
    for low, high in ((_LOWEST, BASE), (_HIGHEST, BASE + _REACH)):
        map_pages(low, high - low, 0)


def write_code(code: bytes, changing: bytes) -> None:
    """Put the code of a batch into this process."""
    _libc.mprotect(CODE, CODE_SIZE, READ | WRITE)
    ctypes.memmove(CODE, code, CODE_SIZE)
    _libc.mprotect(CODE, CODE_SIZE, READ | EXECUTE)
    ctypes.memmove(CHANGING, changing, CHANGING_SIZE)
