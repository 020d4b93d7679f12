"""Another process: its memory, and the functions of its C library."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pydbi.host.elf import ElfFile
from pydbi.host.maps import Mapping, read_mappings
from pydbi.types import Permission


class AttachError(Exception):
    """A process cannot be attached to; the message says why, and what to do."""


class RemoteProcess:
    """A running process.

    Args:
        pid: its id.

    Raises:
        AttachError: there is none, or it is not ours to look into.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
            self.mappings = read_mappings(pid)
        except FileNotFoundError:
            raise AttachError(f"there is no process {pid}") from None
        except ProcessLookupError:
            raise AttachError(_without_memory(pid)) from None
        except PermissionError:
            raise AttachError(_not_permitted(pid)) from None
        if not self.mappings:
            raise AttachError(_without_memory(pid))
        if _state(pid) == "T":
            raise AttachError(f"process {pid} is stopped: let it go on first (kill -CONT {pid})")

    def close(self) -> None:
        """Let go of it."""
        os.close(self._memory)

    def read(self, address: int, size: int) -> bytes:
        """Return *size* bytes of its memory.

        Raises:
            AttachError: they cannot be read: it has ended, for instance.
        """
        try:
            data = os.pread(self._memory, size, address)
        except OSError as error:
            raise AttachError(f"cannot read {address:#x} of process {self.pid}: {error}") from error
        if len(data) != size:
            raise AttachError(f"process {self.pid} has ended")
        return data

    def read_text(self, address: int) -> str:
        """Return the text, ended by a zero, at *address*."""
        text = b""
        while b"\0" not in text:
            text += self.read(address + len(text), 1)
        return text[:-1].decode(errors="replace")

    def write(self, address: int, data: bytes) -> None:
        """Write *data*, on pages that the process itself may only read, too.

        Raises:
            AttachError: that is not possible.
        """
        try:
            os.pwrite(self._memory, data, address)
        except OSError as error:
            raise AttachError(f"cannot write to process {self.pid}: {error}") from error

    def find_functions(self, names: Iterable[str]) -> dict[str, int]:
        """Return the addresses of exported functions, whichever module has them.

        Raises:
            AttachError: one is missing.
        """
        wanted = set(names)
        found: dict[str, int] = {}
        for first in self._modules():
            elf = self._open(first)
            if elf is None:
                continue
            bias = first.start - (elf.virtual_address(first.offset) or 0)
            for symbol in elf:
                if symbol.name in wanted:
                    found.setdefault(symbol.name, bias + symbol.value)
            if len(found) == len(wanted):
                return found
        missing = ", ".join(sorted(wanted - found.keys()))
        raise AttachError(
            f"process {self.pid} has no {missing}: a program that is linked statically, or with a "
            "C library before glibc 2.34, cannot load libpython"
        )

    def module_at(self, address: int) -> str:
        """Return the base name of the file that is mapped at *address*; empty if none is."""
        for mapping in self.mappings:
            if mapping.start <= address < mapping.end:
                return os.path.basename(mapping.file)
        return ""

    def _modules(self) -> list[Mapping]:
        """The first mapping of each file of code, the C library's before the others."""
        code = {m.file for m in self.mappings if m.file and m.permission & Permission.PF_EXEC}
        first: dict[str, Mapping] = {}
        for mapping in self.mappings:
            if mapping.file in code:
                first.setdefault(mapping.file, mapping)
        return sorted(first.values(), key=lambda m: not is_c_library(os.path.basename(m.file)))

    def _open(self, mapping: Mapping) -> ElfFile | None:
        # Its own root: it may live in a container.
        try:
            with open(f"/proc/{self.pid}/root{mapping.file}", "rb") as file:
                return ElfFile(file.read())
        except (OSError, ValueError):
            return None


def is_c_library(name: str) -> bool:
    """Whether a file of this base name holds the C library or the dynamic linker."""
    return name.startswith(("libc.so", "libc-", "ld-linux", "ld-musl", "ld-2"))


def _without_memory(pid: int) -> str:
    return f"process {pid} has no memory: it is a kernel thread, or has ended"


def _state(pid: int) -> str:
    """Return the letter that proc(5) lists, S for one that sleeps; empty if there is no process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(") ")[2][:1]  # behind its name, which may be anything
    except OSError:
        return ""


def _not_permitted(pid: int) -> str:
    cure = "it must belong to you"
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as file:
            if file.read().strip() != "0":
                cure += ", and /proc/sys/kernel/yama/ptrace_scope must be 0; root may always"
    except OSError:
        pass
    return f"process {pid} may not be attached to: {cure}"
