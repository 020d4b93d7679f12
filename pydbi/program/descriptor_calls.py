"""File descriptors that are the host's do not exist for the guest.

What Python had open when the program began and would not have passed on to it (close-on-exec, as
Python opens everything) is hidden; pydbi's own are too. Only the calls that could destroy them are
looked at, closing and duplicating, and fcntl, by which programs find out what is open.
"""

from __future__ import annotations

import fcntl
import gc
import io
import os
import resource
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from pydbi.jit.context import CALL_DESCRIPTOR
from pydbi.jit.syscalls import IN_PLACE
from pydbi.program.kernel import call

if TYPE_CHECKING:
    from pydbi.jit.states import GPRState
    from pydbi.jit.syscalls import Handler

_SYS_CLOSE, _SYS_DUP, _SYS_DUP2, _SYS_FCNTL = 3, 32, 33, 72
_SYS_DUP3, _SYS_CLOSE_RANGE = 292, 436
_EBADF, _EINVAL = 9, 22
_INT = (1 << 32) - 1
_HIGH = 1000
_SOCKETS = ("socket", "_socket", "select")
"""Modules whose objects have descriptors, beside files."""
_ROOM = 16
"""Numbers below the limit that are enough for pydbi's own descriptors."""
reserved: set[int] = set()
"""Descriptors that no program has which runs now: pydbi's own, and those of stopped programs."""
_all: weakref.WeakSet[DescriptorCalls] = weakref.WeakSet()


def reserve(numbers: Iterable[int]) -> None:
    """Let no program have these descriptors."""
    reserved.update(numbers)
    _tell_all()


def release(numbers: Iterable[int]) -> None:
    """These are closed, or the running program's."""
    reserved.difference_update(numbers)
    _tell_all()


def _tell_all() -> None:
    for calls in list(_all):
        calls.tell(calls.hidden | reserved)


def move_high(descriptor: int) -> int:
    """Return a duplicate that is out of the way: close-on-exec, and above 1000 if that may be."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = max(3, min(_HIGH, soft - _ROOM))
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)


def _open_descriptors() -> Iterator[tuple[int, bool]]:
    """Yield (number, whether it is passed on to programs) of what is open beside 0, 1 and 2."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2:
            with suppress(OSError):  # the folder's own is closed
                yield number, os.get_inheritable(number)


def _of_python() -> set[int]:
    """Return the descriptors of Python's open files and sockets: callbacks may have opened some."""
    found = set()
    for thing in gc.get_objects():
        if isinstance(thing, io.FileIO) or type(thing).__module__ in _SOCKETS:
            with suppress(AttributeError, OSError, ValueError):
                found.add(thing.fileno())
    return found


class DescriptorCalls:
    """The handlers of these calls.

    Attributes:
        hidden: the numbers that the guest does not have, beside those that are reserved.
        tell: called with all that it does not have, when that changes.
    """

    def __init__(self) -> None:
        self.hidden: set[int] = set()
        self.tell: Callable[[Iterable[int]], None] = lambda numbers: None
        self._given: set[int] = set()
        self._aside: set[int] = set()
        _all.add(self)

    def hide(self, number: int) -> None:
        """Hide a descriptor."""
        self.hidden.add(number)
        self.tell(self.hidden | reserved)

    def show(self, number: int) -> None:
        """Hide a descriptor no longer."""
        self.hidden.discard(number)
        self.tell(self.hidden | reserved)

    def hide_private(self) -> None:
        """Hide what is open now and close-on-exec."""
        for number, inherited in _open_descriptors():
            (self._given if inherited else self.hidden).add(number)
        self.tell(self.hidden | reserved)

    def inherited(self) -> list[int]:
        """Return the numbers of what is open now and would be passed on to a program."""
        found = [number for number, inherited in _open_descriptors() if inherited]
        return [number for number in found if number not in reserved]

    def _own(self) -> set[int]:
        """Return what the guest has opened and not closed."""
        found = {number for number, _ in _open_descriptors()}
        found -= self.hidden | self._given | reserved
        return found - _of_python() if found else found

    def set_aside(self) -> None:
        """The guest stops: what it has open is no other program's."""
        self._aside = self._own()
        reserve(self._aside)

    def take_back(self) -> None:
        """The guest goes on."""
        release(self._aside)
        self._aside.clear()

    def close_own(self) -> None:
        """Close what the guest has left open."""
        self.take_back()
        for number in self._own():
            os.close(number)

    def close_on_exec(self) -> None:
        """Close what the guest does not pass on to another program."""
        kept = self.hidden | reserved | _of_python()
        for number, inherited in _open_descriptors():
            if not inherited and number not in kept:
                os.close(number)
        for number in range(3):
            with suppress(OSError):
                if not os.get_inheritable(number):
                    os.close(number)

    def handlers(self) -> dict[int, Handler]:
        """Return the handlers by system call number."""
        return {
            _SYS_CLOSE: self._close,
            _SYS_DUP: self._of_one,
            _SYS_FCNTL: self._of_one,
            _SYS_DUP2: self._dup,
            _SYS_DUP3: self._dup,
            _SYS_CLOSE_RANGE: self._close_range,
        }

    @staticmethod
    def filters() -> dict[int, int]:
        """Return the numbers of calls that matter only if their first argument is hidden."""
        return dict.fromkeys((_SYS_CLOSE, _SYS_DUP, _SYS_FCNTL), CALL_DESCRIPTOR)

    def _close(self, gpr: GPRState) -> int:
        descriptor = gpr.rdi & _INT
        return -_EBADF if self._is_hidden(descriptor) else IN_PLACE

    def _of_one(self, gpr: GPRState) -> int:
        """dup and fcntl."""
        descriptor = gpr.rdi & _INT
        if self._is_hidden(descriptor):
            return -_EBADF
        return IN_PLACE

    def _is_hidden(self, descriptor: int) -> bool:
        return descriptor in self.hidden or descriptor in reserved

    def _dup(self, gpr: GPRState) -> int:
        """dup2 and dup3; what is hidden can be neither the source nor the target."""
        source, target = gpr.rdi & _INT, gpr.rsi & _INT
        if self._is_hidden(source) or self._is_hidden(target):
            return -_EBADF
        return IN_PLACE

    def _close_range(self, gpr: GPRState) -> int:
        """Close the parts between what is hidden."""
        first, last, flags = gpr.rdi & _INT, gpr.rsi & _INT, gpr.rdx & _INT
        if first > last:
            return -_EINVAL
        inside = sorted(n for n in self.hidden | reserved if first <= n <= last)
        for hidden in (*inside, last + 1):
            if first < hidden:
                result = call(_SYS_CLOSE_RANGE, first, hidden - 1, flags)
                if result < 0:
                    return result
            first = hidden + 1
        return 0
