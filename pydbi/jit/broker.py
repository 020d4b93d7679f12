"""What runs natively: the host's own machinery, and functions that share its locks.

Everything else is translated, instrumented or not. Two kinds of code must not be:

- libpython, the python executable, ctypes and libffi: translating them would run Python, which runs
  them. They are known by their pages.
- Functions whose unfinished work Python would run into when the guest stops in the middle of them
  to have a block translated: the C heap above all (Python allocates while the guest holds its lock,
  or, with one thread, no lock at all), and those that make threads and processes. They are known
  by their entries.

The guest enters either by a call, so the block at such an address is a thunk that replaces the
return address, runs the function natively, and comes back to translated code (``native.S``).
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

from pydbi.host.maps import read_mappings
from pydbi.jit.stubs import stubs
from pydbi.types import Permission

HOST_LIBRARIES = ("libpython", "_ctypes.", "libffi")
"""Beginnings of the file names of what runs the interpreter and this package."""

NATIVE_FUNCTIONS = (
    # The C heap.
    "malloc", "free", "calloc", "realloc", "reallocarray", "memalign", "aligned_alloc",
    "posix_memalign", "valloc", "pvalloc", "malloc_usable_size", "malloc_trim", "malloc_stats",
    "malloc_info", "mallinfo", "mallinfo2", "mallopt",
    # New threads and processes start outside the cache.
    "pthread_create", "fork", "_Fork", "clone", "posix_spawn", "posix_spawnp", "system",
    "popen", "daemon", "forkpty",
)  # fmt: skip


class Broker:
    """Knows which app addresses are native.

    Attributes:
        pages: numbers of the pages that belong to the host's own libraries.
        functions: entries of single functions.
    """

    def __init__(self) -> None:
        self.pages: set[int] = set()
        self.functions: set[int] = set()
        # By both names: where the executable has a fixed address, the process's symbol may be its
        # own PLT entry; where a library replaces malloc, libc's is not the one that is called.
        for library in (ctypes.CDLL(None), ctypes.CDLL("libc.so.6")):
            for name in NATIVE_FUNCTIONS:
                function = getattr(library, name, None)
                if function is not None:
                    address = ctypes.cast(function, ctypes.c_void_p).value
                    assert address is not None
                    self.functions.add(address)
        executable = os.path.realpath(sys.executable)
        for mapping in read_mappings():
            if not mapping.permission & Permission.PF_EXEC:
                continue
            name = os.path.basename(mapping.path)
            if mapping.path == executable or name.startswith(HOST_LIBRARIES):
                self.pages.update(range(mapping.start >> 12, mapping.end + 4095 >> 12))
        first = stubs().address >> 12
        self.pages.update(range(first, (stubs().address + stubs().size + 4095) >> 12))

    def is_native(self, address: int) -> bool:
        """Whether the code at *address* runs natively."""
        return address in self.functions or address >> 12 in self.pages


@cache
def broker() -> Broker:
    """Return what is native in this process; it was all mapped before the first VM."""
    return Broker()
