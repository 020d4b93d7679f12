"""Function symbols of mapped ELF files, and what lies at an address.

A reader of the few structures that this takes, so that a trace has symbols without pyelftools.
Structure layouts and constants are those of <elf.h>.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator

from pydbi.host.libc import DlInfo, libc
from pydbi.host.maps import Mapping, read_mappings
from pydbi.host.memory import readMemory
from pydbi.tuples import NamedTuple

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym

_IDENTITY = b"\x7fELF\x02\x01"  # 64 bits, little endian
_PT_LOAD = 1
_SHT_SYMTAB, _SHT_DYNSYM = 2, 11
_FUNCTION_TYPES = frozenset({2, 10})  # STT_FUNC, STT_GNU_IFUNC (its value is the resolver)
_SHN_UNDEF = 0


class Symbol(NamedTuple):
    """A function of an ELF file."""

    value: int
    """Virtual address in the file, without the load address."""
    size: int
    """Bytes; 0 if the file does not say."""
    name: str


class ElfFile:
    """The functions of an ELF file and where the file says they lie.

    Args:
        data: the whole file, or as much of it as there is; only what is needed is copied.

    Raises:
        ValueError: it is no 64-bit little-endian ELF file, or a damaged one.
    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        try:
            self._read(data)
        except struct.error as error:
            raise ValueError(f"damaged ELF file: {error}") from error

    def _read(self, data: bytes | mmap.mmap) -> None:
        def part(offset: int, size: int) -> bytes:
            if offset + size > len(data):
                raise ValueError(f"damaged ELF file: it ends before {offset + size:#x}")
            return data[offset : offset + size]

        header = _HEADER.unpack(part(0, _HEADER.size))
        if not header[0].startswith(_IDENTITY):
            raise ValueError("not a 64-bit little-endian ELF file")
        segments_offset, sections_offset = header[5:7]
        segments_count, section_count = header[10], header[12]
        self._segments = [
            (offset, address, size)
            for kind, _, offset, address, _, size, _, _ in _SEGMENT.iter_unpack(
                part(segments_offset, segments_count * _SEGMENT.size)
            )
            if kind == _PT_LOAD
        ]
        sections = list(_SECTION.iter_unpack(part(sections_offset, section_count * _SECTION.size)))
        ends = [section[3] + section[5] for section in sections]
        # (value, size, limit, string table, offset of the name in it); names are decoded when asked
        # for, since a trace needs few of them. A function without a size ends with its section.
        entries = []
        for _, kind, _, _, offset, size, link, _, _, _ in sections:
            if kind not in (_SHT_SYMTAB, _SHT_DYNSYM) or link >= len(sections):
                continue
            strings = part(*sections[link][4:6])
            entries += [
                (value, length, value + length if length else ends[section], strings, name)
                for name, info, _, section, value, length in _SYMBOL.iter_unpack(part(offset, size))
                if info & 15 in _FUNCTION_TYPES and _SHN_UNDEF < section < len(ends)
            ]
        entries.sort(key=lambda entry: entry[0])
        self._entries = entries
        self._values = [entry[0] for entry in entries]

    def __iter__(self) -> Iterator[Symbol]:
        """Every function, in ascending order of addresses; aliases follow each other."""
        return map(self._symbol, range(len(self._entries)))

    def _symbol(self, position: int) -> Symbol:
        value, size, _, strings, start = self._entries[position]
        name = strings[start : strings.find(b"\0", start)].decode("utf-8", "replace")
        return Symbol(value, size, name)

    def virtual_address(self, offset: int) -> int | None:
        """Return the virtual address at which a file offset is mapped, None if it is not."""
        for start, address, size in self._segments:
            if start <= offset < start + size:
                return int(address + offset - start)
        return None

    def function_at(self, address: int) -> Symbol | None:
        """Return the function that contains a virtual address, None if none does.

        Of several names of a function, the one that its users know: with the fewest leading
        underscores, then the shortest. A function without a size reaches to the next one.
        """
        end = bisect_right(self._values, address)
        if not end:
            return None
        start = end
        while start and self._values[start - 1] == self._values[end - 1]:
            start -= 1
        aliases = [
            self._symbol(position)
            for position in range(start, end)
            if address < self._entries[position][2]
        ]
        return min(aliases, key=_name_rank, default=None)


def _name_rank(symbol: Symbol) -> tuple[int, int, str]:
    name = symbol.name
    return len(name) - len(name.lstrip("_")), len(name), name


@functools.cache
def _open_elf(path: str) -> ElfFile | None:
    """Read a file once; None if it is gone, not readable or no ELF file."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return ElfFile(data)
    except (OSError, ValueError):
        return None


@functools.cache
def _vdso_elf(start: int, size: int) -> ElfFile | None:
    """Read the vdso, which is a whole ELF file in memory and nowhere else."""
    try:
        return ElfFile(readMemory(start, size))
    except (OSError, ValueError):
        return None


class Location(NamedTuple):
    """What lies at an address of this process."""

    module: str | None
    """Base name of the mapped file, as the program asked the dynamic linker for it (``libz.so.1``
    and not ``libz.so.1.2.13``); None for anonymous memory and where nothing is mapped."""
    module_offset: int
    """Distance from the module's first byte."""
    symbol: str | None
    """The function there; None if the file has no symbol for it."""
    symbol_offset: int
    """Distance from the function's first byte; 0 without a symbol."""


def _linker_name(address: int) -> str:
    """Return the base name under which the dynamic linker knows a loaded file."""
    info = DlInfo()
    if not libc.dladdr(address, ctypes.addressof(info)):
        return ""
    return os.path.basename(os.fsdecode(info.file_name or b""))


_NOWHERE = Location(None, 0, None, 0)


class Symbolizer:
    """Tells what lies at an address of this process.

    It keeps the memory maps, and reads them anew when an address is not in them. After a library
    was unloaded and another loaded in its place, call `refresh`.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._mappings: list[tuple[Mapping, int, str]] = []

    def refresh(self) -> None:
        """Read the memory maps of this process."""
        base, path, name = 0, "", ""
        self._mappings = []
        for mapping in read_mappings():
            if mapping.path != path or not mapping.offset:
                base, path = mapping.start, mapping.path
                name = _linker_name(base) or os.path.basename(path)
            if mapping.path:
                self._mappings.append((mapping, base, name))
        self._starts = [mapping.start for mapping, _, _ in self._mappings]

    def _find(self, address: int) -> tuple[Mapping, int, str] | None:
        position = bisect_right(self._starts, address) - 1
        if position >= 0 and address < self._mappings[position][0].end:
            return self._mappings[position]
        return None

    def locate(self, address: int) -> Location:
        """Return the module and the function that contain *address*."""
        found = self._find(address)
        if found is None:
            self.refresh()
            found = self._find(address)
        if found is None:
            return _NOWHERE
        mapping, base, module = found
        if mapping.file:
            elf = _open_elf(mapping.file)
        elif mapping.path == "[vdso]":
            elf = _vdso_elf(mapping.start, mapping.end - mapping.start)
        else:
            return _NOWHERE
        function, virtual = None, None
        if elf is not None:
            virtual = elf.virtual_address(address - mapping.start + mapping.offset)
        if elf is not None and virtual is not None:
            function = elf.function_at(virtual)
        if function is None or virtual is None:
            return Location(module, address - base, None, 0)
        return Location(module, address - base, function.name, virtual - function.value)


symbolizer = Symbolizer()
"""The symbolizer that analysis uses."""
