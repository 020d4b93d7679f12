"""One call of a hooked function: from the caller's registers through a VM and back."""

from __future__ import annotations

import ctypes
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from pydbi.hooks.machine import CallVM, FrameLeftError
from pydbi.host.memory import readRword, writeRword
from pydbi.jit.context import FPR_OFFSET, GPR_NAMES, GPR_OFFSET, SLOT
from pydbi.jit.states import FPRState, GPRState

if TYPE_CHECKING:
    from pydbi.hooks.hook import Hook

_GPR_SIZE = len(GPR_NAMES) * 8
_FPR_SIZE = ctypes.sizeof(FPRState)
_RIP = GPR_OFFSET["rip"]
_SLOTS = tuple(SLOT[name] for name in ("GUEST_ERRNO", "UPPER_IN_USE"))
_WORD = 8


class HookedCall:
    """A call that has reached a hooked function, before, while and after it is executed.

    Attributes:
        hook: the function's hook.
        vm: the VM that it is executed by; nobody else's as long as the call lasts.
        return_address: where it is to return to.
        done: whether it has been executed, or skipped.
    """

    def __init__(self, hook: Hook, vm: CallVM, frame: int) -> None:
        self.hook = hook
        self.vm = vm
        self.done = False
        self._frame = frame
        self._load()
        gpr = vm.getGPRState()
        gpr.rip = hook.function
        self._stack = gpr.rsp
        self.return_address = readRword(gpr.rsp)

    def run(self, *, timeout: float | None = None) -> bool:
        """Execute the function under the VM, from `gpr.rip`, until it returns to its caller.

        It has the caller's stack. gpr and fpr have its result afterwards.

        Args:
            timeout: seconds after which to raise GuestTimeout.

        Returns:
            False if a callback has stopped it, if it was left by longjmp or an exception, or if rip
            is in no instrumented range. What follows is executed natively when `on_call` returns.

        Raises:
            As `VM.run`. The rest is executed natively, from the instruction where it stopped.
        """
        self.done = True
        vm, gpr = self.vm, self.vm.getGPRState()
        if gpr.rip not in vm.engine.ranges:
            return False
        vm.prepare_thread()
        limit = nullcontext() if timeout is None else vm._dispatcher.limited(timeout)
        with limit, suppress(FrameLeftError):
            return self._run(gpr)
        return False

    def _run(self, gpr: GPRState) -> bool:
        engine, stop = self.vm.engine, self.return_address
        engine.frame = self._stack
        finished = engine.run(gpr.rip, stop)
        if finished and gpr.rip == stop and gpr.rsp <= self._stack:
            # A deeper call from the same place has returned there. Ours must be told from such.
            unused = self.hook.unused_address
            writeRword(self._stack, unused)
            try:
                finished = engine.run(stop, unused)
            finally:
                if gpr.rip == unused:
                    gpr.rip = stop
                else:
                    writeRword(self._stack, stop)
        return finished

    def skip(self, result: int | None = None) -> None:
        """Return to the caller at once, with gpr and fpr as they are; *result* goes into rax."""
        self.done = True
        gpr = self.vm.getGPRState()
        gpr.rip = self.return_address
        gpr.rsp = self._stack + _WORD
        if result is not None:
            gpr.rax = result & (1 << 64) - 1

    # The frame has a context's layout: see hook.S.

    def _load(self) -> None:
        guest = self.vm.getGPRState()
        context, frame = ctypes.addressof(guest), self._frame
        ctypes.memmove(context, frame, _GPR_SIZE)
        ctypes.memmove(context + FPR_OFFSET, frame + FPR_OFFSET, _FPR_SIZE)
        for slot in _SLOTS:
            ctypes.memmove(context + slot, frame + slot, _WORD)

    def give_back(self) -> None:
        """Let the thread go on natively where the guest has come to."""
        gpr = self.vm.getGPRState()
        gpr.rip = self.hook.native_address(gpr.rip)
        context, frame = ctypes.addressof(gpr), self._frame
        ctypes.memmove(frame + FPR_OFFSET, context + FPR_OFFSET, _FPR_SIZE)
        for slot in _SLOTS:
            ctypes.memmove(frame + slot, context + slot, _WORD)
        ctypes.memmove(frame, context, _GPR_SIZE)
