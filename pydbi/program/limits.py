"""Limits of memory that the guest sets for itself. They must not hit Python, which lives there too.

RLIMIT_AS and RLIMIT_DATA are kept here, and `AddressSpace` observes them. The kernel gets to know
them when it is to execute another program.
"""

from __future__ import annotations

import resource
import struct
from typing import TYPE_CHECKING

from pydbi.program.address_space import AddressSpace
from pydbi.program.kernel import call
from pydbi.program.memory import ProgramMemory

if TYPE_CHECKING:
    from pydbi.jit.states import GPRState
    from pydbi.jit.syscalls import Handler

_SYS_GETRLIMIT, _SYS_SETRLIMIT, _SYS_GETPID, _SYS_PRLIMIT64 = 97, 160, 39, 302
_EPERM, _EFAULT, _EINVAL = 1, 14, 22
_INFINITY = (1 << 64) - 1
_KEPT = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
_RLIMIT = struct.Struct("<QQ")
_INT = (1 << 32) - 1


class Limits:
    """The handlers of calls about limits, and the limits that the kernel does not know."""

    def __init__(self, memory: ProgramMemory, space: AddressSpace) -> None:
        self._memory = memory
        self._space = space
        self._set: dict[int, tuple[int, int]] = {}
        self._lifted: dict[int, tuple[int, int]] = {}

    def handlers(self) -> dict[int, Handler]:
        """Return the handlers by system call number."""
        return {
            _SYS_GETRLIMIT: lambda gpr: self._change(gpr.rdi & _INT, 0, gpr.rsi),
            _SYS_SETRLIMIT: lambda gpr: self._change(gpr.rdi & _INT, gpr.rsi or 1, 0),
            _SYS_PRLIMIT64: self._prlimit,
        }

    def _prlimit(self, gpr: GPRState) -> int:
        process = gpr.rdi & _INT
        if process in (0, call(_SYS_GETPID)):
            return self._change(gpr.rsi & _INT, gpr.rdx, gpr.r10)
        return call(_SYS_PRLIMIT64, process, gpr.rsi, gpr.rdx, gpr.r10)

    def _change(self, which: int, new: int, old: int) -> int:
        """Do what prlimit64 does for this process; *new* and *old* are addresses, or 0."""
        if which not in _KEPT:
            return call(_SYS_PRLIMIT64, 0, which, new, old)
        before = self._get(which)
        if new:
            content = self._memory.read_data(new, _RLIMIT.size)
            if content is None:
                return -_EFAULT
            soft, hard = _RLIMIT.unpack(content)
            if soft > hard:
                return -_EINVAL
            if hard > before[1] and resource.getrlimit(which)[1] != resource.RLIM_INFINITY:
                return -_EPERM
            self._set[which] = (soft, hard)
            self._apply()
        if old and not self._memory.write_data(old, _RLIMIT.pack(*before)):
            return -_EFAULT
        return 0

    def _get(self, which: int) -> tuple[int, int]:
        if which in self._set:
            return self._set[which]
        soft, hard = resource.getrlimit(which)
        return soft & _INFINITY, hard & _INFINITY

    def _apply(self) -> None:
        """Let the guest's memory be limited."""
        most, data = (self._set.get(which, (_INFINITY, 0))[0] for which in _KEPT)
        self._space.most = None if most == _INFINITY else most
        self._space.most_data = None if data == _INFINITY else data

    def put_in_force(self) -> None:
        """Tell the kernel, as another program is about to be executed."""
        for which, (soft, hard) in self._set.items():
            self._lifted[which] = resource.getrlimit(which)
            # Without lowering the hard limit there is a way back, if nothing is executed.
            limit = min(soft, hard)
            highest = self._lifted[which][1]
            value = -1 if limit == _INFINITY else limit
            resource.setrlimit(which, (value, highest))

    def lift(self) -> None:
        """Nothing was executed: Python goes on without them."""
        for which, before in self._lifted.items():
            resource.setrlimit(which, before)
        self._lifted.clear()
