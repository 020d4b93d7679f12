"""GNU as as a function from assembly text to bytes."""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from pathlib import Path

PREAMBLE = ".intel_syntax noprefix\n.text\n"

_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_PROGRAM_BITS, _RELOCATIONS = 1, 4  # SHT_PROGBITS, SHT_RELA
_EXECUTABLE = 4  # SHF_EXECINSTR


class AssemblyError(Exception):
    """GNU as refused the text; ``lines`` are the line numbers (from 1) it complained about."""

    def __init__(self, message: str, lines: list[int]) -> None:
        super().__init__(message)
        self.lines = lines


def assemble(text: str, *options: str) -> bytes:
    """Return the machine code of *text*, which must be position-independent and have no externals.

    Raises:
        AssemblyError: GNU as refused it, or left something for a linker to fill in.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "a.S"), Path(folder, "a.o")
        source.write_text(text)
        done = subprocess.run(
            ["as", *options, str(source), "-o", str(result)], capture_output=True, text=True
        )
        if done.returncode != 0:
            lines = [int(number) for number in re.findall(r"a\.S:(\d+): Error", done.stderr)]
            raise AssemblyError(done.stderr.replace(str(source), "line "), lines)
        return _text_section(result.read_bytes())


def _text_section(elf: bytes) -> bytes:
    (table,) = struct.unpack_from("<Q", elf, 0x28)  # e_shoff
    (count,) = struct.unpack_from("<H", elf, 0x3C)  # e_shnum
    code = b""
    for index in range(count):
        fields = _SECTION.unpack_from(elf, table + index * _SECTION.size)
        _name, kind, flags, _address, offset, size = fields[:6]
        if kind == _RELOCATIONS and size:
            raise AssemblyError("the text refers to something outside itself", [])
        if kind == _PROGRAM_BITS and flags & _EXECUTABLE:
            code = elf[offset : offset + size]
    return code
