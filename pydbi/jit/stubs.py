"""The precompiled assembly stubs, mapped once per process.

``asm_stubs/`` holds their sources, line by line commented; ``asm_stubs/build.py`` makes the blob.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

from pydbi.errors import CacheError
from pydbi.host import cpu
from pydbi.host.libc import PROT_EXEC, PROT_READ
from pydbi.host.memory import map_memory, protect_memory, view
from pydbi.jit.context import SLOT
from pydbi.tuples import NamedTuple

SIGNAL_COUNT = 65
ACTION_SIZE = 32
"""The kernel's ``struct sigaction``: handler, flags, restorer, mask; 8 bytes each."""

MOST_CONTEXTS = 4096
NONE, SSE, AVX, AVX512 = "none", "sse", "avx", "avx512"

_SWITCH_SLOTS = {
    SLOT["LEAVE"]: "leave",
    SLOT["LEAVE_TAIL"]: "leave_tail",
    SLOT["GATE"]: "gate",
    SLOT["GATE_RESUME"]: "gate_resume",
    SLOT["ENTER"]: "enter",
    SLOT["ENTER_END"]: "enter_end",
    SLOT["GATE_RESUME_END"]: "gate_resume_end",
}
_FIXED_SLOTS = {
    SLOT["LOOKUP_MISS"]: "lookup_miss",
    SLOT["NATIVE_CALL"]: "native_call",
    SLOT["SYSCALL_FILTER"]: "syscall_filter",
}


class Template(NamedTuple):
    """Machine code with holes, from ``asm_stubs/x86_64/templates.S``."""

    code: bytes
    holes: dict[str, int]
    """Offset of each hole, by name."""

    def around(self, hole: str, size: int) -> tuple[bytes, bytes]:
        """Return the bytes before and after a hole of *size* bytes."""
        place = self.holes[hole]
        return self.code[:place], self.code[place + size :]

    def filled(self, hole: str, value: bytes) -> bytes:
        """Return the code with *value* in *hole*."""
        before, after = self.around(hole, len(value))
        return before + value + after


class Stubs:
    """The stubs in memory: where each is, and which variant of the switch fits which guest."""

    def __init__(self) -> None:
        blob = _read("stubs_x86_64.bin")
        words = _read("stubs_x86_64.symbols").decode("ascii").split()
        self._offsets = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        self._blob = blob
        self._templates: dict[str, Template] = {}
        self._places = _places_in_templates(self._offsets)
        self.size = len(blob)
        self.address = map_memory(self.size)
        self.previous_actions = (ctypes.c_uint64 * (SIGNAL_COUNT * ACTION_SIZE // 8))()
        """What each signal did before pydbi; the fault handler passes on what is not its own."""
        memory = view(self.address, self.size)
        memory[:] = blob
        self.guest_actions = (ctypes.c_uint64 * (SIGNAL_COUNT * ACTION_SIZE // 8))()
        """The guest's handlers, which run natively where no guest is under way. The first word is
        the kernel's id of the thread that gets signals without a handler here, or 0."""
        self.host_actions = (ctypes.c_uint64 * (SIGNAL_COUNT * ACTION_SIZE // 8))()
        """Handlers of the host that `host_handler` calls with the host's thread pointer."""
        self._contexts = (ctypes.c_uint64 * (MOST_CONTEXTS + 1))()
        self._context_count = 0
        self.reentry = (ctypes.c_uint64 * 4)()
        """What native calls of instrumented code lead to; see `pydbi.jit.reentry`."""
        tables = {
            "reentry_table": self.reentry,
            "previous_actions": self.previous_actions,
            "guest_actions": self.guest_actions,
            "host_actions": self.host_actions,
            "contexts": self._contexts,
        }
        for name, table in tables.items():
            place = self._offsets[name]
            memory[place : place + 8] = ctypes.addressof(table).to_bytes(8, "little")
        protect_memory(self.address, self.size, PROT_READ | PROT_EXEC)
        self.base = "fsgsbase" if cpu.has_fsgsbase() else "prctl"
        self.safe_copy = ctypes.PYFUNCTYPE(
            ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t
        )(self.find("safe_copy"))

    def add_context(self, address: int) -> None:
        """Let the signal handlers know a context; it is never unmapped.

        Raises:
            CacheError: there are too many.
        """
        if self._context_count == MOST_CONTEXTS:
            raise CacheError(f"there are {MOST_CONTEXTS} guests already: let go of some VMs")
        self._contexts[self._context_count] = address
        self._context_count += 1

    def has_context(self, address: int) -> bool:
        """Whether a context lies there."""
        return address != 0 and address in self._contexts[: self._context_count]

    def find(self, name: str) -> int:
        """Return the address of the stub *name*."""
        return self.address + self._offsets[name]

    def template(self, name: str) -> Template:
        """Return the template *name*."""
        if name not in self._templates:
            self._templates[name] = self._find_template(name)
        return self._templates[name]

    def _find_template(self, name: str) -> Template:
        label = "template_" + name
        start, places = self._offsets[label], self._places[label]
        holes = {hole: offset - start for hole, offset in places.items() if hole != "end"}
        return Template(self._blob[start : places["end"]], holes)

    def fixed_slots(self) -> dict[int, int]:
        """Context slots of the stubs that have no variants, and what goes into them."""
        return {slot: self.find(name) for slot, name in _FIXED_SLOTS.items()}

    def switch_slots(self, vector: str, x87: bool, swap: bool) -> dict[int, int]:
        """Context slots of the switch, and the variant for a guest that needs these to be saved.

        Args:
            vector: ``sse``, ``avx`` or ``avx512``: the vector state the guest may have changed;
                ``none``: nobody cares, about x87 neither.
            x87: whether it may have changed x87 or MMX state.
            swap: whether its FS base is its own, not the host's.
        """
        suffix = f"{vector}_x87{x87:d}_swap{swap:d}_{self.base}"
        return {slot: self.find(f"{name}_{suffix}") for slot, name in _SWITCH_SLOTS.items()}


def _places_in_templates(offsets: dict[str, int]) -> dict[str, dict[str, int]]:
    """Return the offset of each hole, and of the end, of each template."""
    places: dict[str, dict[str, int]] = {}
    for name, offset in offsets.items():
        label, _, hole = name.partition(".")
        if hole:
            places.setdefault(label, {})[hole] = offset
    return places


def _read(name: str) -> bytes:
    """Return the content of a file that lies beside this one."""
    # pathlib and json would take longer to import than all stubs to map.
    with open(os.path.join(os.path.dirname(__file__), name), "rb") as file:
        return file.read()


@cache
def stubs() -> Stubs:
    """Return the process's stubs, mapping them on first use."""
    return Stubs()
