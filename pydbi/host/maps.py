"""The memory maps of this and of other processes, from /proc/PID/maps."""

from __future__ import annotations

import os
from itertools import product

from pydbi.enums.integers import Integer, unsigned
from pydbi.tuples import NamedTuple
from pydbi.types import MemoryMap, Permission, Range

# Where user space begins and ends: vm.mmap_min_addr's usual value, and TASK_SIZE with four page
# table levels (mmap gives nothing beyond unless asked to).
_LOWEST, _HIGHEST = 0x10000, 0x7FFF_FFFF_F000

# Room left free beside what grows. The stack grows down, and the kernel itself leaves 128 MiB at
# least (MIN_GAP of arch/x86/mm/mmap.c); the heap grows up, and malloc falls back to mmap when it
# cannot.
_STACK_RESERVE = 128 << 20
_HEAP_RESERVE = 64 << 20

# Bits of `Permission` in the order of their letters in /proc/PID/maps.
_PERMISSIONS = {
    "".join(letters): Permission(sum(1 << bit for bit in range(3) if letters[bit] != "-"))
    for letters in product("r-", "w-", "x-")
}


class Mapping(NamedTuple):
    """One line of /proc/PID/maps."""

    start: int
    end: int
    permission: Permission
    offset: int
    """Offset in the mapped file, in bytes."""
    path: str
    """The mapped file; ``[heap]`` and the like as the kernel writes them; empty if anonymous."""
    shared: bool = False
    """Whether others may map, and write, the same memory: MAP_SHARED."""

    @property
    def file(self) -> str:
        """Path of the mapped file, or an empty string if it is none."""
        return self.path if self.path.startswith("/") else ""


def read_mappings(pid: int | str = "self") -> list[Mapping]:
    """Return the maps of a process, in ascending order of addresses.

    Raises:
        OSError: there is no such process, or its maps are not ours to read.
    """
    mappings = []
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.rstrip("\n").split(None, 5)
            start, _, end = fields[0].partition("-")
            path = fields[5] if len(fields) > 5 else ""
            permission = _PERMISSIONS[fields[1][:3]]
            span = int(start, 16), int(end, 16)
            shared = fields[1][3] == "s"
            mappings.append(Mapping(*span, permission, int(fields[2], 16), path, shared))
    return mappings


def executable_ranges() -> list[tuple[int, int, str]]:
    """Return (start, end, path) of every executable map of this process, ascending."""
    executable = Permission.PF_EXEC
    return [(m.start, m.end, m.path) for m in read_mappings() if m.permission & executable]


def gaps() -> list[tuple[int, int]]:
    """Return the address ranges where something could be mapped, ascending.

    The room that the stack and the heap may yet grow into is not among them.
    """
    result = []
    start = _LOWEST
    for mapping in read_mappings():
        end = min(mapping.start, _HIGHEST)
        if mapping.path == "[stack]":
            end -= _STACK_RESERVE
        if start < end:
            result.append((start, end))
        start = max(start, mapping.end + (_HEAP_RESERVE if mapping.path == "[heap]" else 0))
    if start < _HIGHEST:
        result.append((start, _HIGHEST))
    return result


def _records(pid: int | str, full_path: bool | None) -> list[MemoryMap]:
    if isinstance(full_path, (str, bytes)) or not hasattr(type(full_path), "__bool__"):
        raise TypeError(f"full_path must be true or false, not {full_path!r}")
    return [
        MemoryMap(
            Range(m.start, m.end),
            m.permission,
            m.path if full_path else os.path.basename(m.file),
        )
        for m in read_mappings(pid)
    ]


def getCurrentProcessMaps(full_path: bool = False) -> list[MemoryMap]:
    """Return all memory maps of this process.

    A map's name is the base name of its file, and empty for anonymous memory, the heap and the
    stack. With *full_path* it is the file's path, and the heap and the stack have the kernel's
    names ``[heap]`` and ``[stack]``.
    """
    return _records("self", full_path)


def getRemoteProcessMaps(pid: Integer, full_path: bool = False) -> list[MemoryMap]:
    """Return all memory maps of a process; none if it does not exist or is not ours to read."""
    try:
        return _records(unsigned(pid, "pid"), full_path)
    except OSError:
        return []


def getModuleNames() -> list[str]:
    """Return the base names of all files mapped into this process, sorted."""
    return sorted({os.path.basename(m.file) for m in read_mappings() if m.file})
