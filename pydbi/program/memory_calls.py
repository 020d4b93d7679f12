"""System calls that change what is mapped where."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from pydbi.program.address_space import EINVAL, AddressSpace
from pydbi.program.kernel import LOWEST_ERROR, call, note
from pydbi.program.mappings import Area

if TYPE_CHECKING:
    from pydbi.jit.states import GPRState
    from pydbi.jit.syscalls import Handler

_MAP_ANONYMOUS = 0x20
_NO_KEY = (1 << 64) - 1
_DESCRIPTOR = (1 << 32) - 1
_SYS_MADVISE, _SYS_SHMAT, _SYS_SHMDT, _SYS_SHMCTL, _SYS_REMAP_FILE_PAGES = 28, 30, 67, 31, 216
_MADV_DONTNEED, _MADV_FREE, _MADV_REMOVE, _MADV_DONTNEED_LOCKED = 4, 8, 9, 24
_DISCARDS = frozenset((_MADV_DONTNEED, _MADV_FREE, _MADV_REMOVE, _MADV_DONTNEED_LOCKED))
_SHM_RDONLY, _SHM_REMAP, _SHM_EXEC, _IPC_STAT = 0o10000, 0o40000, 0o100000, 2
_SHMID_SIZE, _SEGSZ = 112, 48
"""sizeof(struct shmid_ds) and offsetof(shm_segsz) in it."""


class MemoryCalls:
    """The handlers of these calls."""

    def __init__(self, space: AddressSpace) -> None:
        self._space = space
        self._attached: dict[int, int] = {}
        """Sizes of attached System V segments, by address."""

    def handlers(self) -> dict[int, Handler]:
        """Return the handlers by system call number."""
        return {
            9: self._mmap,
            10: self._mprotect,
            11: self._munmap,
            12: self._brk,
            25: self._mremap,
            _SYS_MADVISE: self._madvise,
            _SYS_SHMAT: self._shmat,
            _SYS_SHMDT: self._shmdt,
            _SYS_REMAP_FILE_PAGES: self._remap_file_pages,
            329: self._pkey_mprotect,
        }

    def on_exec(self) -> None:
        """Forget what is known of the program that is replaced."""
        self._attached.clear()

    def _mmap(self, gpr: GPRState) -> int:
        flags, descriptor = gpr.r10, gpr.r8 & _DESCRIPTOR
        path = "" if flags & _MAP_ANONYMOUS else _path_of(descriptor)
        size, protection = gpr.rsi, gpr.rdx
        return self._space.map(gpr.rdi, size, protection, flags, descriptor, gpr.r9, path)

    def _mprotect(self, gpr: GPRState) -> int:
        return self._space.protect(gpr.rdi, gpr.rsi, gpr.rdx)

    def _pkey_mprotect(self, gpr: GPRState) -> int:
        key = gpr.r10
        return self._space.protect(
            gpr.rdi, gpr.rsi, gpr.rdx, None if key in (_NO_KEY, _DESCRIPTOR) else key
        )

    def _munmap(self, gpr: GPRState) -> int:
        return self._space.unmap(gpr.rdi, gpr.rsi)

    def _mremap(self, gpr: GPRState) -> int:
        return self._space.remap(gpr.rdi, gpr.rsi, gpr.rdx, gpr.r10, gpr.r8)

    def _brk(self, gpr: GPRState) -> int:
        return self._space.set_break(gpr.rdi)

    def _madvise(self, gpr: GPRState) -> int:
        """Code that is discarded becomes what is in its file, or zeros."""
        low, size, advice = gpr.rdi, gpr.rsi, gpr.rdx
        mappings = self._space.mappings
        if advice in _DISCARDS and mappings.is_executable(low, low + size):
            self._space.forget(low, low + size)
        return call(_SYS_MADVISE, low, size, advice)

    def _remap_file_pages(self, gpr: GPRState) -> int:
        """Refuse what the kernel itself only emulates, by a mapping that would go unnoticed."""
        note("remap_file_pages refused")
        return -EINVAL

    def _shmat(self, gpr: GPRState) -> int:
        identity, address, flags = gpr.rdi, gpr.rsi, gpr.rdx
        if flags & _SHM_REMAP:
            note("shmat with SHM_REMAP refused")
            return -EINVAL
        details = (ctypes.c_char * _SHMID_SIZE)()
        result = call(_SYS_SHMCTL, identity, _IPC_STAT, ctypes.addressof(details))
        if result < 0:
            return result
        size = int.from_bytes(details.raw[_SEGSZ : _SEGSZ + 8], "little")
        result = call(_SYS_SHMAT, identity, address, flags & ~_SHM_EXEC)
        if LOWEST_ERROR <= result < 0:
            return result
        protection = 1 if flags & _SHM_RDONLY else 3
        protection |= 4 if flags & _SHM_EXEC else 0
        end = result + (size + 4095 & -4096)
        self._space.mappings.add(Area(result, end, protection, "/SYSV", 0, True))
        self._attached[result] = end - result
        return result

    def _shmdt(self, gpr: GPRState) -> int:
        address = gpr.rdi
        size = self._attached.pop(address, None)
        if size is None:
            return -EINVAL
        if self._space.mappings.is_executable(address, address + size):
            self._space.forget(address, address + size)
        result = call(_SYS_SHMDT, address)
        self._space.mappings.remove(address, address + size)
        return result


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return "?"  # mmap will say what is wrong
