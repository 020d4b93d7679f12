"""Which code Python itself runs on: what the engine must never keep from running natively."""

from __future__ import annotations

import os
import sys
from functools import cache
from struct import Struct

from pydbi.host.maps import read_mappings
from pydbi.jit.broker import HOST_LIBRARIES, broker

_HEADER = Struct("<32xQ14xHH")  # Elf64_Ehdr: e_phoff, e_phentsize, e_phnum
_SEGMENT = Struct("<IIQQQQ")  # Elf64_Phdr: type, flags, offset, vaddr, paddr, filesz
_ENTRY = Struct("<qQ")  # Elf64_Dyn
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB = 1, 5


@cache
def host_pages() -> frozenset[int]:
    """Return the numbers of the pages of all this code, as it is mapped when first asked for.

    It is what the broker runs natively, and all that is linked with it: libc above all.
    """
    mappings = read_mappings()
    mapped = {mapping.path for mapping in mappings if mapping.path.startswith("/")}
    wanted = {path for path in mapped if os.path.basename(path).startswith(HOST_LIBRARIES)}
    wanted.add(os.path.realpath(sys.executable))
    found: set[str] = set()
    while wanted:
        path = wanted.pop()
        found.add(path)
        for name in needed_libraries(path):
            wanted |= {other for other in mapped - found if _is_called(other, name)}
    pages = set(broker().pages)
    for mapping in mappings:
        if mapping.path in found or mapping.path == "[vdso]":
            pages.update(range(mapping.start >> 12, mapping.end + 4095 >> 12))
    return frozenset(pages)


def _is_called(path: str, name: str) -> bool:
    """Whether the linker's *name*, perhaps of a symbolic link, is that of the file *path*."""
    return os.path.realpath(os.path.join(os.path.dirname(path), name)) == path


def needed_libraries(path: str) -> list[str]:
    """Return what the ELF file at *path* is linked with (DT_NEEDED); nothing if it is gone."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return []
    if data[:4] != b"\x7fELF":
        return []
    table, size, count = _HEADER.unpack_from(data)
    segments = [_SEGMENT.unpack_from(data, table + size * number) for number in range(count)]
    loaded = [segment for segment in segments if segment[0] == _PT_LOAD]
    names: list[int] = []
    strings = 0
    for kind, _, offset, _, _, length in segments:
        if kind == _PT_DYNAMIC:
            for tag, value in _ENTRY.iter_unpack(data[offset : offset + length]):
                if tag == _DT_NEEDED:
                    names.append(value)
                elif tag == _DT_STRTAB:
                    strings = value
    base = next((o - v for _, _, o, v, _, length in loaded if v <= strings < v + length), 0)
    return [_text(data, strings + base + name) for name in names]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode(errors="surrogateescape")
