"""Signal handlers of the guest run translated.

What the guest tells the kernel about its handlers is kept here, and a handler of ours installed
instead (``guest_handler`` of ``handlers.inc``). It notes the signal and makes the guest leave the
cache. At the next instruction boundary a frame is built as the kernel builds it, and the guest goes
on in its own handler; so `siglongjmp`, changes of the ucontext and nested handlers work as they do
natively.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from signal import SIGTRAP
from typing import TYPE_CHECKING

from pydbi.host.libc import syscall
from pydbi.jit.alternate_stack import SS_AUTODISARM, SS_ONSTACK, sigaltstack
from pydbi.jit.app_memory import LONGEST_INSTRUCTION
from pydbi.jit.context import SIGINFO_OFFSET, SIGINFO_SIZE, SIGNALS, SLOT
from pydbi.jit.dispositions import Action, Dispositions
from pydbi.jit.faults import stack_fault
from pydbi.jit.guest import AlternateStack
from pydbi.jit.signal_frames import Fault, Frame, pop_frame, push_frame
from pydbi.jit.signals import ALL_BUT_FAULTS, FAULTS, kick_signal, queue
from pydbi.jit.stubs import ACTION_SIZE
from pydbi.jit.syscalls import Handler
from pydbi.x86.instruction import decode

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.states import GPRState

SYS_RT_SIGACTION, SYS_RT_SIGPROCMASK, SYS_RT_SIGRETURN = 13, 14, 15
SYS_RT_SIGPENDING, SYS_SIGALTSTACK = 127, 131
_SYS_RT_SIGQUEUEINFO = 129
_SIG_BLOCK, _SIG_UNBLOCK, _SIG_SETMASK = 0, 1, 2
_SA_NODEFER, _SA_RESETHAND, _SA_ONSTACK = 0x40000000, 0x80000000, 0x08000000
_SA_RESTART = 0x10000000
_EFAULT, _EINVAL = 14, 22
_SYS_FUTEX, _FUTEX_CMD_MASK = 202, 0x7F
_FUTEX_LOCKS = (6, 13)
"""FUTEX_LOCK_PI and its second form: they never return EINTR."""
_SIGKILL, _SIGSEGV, _SIGSTOP = 9, 11, 19
_PAGE_FAULT, _TRAPS = 14, (1, 3)
"""Vectors of the processor's exceptions: #PF; #DB and #BP."""
_ALL = (1 << SIGNALS) - 1
_UNBLOCKABLE = 1 << (_SIGKILL - 1) | 1 << (_SIGSTOP - 1)

_PENDING, _NEWLY_BLOCKED = SLOT["PENDING"] >> 3, SLOT["NEWLY_BLOCKED"] >> 3
_FAULT_INFO = struct.Struct("<iii4xQ104x")


class _Blocked:
    """The signals that the guest has blocked, a bit each."""

    def __init__(self, mask: int) -> None:
        self.mask = mask


