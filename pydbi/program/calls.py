"""The system calls of a program: who handles which, and callbacks before and after them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydbi.jit.actions import StopRun
from pydbi.jit.syscalls import (
    IN_PLACE,
    SYSCALL_SIZE,
    Handler,
    SystemCalls,
    make_waiting_call,
)
from pydbi.program.syscall_names import name_of
from pydbi.tuples import NamedTuple
from pydbi.types import VMAction

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.states import GPRState

_SIGN = 1 << 63
_NUMBER = (1 << 32) - 1
_WORD = (1 << 64) - 1
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
_LAST = 1024
"""Numbers below this are routed when callbacks ask for all calls."""


class Syscall:
    """A system call under way, as callbacks see it.

    Attributes:
        number: which it is; a callback before it may change it.
        arguments: the six argument registers, unsigned; a callback before it may change them.
        result: what it has returned, -errno for an error; None before. A callback before it that
            sets it answers the call itself; one after it that sets it changes the result.
        address: app address of the instruction.
    """

    __slots__ = ("address", "arguments", "number", "result")

    def __init__(self, number: int, arguments: list[int], address: int) -> None:
        self.number = number
        self.arguments = arguments
        self.address = address
        self.result: int | None = None

    @property
    def name(self) -> str:
        """The call's name, as in <asm/unistd_64.h>."""
        return name_of(self.number)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{value:#x}" for value in self.arguments)
        shown = "" if self.result is None else f" = {self.result}"
        return f"<{self.name}({arguments}){shown}>"


SyscallCallback = Callable[[Any, Syscall], "VMAction | None"]
"""Called with the VM and the call; returns CONTINUE or None to go on, STOP to end the run."""


class _Registration(NamedTuple):
    number: int | None
    before: SyscallCallback | None
    after: SyscallCallback | None


class ProgramCalls(SystemCalls):
    """The handlers of one program's system calls, and callbacks around them."""

    def __init__(
        self, engine: Engine, handlers: Mapping[int, Handler], filters: Mapping[int, int]
    ) -> None:
        super().__init__(engine, handlers, filters)
        self._plain = self.handlers
        self._registrations: dict[int, _Registration] = {}
        self._next_identity = 0

    def add_callback(
        self,
        number: int | None,
        before: SyscallCallback | None,
        after: SyscallCallback | None,
    ) -> int:
        """Call *before* and *after* around each call with this number, or all; return an id."""
        identity = self._next_identity
        self._next_identity += 1
        self._registrations[identity] = _Registration(number, before, after)
        self._route()
        return identity

    def remove_callback(self, identity: int) -> bool:
        """Take a callback out again; False if there is none with that id."""
        found = self._registrations.pop(identity, None)
        self._route()
        return found is not None

    def on_exit(self, exit_index: int) -> tuple[int, int]:
        try:
            return super().on_exit(exit_index)
        except StoppedBehind:
            self._engine.guest.gpr.rip += SYSCALL_SIZE
            raise

    def _route(self) -> None:
        """Let the calls that callbacks want come here, and no others but the handled ones."""
        wanted = {registration.number for registration in self._registrations.values()}
        watched = range(_LAST) if None in wanted else {n for n in wanted if n is not None}
        self.route(self._plain | dict.fromkeys(watched, self._observed), watched)

    def _observed(self, gpr: GPRState) -> int | None:
        """Make a system call with the callbacks around it."""
        vm = self._engine.vm()
        made = Syscall(
            gpr.rax & _NUMBER,
            [getattr(gpr, name) for name in _ARGUMENTS],
            gpr.rip - SYSCALL_SIZE,
        )
        due = [r for r in self._registrations.values() if r.number in (None, made.number)]
        stops = False
        for registration in due:
            if registration.before is not None:
                stops |= registration.before(vm, made) is VMAction.STOP
        if made.result is None:
            gpr.rax = made.number & _WORD
            for name, value in zip(_ARGUMENTS, made.arguments, strict=True):
                setattr(gpr, name, value & _WORD)
            made.result = self._plain.get(made.number, self._forward)(gpr)
            if made.result == IN_PLACE:
                made.result = self._forward(gpr)
            if made.result is None:  # all registers are set: nothing is left to look at
                return None
        for registration in due:
            if registration.after is not None:
                stops |= registration.after(vm, made) is VMAction.STOP
        if stops:
            gpr.rax = made.result & _WORD
            raise StoppedBehind
        return made.result

    def _forward(self, gpr: GPRState) -> int:
        arguments = ((getattr(gpr, name) ^ _SIGN) - _SIGN for name in _ARGUMENTS)
        return make_waiting_call(self._engine, gpr.rax & _NUMBER, *arguments)


class StoppedBehind(StopRun):
    """A callback wants the run to end, the system call being done."""
