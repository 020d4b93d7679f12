"""execve and execveat: by the kernel, or in place.

The kernel's execve would take Python away with the old program. Where that is not wanted, the new
program is loaded by ourselves, into the same process, as the kernel does it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydbi.program.command import Command, resolve
from pydbi.program.elf_image import ElfImage
from pydbi.program.kernel import call
from pydbi.program.limits import Limits
from pydbi.program.loader import read_images
from pydbi.program.memory import LONGEST_ARGUMENT, ProgramMemory
from pydbi.program.surroundings import flush

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.states import GPRState
    from pydbi.jit.syscalls import Handler
    from pydbi.program.proc_views import ProcViews

_SYS_RT_SIGPROCMASK, _SIG_BLOCK, _SIG_UNBLOCK = 14, 0, 1
_SYS_EXECVE, _SYS_EXECVEAT = 59, 322
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH = -100, 0x100, 0x1000
_ENOENT, _EFAULT, _EINVAL, _ELOOP = 2, 14, 22, 40
_MOST_WORDS = 1 << 17
Images = tuple[ElfImage, "ElfImage | None"]


class ExecCalls:
    """The handlers of these calls.

    Args:
        in_place: whether the new program is to be loaded into this process.
        replace: does that; it does not fail.
    """

    def __init__(
        self,
        engine: Engine,
        memory: ProgramMemory,
        views: ProcViews,
        limits: Limits,
        in_place: Callable[[], bool],
        replace: Callable[[Command, Images], None],
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._limits = limits
        self._views = views
        self._in_place = in_place
        self._replace = replace

    def handlers(self) -> dict[int, Handler]:
        """Return the handlers by system call number."""
        return {_SYS_EXECVE: self._execve, _SYS_EXECVEAT: self._execveat}

    def _execve(self, gpr: GPRState) -> int | None:
        path, arguments, environment = self._views.executed_path(gpr.rdi), gpr.rsi, gpr.rdx
        if self._in_place():
            return self._load(self._memory.read_text(path), arguments, environment)
        return self._by_kernel(_SYS_EXECVE, path, arguments, environment)

    def _execveat(self, gpr: GPRState) -> int | None:
        folder, flags = (gpr.rdi & 0xFFFFFFFF ^ 1 << 31) - (1 << 31), gpr.r8
        if self._in_place():
            path = self._memory.read_text(gpr.rsi)
            if flags & ~(_AT_EMPTY_PATH | _AT_SYMLINK_NOFOLLOW):
                return -_EINVAL
            if path == b"" and flags & _AT_EMPTY_PATH:
                path = b"/proc/self/fd/%d" % folder
            elif path and not path.startswith(b"/") and folder != _AT_FDCWD:
                path = b"/proc/self/fd/%d/%s" % (folder, path)
            if path and flags & _AT_SYMLINK_NOFOLLOW and os.path.islink(path):
                return -_ELOOP
            return self._load(path, gpr.rdx, gpr.r10)
        return self._by_kernel(_SYS_EXECVEAT, gpr.rdi, gpr.rsi, gpr.rdx, gpr.r10, gpr.r8)

    def _by_kernel(self, number: int, *arguments: int) -> int:
        """Let the kernel do it; the new program has the guest's whole mask and its limits."""
        flush()
        withheld = (ctypes.c_uint64 * 1)(self._engine.guest.withheld_signals)
        address = ctypes.addressof(withheld)
        self._limits.put_in_force()
        call(_SYS_RT_SIGPROCMASK, _SIG_BLOCK, address, 0, 8)
        result = call(number, *arguments)
        call(_SYS_RT_SIGPROCMASK, _SIG_UNBLOCK, address, 0, 8)
        self._limits.lift()
        return result

    def _load(self, path: bytes | None, arguments: int, environment: int) -> int | None:
        """Load another program; return -errno if it cannot be."""
        words, variables = self._read_vector(arguments), self._read_vector(environment)
        if path is None or words is None or variables is None:
            return -_EFAULT
        if not path:
            return -_ENOENT
        try:
            command = resolve(path, words or [b""], variables)
            images = read_images(command)
        except OSError as error:
            return -(error.errno or _EFAULT)
        self._replace(command, images)
        return None

    def _read_vector(self, address: int) -> list[bytes] | None:
        """Return the texts that the pointers at *address*, up to a null one, lead to."""
        texts: list[bytes] = []
        while address and len(texts) < _MOST_WORDS:
            word = self._memory.read_data(address, 8)
            if word is None:
                return None
            pointer = int.from_bytes(word, "little")
            if not pointer:
                break
            text = self._memory.read_text(pointer, LONGEST_ARGUMENT)
            if text is None:
                return None
            texts.append(text)
            address += 8
        return texts
