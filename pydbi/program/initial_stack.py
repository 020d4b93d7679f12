"""The stack that a program finds when it starts: System V ABI, figure 3.9.

From the top: the path, the environment, the arguments, 16 random bytes, the auxiliary vector, the
pointers to all these, the number of arguments, where rsp points to.
"""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Mapping, Sequence

from pydbi.program.errors import ProgramError

_E2BIG = 7
_GUARD = 1 << 20
"""Bytes below the stack that cannot be accessed (the kernel's stack_guard_gap)."""
_SMALLEST, _LARGEST = 1 << 17, 1 << 28
"""Bytes: room that every program has for its arguments, and what RLIM_INFINITY becomes."""

# <elf.h>: keys of the auxiliary vector.
AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 3, 4, 5, 6, 7, 8, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_PLATFORM, AT_HWCAP, AT_CLKTCK = 11, 12, 13, 14, 15, 16, 17
AT_SECURE, AT_RANDOM, AT_HWCAP2, AT_EXECFN, AT_SYSINFO_EHDR, AT_MINSIGSTKSZ = 23, 25, 26, 31, 33, 51
_ENTRY = struct.Struct("<QQ")
_AS_HERE = (AT_SYSINFO_EHDR, AT_MINSIGSTKSZ, AT_HWCAP, AT_CLKTCK, AT_HWCAP2)
"""What a program is told is what this process was told."""


def stack_size() -> tuple[int, int]:
    """Return how many bytes a stack takes, and how many below it are to stay free."""
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    if soft == resource.RLIM_INFINITY:
        soft = _LARGEST
    return max(min(soft, _LARGEST), _SMALLEST) & -4096, _GUARD


def auxiliary_vector(found: Mapping[int, int]) -> dict[int, int | bytes]:
    """Return the auxiliary vector; bytes are data that its entry is to point to.

    Args:
        found: what depends on how the program was loaded: AT_PHDR, AT_BASE and so on.
    """
    # Not by getauxval: libc changes what it returns for AT_HWCAP.
    with open("/proc/self/auxv", "rb") as file:
        here = dict(_ENTRY.iter_unpack(file.read()))
    result: dict[int, int | bytes] = {key: here[key] for key in _AS_HERE if key in here}
    result |= {AT_PAGESZ: 4096, AT_FLAGS: 0, AT_SECURE: 0}
    result |= {AT_UID: os.getuid(), AT_EUID: os.geteuid()}
    result |= {AT_GID: os.getgid(), AT_EGID: os.getegid()}
    result |= {AT_RANDOM: os.urandom(16), AT_PLATFORM: b"x86_64\0"}
    result.update(found)
    return result


def build(
    top: int,
    size: int,
    arguments: Sequence[bytes],
    environment: Sequence[bytes],
    executed: bytes,
    auxiliary: Mapping[int, int | bytes],
) -> tuple[int, bytes, bytes]:
    """Lay the stack out that ends at *top*.

    Args:
        size: bytes that there are.
        environment: as NAME=value.
        executed: what AT_EXECFN points to.

    Returns:
        rsp; the bytes from there to *top*; the auxiliary vector as bytes.

    Raises:
        ProgramError: more than a quarter of the stack would be taken (as in the kernel).
    """
    strings = b"".join(text + b"\0" for text in (*arguments, *environment, executed)) + bytes(8)
    if len(strings) > size // 4:
        raise ProgramError(_E2BIG, executed, "its arguments and variables are too long")
    place = top - len(strings)
    pointers = []
    for text in (*arguments, *environment, executed):
        pointers.append(place)
        place += len(text) + 1
    data = b""
    end = (top - len(strings)) & -16
    entries: list[int] = []
    for key, value in auxiliary.items():
        if isinstance(value, bytes):
            data = value.ljust(-(-len(value) // 16) * 16, b"\0") + data
            value = end - len(data)
        entries += (key, value)
    entries += (AT_EXECFN, pointers[-1], 0, 0)
    count = len(arguments)
    words = [count, *pointers[:count], 0, *pointers[count:-1], 0, *entries]
    packed = struct.pack(f"<{len(words)}Q", *words)
    rsp = (end - len(data) - len(packed)) & -16
    content = packed.ljust(end - len(data) - rsp, b"\0") + data
    content = content.ljust(top - len(strings) - rsp, b"\0") + strings
    return rsp, content, packed[-8 * len(entries) :]
