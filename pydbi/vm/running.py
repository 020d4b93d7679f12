"""Running the guest."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from pydbi.jit.context import (
    FPR_OFFSET,
    GPR_OFFSET,
    REASON_NO_STACK,
    REASON_OTHER_THREAD,
    REASON_RETURNED,
    SLOT,
)
from pydbi.jit.dispatcher import Dispatcher
from pydbi.jit.engine import Engine
from pydbi.jit.guest import Guest
from pydbi.jit.stack import ARGUMENT_REGISTERS, FRAME_SIZE, simulateCall
from pydbi.jit.states import FPRState, GPRState
from pydbi.vm.arguments import as_address, as_words, not_a_word

RETURN_ADDRESS = 42
"""Where a function started by `VM.call` returns to, as in PyQBDI: nothing is there."""

_RAX, _RSP = GPR_OFFSET["rax"] >> 3, GPR_OFFSET["rsp"] >> 3
_CALL_RSP = SLOT["CALL_RSP"] >> 3
_ARGUMENTS = tuple(GPR_OFFSET[name] >> 3 for name in ARGUMENT_REGISTERS)


class Running:
    """VM's methods about the guest's state and its running."""

    _engine: Engine
    _guest: Guest
    _words: memoryview
    _dispatcher: Dispatcher
    _calls: dict[int, Callable[[], int]]

    def getGPRState(self) -> GPRState:
        """Return the general registers: the VM's own, so that writes take effect."""
        return self._guest.gpr

    def setGPRState(self, gprState: GPRState) -> None:
        """Copy *gprState* into the guest."""
        if not isinstance(gprState, GPRState):
            raise TypeError(f"a GPRState is due, not {gprState!r}")
        ctypes.memmove(self._guest.address, bytes(gprState), ctypes.sizeof(GPRState))

    def getFPRState(self) -> FPRState:
        """Return the x87, SSE, AVX and AVX-512 registers: the VM's own, writes take effect."""
        return self._guest.fpr

    def setFPRState(self, fprState: FPRState) -> None:
        """Copy *fprState* into the guest."""
        if not isinstance(fprState, FPRState):
            raise TypeError(f"an FPRState is due, not {fprState!r}")
        ctypes.memmove(self._guest.address + FPR_OFFSET, bytes(fprState), ctypes.sizeof(FPRState))
        self._guest.notice_state()

    # Running.

    def run(self, start: int, stop: int, *, timeout: float | None = None) -> bool:
        """Run from *start* until *stop* is about to be executed.

        Args:
            timeout: seconds after which to raise GuestTimeout; pydbi's own.

        Returns:
            False if *start* is in no instrumented range: nothing was executed then. After an
            exception the guest can go on from rip all the same, wherever that is.

        Raises:
            GuestFault, DecodeError, UnsupportedInstruction: the guest cannot go on; its state is
                that before the instruction.
            ReentryError: this VM is running already.
            BaseException: what a callback raised.
        """
        if timeout is not None:
            with self._dispatcher.limited(timeout):
                return self.run(start, stop)
        start, stop = as_address(start), as_address(stop)
        if start not in self._engine.ranges and start != self._dispatcher.interrupted_at:
            return False
        return self._engine.run(start, stop)

    def stop(self) -> None:
        """Let the run or call that is under way end as if a callback had returned STOP.

        For other threads and signal handlers; from a callback it takes effect when the guest has
        gone on. Nothing happens if the guest is not running. pydbi's own.
        """
        self._dispatcher.stop()

    def call(
        self, function: int, args: Sequence[int], *, timeout: float | None = None
    ) -> tuple[bool, int]:
        """Call a function with integer arguments and return (True, rax).

        The stack that rsp points to is used; rsp has the same value afterwards.

        Args:
            timeout: seconds after which to raise GuestTimeout; pydbi's own.

        Returns:
            (False, 0) if rsp is 0 or *function* is in no instrumented range.

        Raises:
            As `run` does.
        """
        if timeout is not None:
            with self._dispatcher.limited(timeout):
                return self.call(function, args)
        try:
            enter = self._calls[function]
        except (KeyError, TypeError):
            return self._call_slowly(function, args)
        words = self._words
        if type(args) is not list:
            args = as_words(args)
        if args:
            if len(args) > len(_ARGUMENTS):
                return self._call_slowly(function, args)
            try:
                for place, value in zip(_ARGUMENTS, args, strict=False):
                    words[place] = value
            except (ValueError, TypeError):
                raise not_a_word(value, "argument") from None
        try:
            reason = enter()
        except BaseException:
            self._dispatcher.settle()
            self._dispatcher.end_activity()
            raise
        if reason != REASON_RETURNED:
            if reason == REASON_NO_STACK:
                return False, 0
            if reason == REASON_OTHER_THREAD:
                self._dispatcher.prepare()
                return self.call(function, args)
            self._dispatcher.go_on(reason, RETURN_ADDRESS)
            words[_RSP] = words[_CALL_RSP]
        return True, words[_RAX]

    def _call_slowly(self, function: int, args: Sequence[int]) -> tuple[bool, int]:
        """`call` with a new function, many arguments, or reasons not to."""
        function = as_address(function)
        gpr = self._guest.gpr
        self._dispatcher.check_not_running()
        if not gpr.rsp or function not in self._engine.ranges:
            return False, 0
        args = as_words(args)
        if len(args) <= len(_ARGUMENTS) and not self._engine.instruments.events.mask:
            self._engine.add_call(function, FRAME_SIZE, RETURN_ADDRESS)
            self._dispatcher.prepare()
            return self.call(function, args)
        rsp = gpr.rsp
        simulateCall(gpr, RETURN_ADDRESS, args)
        done = self._engine.run(function, RETURN_ADDRESS)
        gpr.rsp = rsp
        return done, gpr.rax
