"""System calls that are not executed in the cache as they are.

Most go to the kernel in place. A table of bytes, which generated code looks into, says which
numbers leave the cache instead, for a handler in Python; of some it depends on an argument, which
machine code looks at (``syscall_filter``).
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Container, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from pydbi.host.memory import map_memory, unmap_memory, view
from pydbi.jit.context import (
    CALL_PYTHON,
    DESCRIPTOR_MARKS,
    GPR_OFFSET,
    SLOT,
    SYSCALL_NUMBERS,
    WAIT_ABORTED,
    WAIT_BEGUN,
)
from pydbi.jit.stubs import stubs

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.guest import Guest
    from pydbi.jit.states import GPRState

_TABLE_SIZE = SYSCALL_NUMBERS + DESCRIPTOR_MARKS // 8
SYSCALL_SIZE = 2
"""Bytes of the SYSCALL instruction."""

Handler = Callable[["GPRState"], "int | None"]
"""Does what a system call asks for, the arguments being in their registers. It returns the result
as the kernel would, -errno for an error; None if it has set all registers, rip included; or
IN_PLACE."""

IN_PLACE = 1 << 64
"""A handler's result: the call is to go to the kernel as it is, from the cache."""


class NotMade(Exception):  # noqa: N818
    """A handler was interrupted before anything was done; the guest makes the call again."""


_RAX, _RIP = GPR_OFFSET["rax"] >> 3, GPR_OFFSET["rip"] >> 3
_WORD = (1 << 64) - 1
_NUMBER = (1 << 32) - 1
"""The kernel looks at the lower half of rax; the table only at 16 bits."""
_EINTR, _ENOSYS = 4, 38


_NOTHING: Mapping[int, int] = {}


def _unknown(_: GPRState) -> int:
    return -_ENOSYS


_Words = ctypes.c_int64 * 6


def make_waiting_call(engine: Engine, number: int, *arguments: int) -> int:
    """Make a system call that may wait, for the guest, and return its result.

    Others go on meanwhile: Python's threads, and the guest's.

    Raises:
        NotMade: a signal for the guest, or somebody who wants it to stop, came first; or the
            kernel would begin it again, for a signal that has come later.
    """
    with engine.sharing.unlocked():
        result = _waiting_call()(engine.guest.address, number, _Words(*arguments))
    if result == WAIT_BEGUN and engine.signals.end_calls():
        return -_EINTR
    if result in (WAIT_ABORTED, WAIT_BEGUN):
        raise NotMade
    return result


@cache
def _waiting_call() -> Callable[..., int]:
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_size_t, ctypes.c_int64, _Words)
    return prototype(stubs().find("waiting_call"))


class SystemCalls:
    """The handlers of one guest, and the table that leads to them.

    Attributes:
        handlers: by system call number.
    """

    def __init__(
        self, engine: Engine, handlers: Mapping[int, Handler], filters: Mapping[int, int] = _NOTHING
    ) -> None:
        """Let *handlers* handle the calls of the engine's guest.

        Args:
            filters: for the numbers whose handler does nothing unless an argument is special:
                CALL_FIRST_PATH and so on.
        """
        self._engine = engine
        self._filters = filters
        self._address = map_memory(_TABLE_SIZE)
        unmapping = weakref.finalize(self, unmap_memory, self._address, _TABLE_SIZE)
        unmapping.atexit = False  # what lives until then may still use it
        self._table = view(self._address, _TABLE_SIZE)
        self.route(handlers)
        self.attach(engine.guest)

    def route(self, handlers: Mapping[int, Handler], watched: Container[int] = ()) -> None:
        """Let *handlers* handle the system calls from now on; those *watched* in any case."""
        self.handlers = dict(handlers)
        self._table[:SYSCALL_NUMBERS] = bytes(SYSCALL_NUMBERS)
        for number in handlers:
            filtered = CALL_PYTHON if number in watched else self._filters.get(number, CALL_PYTHON)
            self._table[number] = filtered

    def mark(self, descriptors: Iterable[int]) -> None:
        """Let calls that CALL_DESCRIPTOR stands for come here if they are about these, only."""
        marks = bytearray(DESCRIPTOR_MARKS // 8)
        for number in descriptors:
            if number < DESCRIPTOR_MARKS:
                marks[number >> 3] |= 1 << (number & 7)
        self._table[SYSCALL_NUMBERS:] = marks

    def attach(self, guest: Guest) -> None:
        """Let the table be that of *guest*, too."""
        guest.words[SLOT["SYSCALL_TABLE"] >> 3] = self._address

    def on_exit(self, exit_index: int) -> tuple[int, int]:
        """Handle the system call for which the cache was left; return where to go on.

        While its handler runs, the guest is behind the SYSCALL instruction, as the kernel sees it.

        Raises:
            UnsupportedInstruction: it cannot be done; the guest is at the SYSCALL instruction.
        """
        engine = self._engine
        gpr, words = engine.guest.gpr, engine.guest.words
        following, _ = engine.cache.exits[exit_index]
        resets = engine.stats.resets
        gpr.rcx = gpr.rip = following
        gpr.r11 = gpr.eflags
        handler = self.handlers.get(gpr.rax & _NUMBER, _unknown)
        try:
            result = handler(gpr)
        except NotMade:
            gpr.rip = following - SYSCALL_SIZE
            return gpr.rip, 0
        except BaseException:
            gpr.rip = following - SYSCALL_SIZE
            raise
        if result is None:
            return words[_RIP], 0
        if engine.stats.resets != resets:  # the exit is not there any more
            exit_index = 0
        if result == IN_PLACE:
            return following - SYSCALL_SIZE, engine.cache.syscall_places.get(exit_index, 0)
        words[_RAX] = result & _WORD
        return following, engine.cache.syscall_resumes.get(exit_index, 0)