class GuestSignals:
    """The signals of the guest that runs on this thread.

    Attributes:
        handlers: the system calls about signals, for `SystemCalls`.
        dispositions: what is done with each signal.
    """

    def __init__(self, engine: Engine, dispositions: Dispositions) -> None:
        self._engine = engine
        self.dispositions = dispositions
        self.handlers: dict[int, Handler] = {
            SYS_RT_SIGACTION: self._sigaction,
            SYS_RT_SIGPROCMASK: self._sigprocmask,
            SYS_RT_SIGRETURN: self._sigreturn,
            SYS_RT_SIGPENDING: self._sigpending,
            SYS_SIGALTSTACK: partial(sigaltstack, engine),
        }
        self._hidden = sum(1 << number - 1 for number in (*FAULTS, kick_signal()))
        """Signals that the engine needs: the guest can block them only as far as it can see."""

    # Delivery.

    def deliver(self) -> None:
        """Let the guest, at an instruction boundary, enter the handler of a pending signal."""
        guest = self._engine.guest
        words = guest.words
        with self._undisturbed() as blocked:
            pending = words[_PENDING]
            if not pending:
                return
            lowest = pending & -pending
            signal = lowest.bit_length()
            words[_PENDING] = pending & ~lowest
            words[_NEWLY_BLOCKED] &= ~lowest
            place = SIGINFO_OFFSET + (signal - 1) * SIGINFO_SIZE
            info = bytes(guest.memory[place : place + SIGINFO_SIZE])
            action = self.dispositions.get(signal)
            if action.calls:
                self._enter(signal, info, action, blocked, Fault())
            else:
                self.dispositions.on_default(signal, info)

    def end_calls(self) -> bool:
        """Whether the signal that is delivered next ends the system call that the guest waits in.

        With SA_RESTART it does not, and there are calls that the kernel always begins again.
        """
        guest = self._engine.guest
        pending = guest.words[_PENDING]
        if not pending:
            return False
        gpr = guest.gpr
        if gpr.rax & 0xFFFFFFFF == _SYS_FUTEX and gpr.rsi & _FUTEX_CMD_MASK in _FUTEX_LOCKS:
            return False
        action = self.dispositions.get((pending & -pending).bit_length())
        return action.calls and not action.flags & _SA_RESTART

    def deliver_fault(self, signal: int, code: int, address: int) -> bool:
        """Let the guest enter its own handler of a fault at rip; False if it has none in force."""
        words = self._engine.guest.words
        action = self.dispositions.get(signal)
        if not self.dispositions.is_guests(signal) or not action.calls:
            return False
        with self._undisturbed() as blocked:
            if blocked.mask >> signal - 1 & 1:
                return False
            info = _FAULT_INFO.pack(signal, 0, code, address)
            error, trap = words[SLOT["FAULT_ERROR"] >> 3], words[SLOT["FAULT_TRAP"] >> 3]
            if trap in _TRAPS and signal == SIGTRAP:
                self._step_over()
            accessed = address if trap == _PAGE_FAULT else 0
            self._enter(signal, info, action, blocked, Fault(error, trap, accessed))
        return True

    def _enter(
        self, signal: int, info: bytes, action: Action, blocked: _Blocked, fault: Fault
    ) -> None:
        guest = self._engine.guest
        stack = guest.alternate_stack
        rsp = guest.gpr.rsp
        top = 0
        if action.flags & _SA_ONSTACK and stack.size and not stack.contains(rsp):
            top = stack.sp + stack.size
        if action.flags & _SA_RESETHAND:
            self.dispositions.set(signal, Action())
        handler, restorer, mask = action.handler, action.restorer, blocked.mask
        frame = Frame(signal, info, handler, restorer, mask, stack, top, fault)
        if not push_frame(guest, self._engine.memory, frame):
            raise stack_fault(self._engine, top or rsp)
        if top and stack.flags & SS_AUTODISARM:
            guest.alternate_stack = AlternateStack()
        own = 0 if action.flags & _SA_NODEFER else 1 << signal - 1
        blocked.mask |= (action.mask | own) & ~_UNBLOCKABLE

    def _step_over(self) -> None:
        """Have rip behind the instruction: a trap, unlike a fault, is reported there."""
        gpr = self._engine.guest.gpr
        code = self._engine.memory.read_data(gpr.rip, LONGEST_INSTRUCTION) or b""
        instruction = decode(code, 0)
        gpr.rip += 0 if isinstance(instruction, int) else len(instruction.code)

    def release(self) -> None:
        """Give signals that are still pending back to the kernel: the run is over."""
        with self._undisturbed():
            self._requeue(_ALL)

    def retire(self) -> None:
        """The guest's thread has ended, the thread itself waits: leave signals to the others."""
        _change_mask(_SIG_SETMASK, ALL_BUT_FAULTS)
        words = self._engine.guest.words
        for signal, info in self._noted(words[_PENDING]):
            syscall(_SYS_RT_SIGQUEUEINFO, os.getpid(), signal, info)
        words[_PENDING] = words[_NEWLY_BLOCKED] = 0

    def fork(self, fork: Callable[[], int]) -> int:
        """Call *fork*, in whose child 0 is returned.

        Signals that come meanwhile wait for that of the two processes which they were sent to. What
        waits already does so for the parent.
        """
        with self._undisturbed():
            child = fork()
            if child == 0:
                words = self._engine.guest.words
                words[_PENDING] = words[_NEWLY_BLOCKED] = 0
        return child

    # The mask of blocked signals is the kernel's, but for what the engine needs.

    @contextmanager
    def _undisturbed(self) -> Iterator[_Blocked]:
        """Have no signal come; yield the guest's mask, and put in force what it is at the end."""
        guest = self._engine.guest
        before = _change_mask(_SIG_SETMASK, ALL_BUT_FAULTS)
        blocked = _Blocked(before & ~guest.words[_NEWLY_BLOCKED] | guest.withheld_signals)
        try:
            yield blocked
        finally:
            self._requeue(blocked.mask)
            guest.withheld_signals = blocked.mask & self._hidden
            mask = blocked.mask & ~self._hidden | guest.words[_NEWLY_BLOCKED]
            _change_mask(_SIG_SETMASK, mask)

    def _requeue(self, which: int) -> None:
        guest = self._engine.guest
        words = guest.words
        moved = words[_PENDING] & which
        words[_PENDING] &= ~moved
        words[_NEWLY_BLOCKED] &= ~moved
        for signal, info in self._noted(moved):
            queue(signal, info)

    def _noted(self, which: int) -> Iterator[tuple[int, int]]:
        """Yield the signals whose bits are set in *which*, and where their siginfo lies."""
        for signal in range(1, SIGNALS + 1):
            if which >> signal - 1 & 1:
                place = SIGINFO_OFFSET + (signal - 1) * SIGINFO_SIZE
                yield signal, self._engine.guest.address + place

    # System calls.

    def _sigaction(self, gpr: GPRState) -> int:
        signal, new, old, size = gpr.rdi & 0xFFFFFFFF, gpr.rsi, gpr.rdx, gpr.r10
        if size != 8 or not 1 <= signal <= SIGNALS:
            return -_EINVAL
        memory = self._engine.memory
        before = self.dispositions.get(signal)
        if new:
            if signal in (_SIGKILL, _SIGSTOP):
                return -_EINVAL
            content = memory.read_data(new, ACTION_SIZE)
            if content is None:
                return -_EFAULT
            self.dispositions.set(signal, Action.unpack(content))
        if old and not memory.write_data(old, before.pack()):
            return -_EFAULT
        return 0

    def _sigprocmask(self, gpr: GPRState) -> int:
        how, new, old, size = gpr.rdi & 0xFFFFFFFF, gpr.rsi, gpr.rdx, gpr.r10
        if size != 8 or how > _SIG_SETMASK:
            return -_EINVAL
        memory = self._engine.memory
        given = memory.read_data(new, 8) if new else b""
        if given is None:
            return -_EFAULT
        with self._undisturbed() as blocked:
            before = blocked.mask
            if given:
                wanted = int.from_bytes(given, "little")
                masks = {_SIG_BLOCK: before | wanted, _SIG_UNBLOCK: before & ~wanted}
                blocked.mask = masks.get(how, wanted) & ~_UNBLOCKABLE
        if old and not memory.write_data(old, before.to_bytes(8, "little")):
            return -_EFAULT
        return 0

    def _sigreturn(self, gpr: GPRState) -> None:
        guest = self._engine.guest
        at = gpr.rsp
        found = pop_frame(guest, self._engine.memory)
        if found is None:
            raise stack_fault(self._engine, at)
        mask, stack = found
        if not stack.flags & SS_AUTODISARM or stack.size:
            guest.alternate_stack = stack._replace(flags=stack.flags & ~SS_ONSTACK)
        with self._undisturbed() as blocked:
            blocked.mask = mask & ~_UNBLOCKABLE

    def _sigpending(self, gpr: GPRState) -> int:
        if gpr.rsi > 8:
            return -_EINVAL
        result = ctypes.c_uint64()
        syscall(SYS_RT_SIGPENDING, ctypes.addressof(result), 8)
        return 0 if self._engine.memory.write_data(gpr.rdi, bytes(result)[: gpr.rsi]) else -_EFAULT


def _change_mask(how: int, mask: int) -> int:
    """Change the kernel's mask of this thread and return the one before."""
    words = (ctypes.c_uint64 * 2)(mask)
    address = ctypes.addressof(words)
    syscall(SYS_RT_SIGPROCMASK, how, address, address + 8, 8)
    return words[1]
