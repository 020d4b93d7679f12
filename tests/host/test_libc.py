"""The table of C prototypes."""

from __future__ import annotations

import errno
import os

import pytest

from pydbi.host import libc as table


@pytest.mark.parametrize("name", table.PROTOTYPES)
def test_every_prototype_is_complete(name: str) -> None:
    """Each function of the table is bound with the table's argument types and result type."""
    prototype = table.PROTOTYPES[name]
    function = getattr(table.libc, name)
    assert isinstance(prototype.argtypes, tuple)
    assert function.argtypes == prototype.argtypes
    assert function.restype is prototype.restype


def test_only_functions_of_the_table_are_bound() -> None:
    """Nobody added a function to the library behind the table's back."""
    bound = {name for name, value in vars(table.libc).items() if callable(value)} - {"_FuncPtr"}
    assert bound == set(table.PROTOTYPES)


def test_system_call_returns_its_result() -> None:
    """`syscall` pads missing arguments and returns what the kernel returned."""
    getpid = 39
    assert table.syscall(getpid) == os.getpid()


def test_system_call_reports_its_error() -> None:
    """A refused system call is an OSError with the kernel's number and the call's."""
    close = 3
    with pytest.raises(OSError, match="system call 3") as caught:
        table.syscall(close, -1)
    assert caught.value.errno == errno.EBADF
