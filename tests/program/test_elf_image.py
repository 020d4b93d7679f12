"""Which files are loaded, and what is said of others."""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pydbi.program.elf_image import read_image
from pydbi.program.errors import ProgramError


def damaged(tmp_path: Path, changes: dict[int, bytes], size: int | None = None) -> bytes:
    """Write this Python's executable with other bytes at some offsets, and return its path."""
    data = bytearray(Path(sys.executable).read_bytes()[:size])
    for offset, content in changes.items():
        data[offset : offset + len(content)] = content
    path = tmp_path / "program"
    path.write_bytes(data)
    return bytes(path)


def test_a_program_is_described(build: Callable[..., str]) -> None:
    """Segments, entry, interpreter; where it lies decides the linker."""
    image = read_image(build("exits").encode())
    assert not image.is_fixed
    assert image.low == 0
    assert image.interpreter.endswith(b"ld-linux-x86-64.so.2")
    assert any(segment.protection == 5 for segment in image.segments)
    assert image.low <= image.headers_address < image.entry < image.high
    fixed = read_image(build("exits", "-no-pie", "-static").encode())
    assert fixed.is_fixed
    assert fixed.low == 0x400000
    assert not fixed.interpreter
    assert read_image(build("exits", "-z", "execstack").encode()).executable_stack


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({0: b"\x7fELV"}, "not an ELF file"),
        ({18: struct.pack("<H", 183)}, "aarch64"),
        ({18: struct.pack("<H", 3)}, "i386"),
        ({4: b"\1"}, "x32"),
        ({16: struct.pack("<H", 1)}, "not an executable"),
        ({54: struct.pack("<H", 32)}, "program headers"),
        ({24: bytes(8)}, "without an entry"),
        ({56: struct.pack("<H", 0)}, "program headers"),
        ({32: struct.pack("<Q", 1 << 60)}, "too early"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, changes: dict[int, bytes], reason: str) -> None:
    """The error says what the file is, and has the kernel's number."""
    with pytest.raises(ProgramError, match=reason) as caught:
        read_image(damaged(tmp_path, changes))
    assert caught.value.errno == errno.ENOEXEC


def test_a_short_file_is_refused(tmp_path: Path) -> None:
    """A header that is cut off."""
    with pytest.raises(ProgramError, match="not an ELF file"):
        read_image(damaged(tmp_path, {}, 40))


def test_a_file_that_ends_too_early(tmp_path: Path) -> None:
    """Executing it would be SIGBUS, in this process."""
    size = Path(sys.executable).stat().st_size
    for part in (size // 2, 5000):
        with pytest.raises(ProgramError, match="ends too early"):
            read_image(damaged(tmp_path, {}, part))
