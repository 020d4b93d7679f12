"""Where in a guest's registers and memory an address of pydbi's shows."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import pydbi
from pydbi.host.maps import read_mappings
from pydbi.jit.cache import GATE_RECORD_SIZE, GATE_RECORDS
from pydbi.jit.context import CONTEXT_SIZE, GPR_NAMES, SLOT
from pydbi.jit.guest import THUNK_SIZE
from pydbi.jit.stubs import stubs
from tests.compat.harness import DATA, SIZE, Guest

AT = 0x3A5C << 32
"""Where the guest is: with addresses as special as this nothing looks like a trace by chance."""
PATTERN = 0x5A
"""What fills the guest's data and stack before it runs."""
DUMP = 0x800
"""Offset in the guest's data of what `DUMPING` stores."""
_SAVED = GPR_NAMES[:16]
DUMPING = "\n".join(
    [
        *(f"mov [rip + data + {DUMP + 8 * n}], {name}" for n, name in enumerate(_SAVED)),
        *(f"vmovups [rip + data + {DUMP + 128 + 32 * n}], ymm{n}" for n in range(16)),
        f"pushfq; pop qword ptr [rip + data + {DUMP + 640}]",
        f"vstmxcsr [rip + data + {DUMP + 648}]",
        f"rdfsbase rax; mov [rip + data + {DUMP + 656}], rax",
        f"rdgsbase rax; mov [rip + data + {DUMP + 664}], rax",
        f"mov eax, 0; mov ax, gs; mov [rip + data + {DUMP + 672}], rax",
    ]
)
"""Guest code that stores all its registers, as it sees them, into its data."""


def host_ranges(vm: Any) -> dict[str, tuple[int, int]]:
    """What a guest must not see: [low, high) of everything that the engine of *vm* has mapped."""
    engine, guest = vm._engine, vm._guest
    sizes = {
        "stubs": (stubs().address, stubs().size),
        "context": (guest.address, CONTEXT_SIZE),
        "thunk": (guest.thunk, THUNK_SIZE),
        "gate records": (engine.cache.records_address, GATE_RECORDS * GATE_RECORD_SIZE),
        "vectors": (guest.words[SLOT["VECTORS"] >> 3], 1 << 16),
        "second-level table": (guest.words[SLOT["L2_TABLE"] >> 3], 1 << 18),
        "table of system calls": (guest.words[SLOT["SYSCALL_TABLE"] >> 3], 512),
    }
    ranges = {name: (start, start + size) for name, (start, size) in sizes.items()}
    ranges |= {m.path: (m.start, m.end) for m in read_mappings() if m.path == "[stack]"}
    ranges |= {m.path: (m.start, m.end) for m in read_mappings() if m.path == "[stack]"}
    for number, arena in enumerate(engine.cache.arenas):
        size = arena.end - arena.address
        writable = ctypes.addressof(ctypes.c_char.from_buffer(arena.memory))
        ranges[f"arena {number}"] = (arena.address, arena.end)
        ranges[f"arena {number}, where it is written"] = (writable, writable + size)
    return ranges


def traces_in(
    content: bytes, ranges: dict[str, tuple[int, int]], step: int = 1
) -> list[tuple[int, str]]:
    """Return (offset, what) for 8 bytes at each multiple of *step* that point into a range."""
    found = []
    lowest = min(low for low, _ in ranges.values())
    highest = max(high for _, high in ranges.values())
    for shift in range(0, 8, step):
        count = (len(content) - shift) // 8
        for index, word in enumerate(struct.unpack_from(f"<{count}Q", content, shift)):
            if lowest <= word < highest:
                offset = shift + 8 * index
                found += [(offset, name) for name, (a, b) in ranges.items() if a <= word < b]
    return found


def traces(g: Guest) -> list[tuple[str, int, str]]:
    """Return (where, offset, what) for each address of the host in registers or memory of *g*."""
    ranges = host_ranges(g.vm)
    places = {
        "general registers": (bytes(g.vm.getGPRState()), 8),
        "vector registers and x87": (bytes(g.vm.getFPRState()), 8),
        "memory": (ctypes.string_at(g.base, SIZE), 1),
    }
    return [
        (where, *found)
        for where, (content, step) in places.items()
        for found in traces_in(content, ranges, step)
    ]


def guest_of(text: str) -> Guest:
    """Return a guest whose registers, data and stack tell whether they are changed."""
    g = Guest(pydbi, text, at=AT)
    ctypes.memset(g.data, PATTERN, SIZE - DATA)
    for number, name in enumerate(_SAVED[:-1]):
        g.set(**{name: 0x1010101010101010 * (number + 1)})
    fpr = g.vm.getFPRState()
    for number in range(16):
        setattr(fpr, f"ymm{number}", bytes([0x80 + number]) * 32)
    return g
