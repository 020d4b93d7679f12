"""What the commands say, on the standard error that they were started with."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from signal import Signals
from typing import TextIO

from pydbi.errors import GuestFault


class Messages:
    """A command's messages.

    Where nobody can see them, because there is no standard error or its reader has gone, they are
    lost, and nothing else happens.

    Args:
        command: the command's name.
        wanted: whether there are to be any.
        descriptor: where they go; -1: nowhere.
    """

    def __init__(self, command: str, wanted: bool = True, descriptor: int = 2) -> None:
        self.command = command
        self.wanted = wanted
        self._descriptor = descriptor

    @classmethod
    def beside_program(cls, command: str, wanted: bool = True) -> Messages:
        """Return the messages of a command that runs a program in this process.

        The program may close or redirect its own standard error.
        """
        from pydbi.program.descriptor_calls import move_high

        try:
            return cls(command, wanted, move_high(2))
        except OSError:  # it is closed
            return cls(command, wanted, -1)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody is looking."""
        return self._descriptor >= 0 and os.isatty(self._descriptor)

    def open(self) -> TextIO:
        """Return a file that writes to the same place, and leaves it open."""
        return os.fdopen(self._descriptor, "w", closefd=False)

    def say(self, text: str) -> None:
        """Write lines, if messages are wanted."""
        if self.wanted:
            self.write(f"pydbi {self.command}: {text}\n")

    def write(self, text: str) -> None:
        """Write *text* as it is, wanted or not."""
        with suppress(OSError):
            self.write_bytes(text.encode(errors="backslashreplace"))

    def write_bytes(self, data: bytes) -> None:
        """Write *data* as it is.

        Raises:
            OSError: that is not possible.
        """
        if self._descriptor >= 0:
            write_all(self._descriptor, data)

    def leave_to_parent(self) -> None:
        """Close them in a forked child: a pipe would stay open as long as it lives."""
        if self._descriptor > 2:
            os.close(self._descriptor)
        self._descriptor = -1


def report(command: str, text: str) -> None:
    """Print a message of a command that runs nothing beside it; *command* may be empty."""
    if sys.stderr is not None:  # as it is where descriptor 2 is closed
        with suppress(OSError):
            print(f"{f'pydbi {command}'.rstrip()}: {text}", file=sys.stderr)


def first_line(error: BaseException) -> str:
    """Return what an error says in one line.

    Of a fault that is what happened and where; its registers are left out.
    """
    from pydbi.host.elf import symbolizer  # only when something is wrong

    line = str(error).partition("\n")[0]
    if isinstance(error, GuestFault):
        line = line.partition("; its registers")[0]
    address = getattr(error, "app_address", None)
    place = None if address is None else symbolizer.locate(address)
    if place is None or not place.module:
        return line
    if place.symbol is None:
        return f"{line}, in {place.module}+{place.module_offset:#x}"
    return f"{line}, in {place.module}!{place.symbol}+{place.symbol_offset:#x}"


def signal_name(number: int) -> str:
    """Return a signal's name: ``SIGSEGV``."""
    try:
        return Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def write_all(descriptor: int, data: bytes) -> None:
    """Write *data* to a descriptor."""
    while data:
        data = data[os.write(descriptor, data) :]
