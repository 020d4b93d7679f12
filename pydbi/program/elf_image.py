"""An ELF file as the kernel's loader sees it: its header and program headers, nothing else.

Structure layouts and constants are those of <elf.h>.
"""

from __future__ import annotations

import os
import struct

from pydbi.host.libc import PROT_EXEC, PROT_READ, PROT_WRITE
from pydbi.host.memory import page_ceil, page_floor
from pydbi.program.errors import ProgramError
from pydbi.tuples import NamedTuple

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_INTERP, _PT_PHDR, _PT_GNU_STACK = 1, 3, 6, 0x6474E551
_EM_X86_64 = 62
_MACHINES = {3: "i386", 40: "arm", 183: "aarch64", 243: "riscv", 21: "ppc64", 22: "s390"}
_ENOEXEC = 8
_MOST_SEGMENTS = 0x10000 // _SEGMENT.size
"""The kernel reads 64 KiB of program headers at most."""
_PROTECTIONS = [
    (PROT_READ if flags & 4 else 0) | (PROT_WRITE if flags & 2 else 0) | (flags & 1 and PROT_EXEC)
    for flags in range(8)
]


class Segment(NamedTuple):
    """A PT_LOAD program header."""

    offset: int
    address: int
    """Where the file wants it, without the load address."""
    file_size: int
    memory_size: int
    protection: int
    """``PROT_`` values."""
    alignment: int


class ElfImage(NamedTuple):
    """What it takes to load a program or an interpreter."""

    path: bytes
    is_fixed: bool
    """Whether it must lie where it was linked (ET_EXEC)."""
    entry: int
    headers_address: int
    """Where its program headers are in memory, without the load address; 0 if nowhere."""
    header_size: int
    header_count: int
    segments: tuple[Segment, ...]
    interpreter: bytes
    """What PT_INTERP names; empty for a static program."""
    executable_stack: bool

    @property
    def low(self) -> int:
        """Its lowest address, without the load address; a multiple of the page size."""
        return page_floor(min(segment.address for segment in self.segments))

    @property
    def high(self) -> int:
        """The end of its highest page, without the load address."""
        return page_ceil(max(segment.address + segment.memory_size for segment in self.segments))

    @property
    def alignment(self) -> int:
        """The greatest alignment that a segment asks for."""
        return max(4096, *(segment.alignment for segment in self.segments))


def read_image(path: bytes) -> ElfImage:
    """Read the headers of the ELF file at *path*.

    Raises:
        ProgramError: it is no ELF file, one for another machine, or a damaged one.
        OSError: it cannot be read.
    """

    def wrong(reason: str) -> ProgramError:
        return ProgramError(_ENOEXEC, path, reason)

    with open(path, "rb", buffering=0) as file:
        first = file.read(4096)
        if len(first) < _HEADER.size or first[:4] != b"\x7fELF":
            raise wrong("not an ELF file, nor a script that begins with #!")
        identity, kind, machine, _, entry, offset, _, _, _, size, count, *_ = _HEADER.unpack_from(
            first
        )
        if machine != _EM_X86_64 or identity[4:6] != b"\x02\x01":
            name = _MACHINES.get(machine, f"machine {machine}")
            if machine == _EM_X86_64:
                name = "32-bit x86-64 (x32)"
            raise wrong(f"a program for {name}; pydbi runs 64-bit x86-64 programs")
        if kind not in (_ET_EXEC, _ET_DYN):
            raise wrong("an ELF file, but not an executable one")
        if size != _SEGMENT.size or not 0 < count <= _MOST_SEGMENTS:
            raise wrong("a damaged ELF file: its program headers")

        def part(start: int, length: int) -> bytes:
            data = first[start : start + length]
            if len(data) < length:
                data = os.pread(file.fileno(), length, start)
            if len(data) < length:
                raise wrong("a damaged ELF file: it ends too early")
            return data

        size_in_memory = page_ceil(os.fstat(file.fileno()).st_size)
        headers = list(_SEGMENT.iter_unpack(part(offset, size * count)))
        interpreter = b""
        for header in headers:
            if header[0] == _PT_INTERP:
                interpreter = part(header[2], header[5]).partition(b"\0")[0]
                break
    segments = tuple(
        Segment(h[2], h[3], h[5], h[6], _PROTECTIONS[h[1] & 7], h[7])
        for h in headers
        if h[0] == _PT_LOAD and h[6]
    )
    if not segments:
        raise wrong("a damaged ELF file: nothing in it is to be loaded")
    if any(s.offset + s.file_size > size_in_memory for s in segments):
        raise wrong("a damaged ELF file: it ends too early")
    if not entry:
        raise wrong("an ELF file without an entry: a shared library, not a program")
    if any(s.file_size > s.memory_size or (s.address - s.offset) % 4096 for s in segments):
        raise wrong("a damaged ELF file: its segments")
    return ElfImage(
        path,
        kind == _ET_EXEC,
        entry,
        _headers_address(headers, segments, offset),
        size,
        count,
        segments,
        interpreter,
        any(h[0] == _PT_GNU_STACK and h[1] & 1 for h in headers),
    )


def _headers_address(
    headers: list[tuple[int, ...]], segments: tuple[Segment, ...], offset: int
) -> int:
    for header in headers:
        if header[0] == _PT_PHDR:
            return header[3]
    for segment in segments:
        if segment.offset <= offset < segment.offset + segment.file_size:
            return segment.address + offset - segment.offset
    return 0
