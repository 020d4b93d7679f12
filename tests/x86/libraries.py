"""The code that this process is made of, as test material: libc, libm, libstdc++ and so on."""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["executable_sections", "libraries"]

_WANTED = ("ld-linux", "ld.so", "libc.so", "libc-", "libm.so", "libm-", "libstdc++", "libcrypto",
           "libpython", "python3")  # fmt: skip
_PROGBITS = 1
_EXECUTABLE = 4


def libraries() -> list[Path]:
    """Return the files of the libraries under test that can be loaded here, sorted by size."""
    for name in ("libm.so.6", "libstdc++.so.6", "libcrypto.so.3", "libcrypto.so.1.1"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
    mapped = {
        Path(line.split(None, 5)[5].strip())
        for line in Path("/proc/self/maps").read_text().splitlines()
        if " r-xp " in line and "/" in line
    }
    found = [path for path in mapped if path.is_file() and path.name.startswith(_WANTED)]
    return sorted(found, key=lambda path: path.stat().st_size)


def executable_sections(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (address, contents) of each executable section of the ELF file at *path*."""
    image = path.read_bytes()
    (table,) = struct.unpack_from("<Q", image, 0x28)
    entry_size, count = struct.unpack_from("<HH", image, 0x3A)
    for number in range(count):
        _, kind, flags, address, offset, size = struct.unpack_from(
            "<IIQQQQ", image, table + number * entry_size
        )
        if kind == _PROGBITS and flags & _EXECUTABLE:
            yield address, image[offset : offset + size]
