"""Every ctypes prototype of the project, in one table.

ctypes silently truncates an argument of a function without prototype to 32 bits, and silently
ignores a misspelt ``argtypes``. So prototypes stand in this table only, and a test reads it.

Addresses are plain integers on both sides (``c_size_t``): unlike ``c_void_p``, that gives 0 and not
None for a null pointer.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_int, c_long, c_size_t, c_ulong
from typing import Any

from pydbi.tuples import NamedTuple

_ADDRESS = c_size_t
_OFFSET = c_long


class Prototype(NamedTuple):
    """C types of a function's parameters and of its result."""

    argtypes: tuple[Any, ...]
    restype: Any


PROTOTYPES: dict[str, Prototype] = {
    # Memory maps: <sys/mman.h>.
    "mmap": Prototype((_ADDRESS, c_size_t, c_int, c_int, c_int, _OFFSET), _ADDRESS),
    "munmap": Prototype((_ADDRESS, c_size_t), c_int),
    "mprotect": Prototype((_ADDRESS, c_size_t, c_int), c_int),
    "madvise": Prototype((_ADDRESS, c_size_t, c_int), c_int),
    # The C heap: <stdlib.h>.
    "malloc": Prototype((c_size_t,), _ADDRESS),
    "aligned_alloc": Prototype((c_size_t, c_size_t), _ADDRESS),
    "free": Prototype((_ADDRESS,), None),
    # Memory that may not be there: <sys/uio.h>. The two vectors are arrays of struct iovec.
    "process_vm_readv": Prototype((c_int, _ADDRESS, c_ulong, _ADDRESS, c_ulong, c_ulong), c_long),
    "process_vm_writev": Prototype((c_int, _ADDRESS, c_ulong, _ADDRESS, c_ulong, c_ulong), c_long),
    # The kernel and the thread.
    "getauxval": Prototype((c_ulong,), c_ulong),  # <sys/auxv.h>
    "sigaltstack": Prototype((_ADDRESS, _ADDRESS), c_int),  # <signal.h>
    "syscall": Prototype((c_long,) * 7, c_long),  # <unistd.h>
    "__errno_location": Prototype((), _ADDRESS),  # <errno.h>
    # Shared libraries: <dlfcn.h>.
    "dladdr": Prototype((_ADDRESS, _ADDRESS), c_int),  # the second points to a DlInfo
}

# <bits/mman-linux.h>
PROT_NONE = 0
PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4
MAP_SHARED = 0x1
MAP_PRIVATE = 0x2
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
MAP_NORESERVE = 0x4000
MAP_FIXED_NOREPLACE = 0x100000
MAP_FAILED = (1 << 64) - 1
MADV_DONTFORK = 10

# <asm/unistd_64.h>, <linux/memfd.h>
SYS_MEMFD_CREATE = 319
MFD_CLOEXEC = 1

# <elf.h>: keys of getauxval.
AT_HWCAP2 = 26
AT_SYSINFO_EHDR = 33


class DlInfo(ctypes.Structure):
    """Dl_info of <dlfcn.h>: what the dynamic linker knows about an address."""

    _fields_ = [
        ("file_name", c_char_p),
        ("base", _ADDRESS),
        ("symbol_name", c_char_p),
        ("symbol_address", _ADDRESS),
    ]


class IoVector(ctypes.Structure):
    """struct iovec of <bits/types/struct_iovec.h>: an address and a size."""

    _fields_ = [("base", _ADDRESS), ("size", c_size_t)]


def _load() -> ctypes.CDLL:
    """Bind every function of the table to the C library that Python itself runs on."""
    library = ctypes.CDLL(None, use_errno=True)
    for name, prototype in PROTOTYPES.items():
        function = getattr(library, name)
        function.argtypes = prototype.argtypes
        function.restype = prototype.restype
    return library


libc = _load()
"""The C library, with the prototypes of the table. Errors are in `ctypes.get_errno()`."""


def last_error(what: str) -> OSError:
    """Return the failure of the latest C call as an exception that begins with *what*."""
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def syscall(number: int, *arguments: int) -> int:
    """Make a system call with up to six integer arguments and return its result.

    Raises:
        OSError: the kernel refused; the message names the call's number.
    """
    padding = (0,) * (6 - len(arguments))
    result: int = libc.syscall(number, *arguments, *padding)
    if result == -1:
        raise last_error(f"system call {number}")
    return result
