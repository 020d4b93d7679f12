"""What happens when a kick has made the guest leave the cache; see :mod:`pydbi.jit.signals`.

The guest may have been anywhere in a block, within what an instruction was translated to. Before
anything is done it is brought to an instruction boundary: by single steps, the trap flag being set
on the way into the cache. At a boundary its state is exact, and it goes on at the very place.
Between two elements of a repeated string instruction there is a boundary too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from pydbi.errors import GuestTimeout
from pydbi.jit.actions import StopRun
from pydbi.jit.app_memory import LONGEST_INSTRUCTION
from pydbi.jit.context import GPR_OFFSET, REASON_KICK, REASON_NONE, SLOT
from pydbi.jit.faults import give_back, resting_at
from pydbi.jit.patch_strings import GS_BASE_CODE_SIZE, is_between_elements
from pydbi.jit.signals import KickTimer
from pydbi.jit.stubs import stubs
from pydbi.jit.syscalls import SYSCALL_SIZE
from pydbi.x86.instruction import LEGACY, decode
from pydbi.x86.traits import REP_STRING, SYSCALL

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

_ENTRY, _REASON = SLOT["ENTRY"] >> 3, SLOT["REASON"] >> 3
_INTERRUPTED_REASON = SLOT["INTERRUPTED_REASON"] >> 3
_STEPPING, _FAULT_PC = SLOT["STEPPING"] >> 3, SLOT["FAULT_PC"] >> 3
_STOP_REQUEST = SLOT["STOP_REQUEST"] >> 3
_RIP = GPR_OFFSET["rip"] >> 3
_TRAP_FLAG = 0x100
_PUSHF = 0x9C
_SYSCALL = b"\x0f\x05"
_SECOND = 1_000_000_000
_WORD = (1 << 64) - 1
_EINTR = 4
_TEMPLATE = stubs().template("syscall")
_BEHIND_SYSCALL = len(_TEMPLATE.code) - _TEMPLATE.holes["call"]
"""From a SYSCALL in the cache to what follows its translation."""


class Kicks:
    """Brings a guest that was kicked to a boundary, and sees what is wanted of it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._deadline = 0.0
        self._timeout: float | None = None
        self._timer: KickTimer | None = None
        self._stopping: KickTimer | None = None
        self.on_kick: Callable[[], object] | None = None
        """Called when the guest has come to a boundary; it may raise."""
        self._begun = 0
        """Cache address of the SYSCALL that the guest is at, if the kernel had begun it."""

    @property
    def interrupts_call(self) -> bool:
        """Whether the boundary is at a system call that a kick has interrupted while it waited.

        The kernel would begin it again. A signal of the guest's may come before that is done; for
        the guest, it is this that has interrupted the call.
        """
        return bool(self._begun)

    def end_call(self, code: int) -> tuple[int, int]:
        """Have that system call return EINTR.

        Args:
            code: cache address of the SYSCALL; 0 if that is not known any more.

        Returns:
            App and cache address to go on at; what is due behind the instruction is still to come.
        """
        gpr = self._engine.guest.gpr
        gpr.rax = -_EINTR & _WORD
        gpr.rip += SYSCALL_SIZE
        self._begun = 0
        return gpr.rip, code + _BEHIND_SYSCALL if code else 0

    def forget_call(self) -> None:
        """The guest has gone on to another system call."""
        self._begun = 0

    def begin(self, timeout: float) -> None:
        """Limit what is run from now on to *timeout* seconds."""
        self._timeout = timeout
        self._deadline = monotonic() + timeout
        self._timer = KickTimer()
        # Again and again: where a kick finds the guest in native code it is lost.
        self._timer.start(max(int(timeout * _SECOND), 1), _SECOND // 100)

    def end(self) -> None:
        """Take the limit away."""
        self._timeout = self._timer = None

    def request_stop(self, thread: int) -> None:
        """Let the run that is under way on the thread with this kernel id stop."""
        self._engine.guest.words[_STOP_REQUEST] = 1
        # Again and again: a kick that comes just before the guest waits in a system call is lost.
        with suppress(OSError):  # the thread has ended meanwhile
            timer = KickTimer(thread=thread)
            timer.start(1, _SECOND // 100)
            self._stopping = timer

    def is_wanted(self) -> bool:
        """Whether there may be something to check."""
        return self._timeout is not None or bool(self._engine.guest.words[_STOP_REQUEST])

    def check(self, app: int) -> None:
        """Raise what ends the run at *app*, if anything does.

        Raises:
            StopRun: somebody has asked to stop.
            GuestTimeout: the run's time is over.
        """
        if self.on_kick is not None:
            self.on_kick()
        words = self._engine.guest.words
        self._stopping = None
        if words[_STOP_REQUEST]:
            words[_STOP_REQUEST] = 0
            raise StopRun
        if self._timeout is not None and monotonic() >= self._deadline:
            raise GuestTimeout(self._timeout, app)

    def reach_boundary(self) -> tuple[int, int]:
        """Bring the guest to an instruction boundary.

        Returns:
            REASON_KICK and the cache address to go on at, rip being set; or another reason for
            which it has left the cache on the way there.
        """
        engine = self._engine
        words = engine.guest.words
        while True:
            code = words[_FAULT_PC]
            app, go_on = self._boundary(code)
            if app:
                words[_RIP] = app
                words[_REASON] = REASON_NONE
                return REASON_KICK, go_on
            words[_ENTRY] = code
            words[_STEPPING] = _TRAP_FLAG  # `settle` looks at this, should an exception come
            words[_REASON] = words[_INTERRUPTED_REASON]
            pushes_flags = self._pushes_flags(code)
            try:
                reason = engine.guest.enter()
            finally:
                if pushes_flags and words[_FAULT_PC] != code:
                    pushed = ctypes.c_uint16.from_address(engine.guest.gpr.rsp)
                    pushed.value &= ~_TRAP_FLAG
            words[_STEPPING] = 0
            if reason != REASON_KICK:
                return reason, 0

    def _pushes_flags(self, code: int) -> bool:
        """Whether there is a PUSHF at the cache address *code*: it would show the trap flag."""
        arena = self._engine.cache.arena_at(code)
        offset = code - arena.address
        here = bytes(arena.memory[offset : offset + LONGEST_INSTRUCTION])
        if _PUSHF not in here:
            return False
        instruction = decode(here, 0)
        if isinstance(instruction, int) or instruction.encoding != LEGACY:
            return False
        return (instruction.opcode_map, instruction.opcode) == (0, _PUSHF)

    def _boundary(self, code: int) -> tuple[int, int]:
        """Look for an instruction boundary at the cache address *code*.

        Returns:
            The app address that begins there, or 0 if none does; and where to go on. At the former
            the guest's registers are all in their places.
        """
        engine = self._engine
        if code != self._begun:
            self._begun = 0
        block = engine.cache.block_of(code)
        if block is None:
            return 0, code
        resting = resting_at(block, code)
        if any(slot > 0 for _, slot in resting):
            return 0, code
        if block.code in engine.cache.call_blocks:
            return 0, code
        app = block.app_of(code)
        if block.code_of(app)[0] != code and not self._is_within(app, code):
            return 0, code
        if resting:
            code -= GS_BASE_CODE_SIZE  # where the base is added again
            give_back(engine.guest, resting, app, code)
        return app, code

    def _is_within(self, app: int, code: int) -> bool:
        """Whether the cache address *code* is a boundary within the translation of an instruction.

        It is one between two elements of a repeated string instruction, and at the SYSCALL that the
        kernel is about to start again: then rcx and r11 are what they are natively.
        """
        engine = self._engine
        instruction = decode(engine.memory.read_data(app, LONGEST_INSTRUCTION) or b"", 0)
        if isinstance(instruction, int) or not instruction.traits & (REP_STRING | SYSCALL):
            return False
        arena = engine.cache.arena_at(code)
        offset = code - arena.address
        here = bytes(arena.memory[offset : offset + LONGEST_INSTRUCTION])
        if instruction.traits & REP_STRING:
            return is_between_elements(here)
        if not here.startswith(_SYSCALL):
            return False
        gpr = engine.guest.gpr
        following = app + SYSCALL_SIZE
        if gpr.rcx == code + SYSCALL_SIZE:  # as SYSCALL leaves it: the kernel has gone back
            self._begun = code
        elif gpr.rcx != following:
            self._begun = 0
        gpr.rcx, gpr.r11 = following, gpr.eflags
        return True
