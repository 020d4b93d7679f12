"""What the guest finds in /proc about itself.

The kernel would show Python: its executable, its command line, its mappings. Calls with a path
below /proc/self and its aliases are answered with the guest's view; all other paths go to the
kernel as they are.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from pydbi.host.libc import PROT_EXEC, PROT_READ, PROT_WRITE
from pydbi.jit.context import CALL_FIRST_PATH, CALL_SECOND_PATH
from pydbi.jit.syscalls import IN_PLACE
from pydbi.program.kernel import call

if TYPE_CHECKING:
    from pydbi.jit.states import GPRState
    from pydbi.jit.syscalls import Handler
    from pydbi.program.command import Command
    from pydbi.program.loader import Loaded
    from pydbi.program.mappings import GuestMappings
    from pydbi.program.memory import ProgramMemory

_PROC = b"/proc/"
_O_ACCMODE, _O_CLOEXEC = 3, 0o2000000
_EACCES, _EINVAL = 13, 22
_FIRST, _SECOND = 0, 1
_BY_PATH = {
    2: _FIRST,  # open
    4: _FIRST,  # stat
    6: _FIRST,  # lstat
    21: _FIRST,  # access
    89: _FIRST,  # readlink
    257: _SECOND,  # openat
    262: _SECOND,  # newfstatat
    267: _SECOND,  # readlinkat
    269: _SECOND,  # faccessat
    332: _SECOND,  # statx
    439: _SECOND,  # faccessat2
}
"""Calls with a path -> which argument it is."""
_OPENS, _READS_LINK = frozenset((2, 257)), frozenset((89, 267))
_OF_THE_LINK = frozenset((6,))
_SEES_LINK = {262: 0x100, 332: 0x100}
"""AT_SYMLINK_NOFOLLOW: the link itself is asked about."""


class ProcViews:
    """The handlers of calls with a path."""

    def __init__(
        self, memory: ProgramMemory, mappings: GuestMappings, command: Command, loaded: Loaded
    ) -> None:
        self._memory = memory
        self._mappings = mappings
        self.describe(command, loaded)

    def describe(self, command: Command, loaded: Loaded) -> None:
        """Show the program of *command*, as it was loaded, from now on."""
        self.program = os.path.realpath(loaded.image.path)
        self._program_buffer = ctypes.create_string_buffer(self.program)
        self._program_address = ctypes.addressof(self._program_buffer)
        contents = {
            b"cmdline": _with_zeros(command.arguments),
            b"environ": _with_zeros(command.environment),
            b"auxv": loaded.auxiliary,
        }
        self._files: dict[bytes, Callable[[], bytes]] = {
            name: partial(bytes, content) for name, content in contents.items()
        }
        self._files[b"maps"] = self._maps

    def handlers(self) -> dict[int, Handler]:
        """Return the handlers by system call number."""
        handlers: dict[int, Handler] = {}
        for number, argument in _BY_PATH.items():
            handlers[number] = self._with_first if argument == _FIRST else self._with_second
        return handlers

    @staticmethod
    def filters() -> dict[int, int]:
        """Return, by number, which argument must begin with /proc/ for the handler to matter."""
        kinds = {_FIRST: CALL_FIRST_PATH, _SECOND: CALL_SECOND_PATH}
        return {number: kinds[argument] for number, argument in _BY_PATH.items()}

    def entry_of(self, address: int) -> bytes:
        """Return the name below /proc/self that the path at *address* asks for, or nothing."""
        if self._memory.read_data(address, len(_PROC)) != _PROC:
            return b""
        path = self._memory.read_text(address) or b""
        whose, _, entry = path[len(_PROC) :].partition(b"/")
        if whose not in (b"self", b"thread-self") and whose != b"%d" % os.getpid():
            return b""
        if entry.startswith(b"task/%d/" % os.getpid()):
            entry = entry.split(b"/", 2)[2]
        return entry if entry == b"exe" or entry in self._files else b""

    def _with_first(self, gpr: GPRState) -> int:
        number, path = gpr.rax, gpr.rdi
        entry = self.entry_of(path)
        if entry:
            if number in _OPENS and entry in self._files:
                return self._open(entry, gpr.rsi)
            if number in _READS_LINK and entry == b"exe":
                return self._read_link(gpr.rsi, gpr.rdx)
            if entry == b"exe" and number not in _OF_THE_LINK:
                path = self._program_address
        if path == gpr.rdi:
            return IN_PLACE
        return call(number, path, gpr.rsi, gpr.rdx)

    def _with_second(self, gpr: GPRState) -> int:
        number, path = gpr.rax, gpr.rsi
        entry = self.entry_of(path)
        if entry:
            if number in _OPENS and entry in self._files:
                return self._open(entry, gpr.rdx)
            if number in _READS_LINK and entry == b"exe":
                return self._read_link(gpr.rdx, gpr.r10)
            flags = gpr.r10 if number == 262 else gpr.rdx
            if entry == b"exe" and not flags & _SEES_LINK.get(number, 0):
                path = self._program_address
        if path == gpr.rsi:
            return IN_PLACE
        return call(number, gpr.rdi, path, gpr.rdx, gpr.r10, gpr.r8)

    def executed_path(self, address: int) -> int:
        """Return the address of the path to execute instead of that at *address*."""
        return self._program_address if self.entry_of(address) == b"exe" else address

    def _read_link(self, buffer: int, size: int) -> int:
        if not 0 < size < 1 << 31:
            return -_EINVAL
        text = self.program[:size]
        return len(text) if self._memory.write_data(buffer, text) else -14

    def _open(self, entry: bytes, flags: int) -> int:
        if flags & _O_ACCMODE:
            return -_EACCES
        return open_content(entry, self._files[entry](), flags)

    def _maps(self) -> bytes:
        return b"".join(map_lines(self._mappings))


def _with_zeros(texts: Iterable[bytes]) -> bytes:
    return b"".join(text + b"\0" for text in texts)


def open_content(name: bytes, content: bytes, flags: int) -> int:
    """Return a new descriptor from which *content* can be read; or -errno."""
    try:
        file = os.memfd_create(os.fsdecode(name), os.MFD_CLOEXEC)
        try:
            os.write(file, content)
            close_on_exec = flags & _O_CLOEXEC
            result = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | close_on_exec)
        finally:
            os.close(file)
        os.set_inheritable(result, not close_on_exec)
    except OSError as error:
        return -(error.errno or _EACCES)
    return result


def map_lines(mappings: GuestMappings) -> list[bytes]:
    """Return the lines of the guest's /proc/self/maps."""
    devices = _devices()
    lines = []
    for area in mappings:
        protection = area.protection
        letters = (
            ("r" if protection & PROT_READ else "-")
            + ("w" if protection & PROT_WRITE else "-")
            + ("x" if protection & PROT_EXEC else "-")
            + ("s" if area.shared else "p")
        )
        device = devices.get(area.path, "00:00 0")
        line = f"{area.start:08x}-{area.end:08x} {letters} {area.offset:08x} {device}"
        lines.append(os.fsencode(f"{line.ljust(73)}{area.path}\n" if area.path else f"{line} \n"))
    return lines


def _devices() -> dict[str, str]:
    """Return "device inode" of each mapped file, as the kernel prints them."""
    result = {}
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.rstrip("\n").split(None, 5)
            if len(fields) > 5:
                result[fields[5]] = f"{fields[3]} {fields[4]}"
    return result
