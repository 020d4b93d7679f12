"""Memory for generated code: mapped once, or twice so that no page is writable and executable.

Mapped twice, it is a file without a name (``memfd_create``): readable and executable at one
address, readable and writable at another. The pages of a file are shared with a forked child, and
code in them would change under its feet; so a fork of Python's gives the child a copy.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from weakref import WeakSet

from pydbi.host.libc import (
    MADV_DONTFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MFD_CLOEXEC,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    SYS_MEMFD_CREATE,
    last_error,
    libc,
    syscall,
)
from pydbi.host.memory import map_memory, map_near, map_pages, page_ceil, unmap_memory, view

Extents = Callable[[], Iterable[tuple[int, int]]]
_NAME = ctypes.create_string_buffer(b"pydbi")


class CodeMemory:
    """A region of memory for generated code.

    Args:
        size: bytes, rounded up to whole pages.
        near: the region [low, high) that it should be mapped near to; without it, anywhere.
        twice: map it twice.
        extents: says which addresses [low, high) of it are in use, so that a forked child gets
            these; the rest is zero there.

    Attributes:
        address, size: where it is executable.
        writable: where it is writable; the same address, if it is mapped once.
        memory: its bytes, for reading and writing.

    Raises:
        CacheError: no memory is free near *near*.
        OSError: the kernel refused.
    """

    def __init__(
        self, size: int, near: tuple[int, int] | None, twice: bool, extents: Extents
    ) -> None:
        self.size = page_ceil(size)
        self._extents = extents
        self._copy = -1
        self._process = 0
        if near:
            self.address = map_near(*near, self.size, PROT_NONE)
        else:
            self.address = map_memory(self.size, PROT_NONE)
        self.writable = self.address
        try:
            self.map_again(twice)
        except BaseException:
            self.close()
            raise

    def map_again(self, twice: bool) -> None:
        """Map it at the same address, once or twice. All of it is zero then."""
        if twice:
            descriptor = self._file()
            try:
                writable = map_pages(self.size, PROT_READ | PROT_WRITE, 0, MAP_SHARED, descriptor)
                self._unmap_writable()
                self.writable = writable
                self._map_both(descriptor)
            finally:
                os.close(descriptor)
            _mapped_twice.add(self)
        else:
            flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
            map_pages(self.size, PROT_READ | PROT_WRITE | PROT_EXEC, self.address, flags)
            _mapped_twice.discard(self)
            self._unmap_writable()
        self.memory = view(self.writable, self.size)

    def close(self) -> None:
        """Give it back. Nothing may look at `memory` any more."""
        _mapped_twice.discard(self)
        self._unmap_writable()
        unmap_memory(self.address, self.size)

    def _file(self) -> int:
        """Return a descriptor of new memory of the right size."""
        descriptor = syscall(SYS_MEMFD_CREATE, ctypes.addressof(_NAME), MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, self.size)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _map_both(self, descriptor: int) -> None:
        """Map a file at both addresses, and let no child share it that Python does not know of."""
        self._process = os.getpid()
        for address, protection in ((self.address, PROT_EXEC), (self.writable, PROT_WRITE)):
            map_pages(
                self.size, PROT_READ | protection, address, MAP_SHARED | MAP_FIXED, descriptor
            )
            if libc.madvise(address, self.size, MADV_DONTFORK) != 0:
                raise last_error(f"advising on {self.size:#x} bytes at {address:#x}")

    def is_lost(self, address: int) -> bool:
        """Whether *address* is in it, and it is not mapped here: see `is_lost`."""
        return 0 <= address - self.address < self.size and self._process != os.getpid()

    def _unmap_writable(self) -> None:
        if self.writable != self.address:
            unmap_memory(self.writable, self.size)
            self.writable = self.address

    # Forks, which Python announces: the parent makes a copy, the child maps it.

    def before_fork(self) -> None:
        """Copy what is in use, for the child."""
        self._copy = self._file()
        for low, high in self._extents():
            offset = low - self.address
            os.pwrite(self._copy, self.memory[offset : high - self.address], offset)

    def after_fork(self, in_child: bool) -> None:
        """Map the copy, in the child; in the parent it is of no more use."""
        if self._copy >= 0:
            if in_child:
                self._map_both(self._copy)
            os.close(self._copy)
            self._copy = -1


_mapped_twice: WeakSet[CodeMemory] = WeakSet()


def is_lost(address: int) -> bool:
    """Whether code lay at *address* until this process was forked, unknown to Python."""
    return any(memory.is_lost(address) for memory in _mapped_twice)


def _before_fork() -> None:
    for memory in list(_mapped_twice):
        memory.before_fork()


def _after_fork(in_child: bool) -> None:
    for memory in list(_mapped_twice):
        memory.after_fork(in_child)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(in_child=False),
    after_in_child=lambda: _after_fork(in_child=True),
)
