"""What can be wrong with a program before it runs."""

from __future__ import annotations

import os

from pydbi.errors import PydbiError


class ProgramError(PydbiError, OSError):
    """A program cannot be loaded.

    Attributes:
        errno: what the kernel would have answered to execve.
        filename: the file that it is about.
        reason: what is wrong with it.
    """

    def __init__(self, number: int, filename: bytes, reason: str) -> None:
        name = os.fsdecode(filename)
        super().__init__(f"{name}: {reason}" if name else reason)
        self.errno = number
        self.filename = name
        self.reason = reason
        self._arguments = (number, filename, reason)

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[ProgramError], tuple[int, bytes, str]]:
        return type(self), self._arguments
