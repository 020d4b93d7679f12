"""What a process has beside its memory: standard descriptors, folder, umask, name.

A program that runs inside Python changes these. They are exchanged when its run begins, and back
when it ends or stops.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from io import UnsupportedOperation
from typing import IO, TYPE_CHECKING, NoReturn, Union

from pydbi.host.libc import libc
from pydbi.program.descriptor_calls import move_high, release, reserve
from pydbi.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

DEVNULL = -3
"""subprocess.DEVNULL."""
_NOT_HERE = {-1: "PIPE", -2: "STDOUT"}
"""What subprocess has beside; here nobody would read the pipe's other end."""
Stream = Union["int", bytes, IO[bytes], IO[str], None]
"""What a standard descriptor may be given as: None (Python's own), a descriptor or a file, DEVNULL,
or bytes to read from."""
_SYS_PRCTL, _PR_SET_NAME, _PR_GET_NAME = 157, 15, 16
_SYS_RT_SIGACTION = 13
_NAME_SIZE = 16


class Surroundings(NamedTuple):
    """Descriptors that stand for what a process has; each is closed by `put_back` or `drop`."""

    standard: tuple[int, ...]
    """Duplicates of 0, 1 and 2; -1 for one that is closed."""
    inherited: tuple[tuple[int, int], ...]
    """(number, duplicate) of other descriptors that a program was given."""
    folder: int
    umask: int
    name: bytes

    def private(self) -> set[int]:
        """Return the descriptors that are open for it."""
        found = {*self.standard, *(copy for _, copy in self.inherited), self.folder}
        return found - {-1}

    def put_back(self) -> None:
        """Make this the process's own again, and close its descriptors."""
        for number, copy in enumerate(self.standard):
            if copy >= 0:
                os.dup2(copy, number)
            else:
                with suppress(OSError):
                    os.close(number)
        for number, copy in self.inherited:
            os.dup2(copy, number)
        with suppress(OSError):
            os.fchdir(self.folder)
        os.umask(self.umask)
        set_name(self.name)
        self.drop()

    def drop(self) -> None:
        """Close its descriptors."""
        release(self.private())
        for descriptor in self.private():
            os.close(descriptor)


def capture(inherited: Iterable[int] = ()) -> Surroundings:
    """Return what the process has now."""
    umask = os.umask(0)
    os.umask(umask)
    name = ctypes.create_string_buffer(_NAME_SIZE)
    libc.syscall(_SYS_PRCTL, _PR_GET_NAME, ctypes.addressof(name), 0, 0, 0, 0)
    captured = Surroundings(
        tuple(map(_duplicate, range(3))),
        tuple((number, _duplicate(number)) for number in inherited),
        move(os.open(".", os.O_PATH | os.O_DIRECTORY)),
        umask,
        name.value,
    )
    reserve(captured.private())
    return captured


def set_name(name: bytes) -> None:
    """Give the process the name that /proc/PID/comm shows."""
    text = ctypes.create_string_buffer(name[: _NAME_SIZE - 1])
    libc.syscall(_SYS_PRCTL, _PR_SET_NAME, ctypes.addressof(text), 0, 0, 0, 0)


def move(descriptor: int) -> int:
    """Move a descriptor out of the way and return its new number."""
    high = move_high(descriptor)
    os.close(descriptor)
    return high


def _duplicate(number: int) -> int:
    try:
        return move_high(number)
    except OSError:
        return -1


def open_stream(stream: Stream) -> int:
    """Return a private descriptor for what a standard descriptor is to be; -1: it stays.

    Raises:
        TypeError: it is nothing of the kind.
        ValueError: it is a descriptor that is not open, or subprocess's PIPE or STDOUT.
    """
    if stream is None:
        return -1
    if stream == DEVNULL:
        return move(os.open(os.devnull, os.O_RDWR))
    if isinstance(stream, (bytes, bytearray, memoryview)):
        file = os.memfd_create("stdin")
        rest = memoryview(stream)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.lseek(file, 0, os.SEEK_SET)
        return move(file)
    if isinstance(stream, int):
        if stream in _NOT_HERE:
            raise ValueError(f"{_NOT_HERE[stream]} is not possible here: use a file, or os.pipe")
        number = stream
    else:
        try:
            number = stream.fileno()
        except (AttributeError, UnsupportedOperation):
            raise TypeError(
                f"a file with a descriptor, a descriptor, DEVNULL or bytes are due, not {stream!r}"
            ) from None
    try:
        return move_high(number)
    except (OSError, ValueError):
        raise ValueError(f"descriptor {number} is not open") from None


def leave(status: int) -> NoReturn:
    """End this process as the guest has ended: with its exit status, or by its signal."""
    flush()
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would be Python's
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            action = ctypes.create_string_buffer(32)  # SIG_DFL
            libc.syscall(_SYS_RT_SIGACTION, -status, ctypes.addressof(action), 0, 8, 0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [-status])
        os.kill(os.getpid(), -status)
        status = 128 - status
    os._exit(status)


def flush() -> None:
    """Write out what Python has buffered: a copy of the process, or its end, is about to come."""
    for stream in (sys.stdout, sys.stderr):
        # There is none, or the guest has closed it.
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
