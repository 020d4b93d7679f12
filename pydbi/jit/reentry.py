"""Native calls of instrumented functions, run under a VM: docs/design/reentry.md.

The pages of what is instrumented may not be executed while they are *caught*. A native call into
them ends in the fault handler (``reentry.S``), which calls `_Catcher.enter` with the caller's
registers, on a stack of its own. The function runs under an engine, and its caller goes on with
what it has left in the registers.
"""

from __future__ import annotations

import atexit
import ctypes
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from threading import get_ident
from typing import TYPE_CHECKING

from pydbi.host import cpu
from pydbi.host.libc import libc
from pydbi.host.maps import read_mappings
from pydbi.jit import caught_pages
from pydbi.jit.context import FPR_OFFSET, GPR_OFFSET, NATIVE_STACK_OFFSET, OPMASK_OFFSET, SLOT
from pydbi.jit.dispatcher import Dispatcher
from pydbi.jit.host_code import host_pages
from pydbi.jit.signals import guest_threads, prepare_thread
from pydbi.jit.stubs import stubs

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

RETURN_ADDRESS = 42
"""Where a function that runs so returns to: nothing is there."""
_STATE_SIZE = OPMASK_OFFSET + 64
_FPR_SIZE = _STATE_SIZE - FPR_OFFSET
_RAX, _RBX, _RSP, _RIP = (GPR_OFFSET[name] >> 3 for name in ("rax", "rbx", "rsp", "rip"))
_GPR_WORDS = len(GPR_OFFSET)
_ERRNO = SLOT["GUEST_ERRNO"] >> 3
_NATIVE_STACK, _HOST_RSP = NATIVE_STACK_OFFSET >> 3, SLOT["HOST_RSP"] >> 3
_DEPTH, _RUNNING = SLOT["NATIVE_DEPTH"] >> 3, SLOT["RUNNING"] >> 3
_OF_THE_RUN = tuple(
    SLOT[name] >> 3
    for name in (
        "SCRATCH_RCX", "SCRATCH_0", "SCRATCH_1", "TARGET", "ENTRY", "RESUME", "CALL_RSP", "RUNNING",
        "ACTIVE", "REASON", "GATE_INDEX", "RESULT", "HOST_RSP", "HOST_FS", "HOST_MXCSR",
        "MXCSR_NOW", "GUEST_ERRNO", "NATIVE_DEPTH", "NATIVE_TARGET", "FAULT_SIGNAL", "FAULT_CODE",
        "FAULT_ADDRESS", "FAULT_PC", "FAULT_TRAP", "FAULT_ERROR", "INTERRUPTED_REASON", "STEPPING",
        "INSIDE", "OUTSIDE", "TRANSFER_TARGET", "RECORD_0", "RECORD_1", "RECORD_2",
    )
)  # fmt: skip
"""Slots that belong to one run; the others are the engine's settings."""

EngineMaker = Callable[[], "Engine"]


class Catch:
    """What one engine has caught.

    Attributes:
        engine: a weak reference.
        thread: the thread whose calls it runs itself.
        make: makes the engine for calls on another thread; None if these are not instrumented.
        pages: numbers of the pages that were taken for it.
        finalizer: lets go of them when the VM goes.
    """

    def __init__(
        self, engine: Engine, make: EngineMaker | None, drop: Callable[[int], None]
    ) -> None:
        self.engine = weakref.ref(engine)
        self.thread = get_ident()
        self.make = make
        self.pages: list[int] = []
        self.finalizer = weakref.finalize(engine.vm(), drop, id(engine))
        self._others: dict[int, Engine] = {}

    def engine_here(self) -> Engine | None:
        """Return the engine for calls on this thread; None if it has none."""
        thread = get_ident()
        if thread == self.thread:
            return self.engine()
        if self.make is not None and thread not in self._others:
            self._others[thread] = self.make()
        return self._others.get(thread)


class _Catcher:
    """The process's table of caught pages, and what runs the functions."""

    def __init__(self) -> None:
        self._catches: dict[int, Catch] = {}
        self._spare: list[Engine] = []
        self._owners: list[_Owner] = []
        self._tables: list[ctypes.Array[ctypes.c_uint64]] = []
        self._callback = ctypes.CFUNCTYPE(None, ctypes.c_size_t)(self.enter)
        slots = stubs().reentry
        slots[1] = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        slots[2] = ctypes.cast(getattr(libc, "__errno_location"), ctypes.c_void_p).value or 0
        slots[3] = 2 if cpu.has_avx512() else 1 if cpu.has_avx() else 0
        atexit.register(self.release_all)

    def catch(self, engine: Engine, make: EngineMaker | None) -> None:
        """Catch native calls of what *engine* instruments now; see `VM.catchNativeCalls`."""
        self.release(engine)
        wanted = [
            (mapping, low, high)
            for mapping in read_mappings()
            for part in caught_pages.executable_parts(mapping)
            for low, high in _instrumented(engine, *part)
        ]
        if not wanted:
            raise ValueError("nothing that is executable is instrumented")
        for mapping, low, high in wanted:
            if not host_pages().isdisjoint(range(low >> 12, (high + 4095) >> 12)):
                raise ValueError(
                    f"native calls of {mapping.path or hex(mapping.start)} cannot be caught: "
                    "Python itself runs on it"
                )
        caught = self._catches[id(engine)] = Catch(engine, make, self._drop)
        guest_threads.may_start_elsewhere(True)
        self._publish([(low & -4096, (high + 4095) & -4096) for _, low, high in wanted])
        for mapping, low, high in wanted:
            caught.pages += caught_pages.catch(mapping, low, high)
        engine.memory.forget_all()

    def release(self, engine: Engine) -> None:
        """Let native calls of what *engine* instruments run natively again."""
        self._drop(id(engine))

    def release_all(self) -> None:
        """Let all run natively again: Python is about to end."""
        for identity in list(self._catches):
            self._drop(identity)

    def _drop(self, identity: int) -> None:
        caught = self._catches.pop(identity, None)
        if caught is not None:
            caught.finalizer.detach()
            caught_pages.release(caught.pages)
            self._publish([])
            guest_threads.may_start_elsewhere(bool(self._catches))

    def _publish(self, more: list[tuple[int, int]]) -> None:
        """Tell the fault handler what is caught, and *more* that is about to be."""
        words = [word for pair in (*caught_pages.ranges(), *more) for word in pair]
        table = (ctypes.c_uint64 * (len(words) + 2))(*words)
        self._tables.append(table)  # another thread may be looking at an older one
        stubs().reentry[0] = ctypes.addressof(table)

    # A call.

    def enter(self, address: int) -> None:
        """Run the function that was called; *address* is that of the caller's state."""
        state = (ctypes.c_uint64 * (_STATE_SIZE // 8)).from_address(address)
        caller = _Call(address, state)
        try:
            # The dispatcher may take this for a thread that it has prepared. But what Python knows
            # of a thread that C has started is gone behind each call, and so are its kicks.
            prepare_thread()
            engine = self._engine_for(state[_RIP], state[_RSP])
            if engine is not None:
                self._run(engine, caller)
            while not caller.returned:  # it was stopped, or nobody is to see it
                self._run_unseen(caller)
        except BaseException:  # ctypes gives it to sys.unraisablehook
            caller.give_up()
            raise
        finally:
            caller.finish()

    def _engine_for(self, function: int, rsp: int) -> Engine | None:
        """Return the engine that instruments *function* on this thread; None if none may."""
        for caught in list(self._catches.values()):
            engine = caught.engine()
            if engine is not None and function in engine.ranges:
                engine = caught.engine_here()
                return engine if engine is not None and _may_enter(engine, rsp) else None
        return None

    def _run(self, engine: Engine, caller: _Call) -> None:
        with _Suspended(engine):
            caller.run(engine)

    def _run_unseen(self, caller: _Call) -> None:
        """Run it, or what is left of it, translated but without callbacks."""
        from pydbi.jit.engine import Engine

        if self._spare:
            engine = self._spare.pop()
        else:
            owner = _Owner()
            engine = Engine(owner)
            self._owners.append(owner)
        try:
            caller.run(engine)
        finally:
            self._spare.append(engine)


class _Owner:
    """In place of a VM, for engines without callbacks."""


class _Call:
    """A native call, and what its caller is to find."""

    def __init__(self, address: int, state: ctypes.Array[ctypes.c_uint64]) -> None:
        self._address, self._state = address, state
        self._rsp = state[_RSP]
        self._place = ctypes.c_uint64.from_address(self._rsp)
        self._back = self._place.value
        self._saved = ctypes.string_at(address, _GPR_WORDS * 8)
        self.function = state[_RIP]
        self.returned = False

    def run(self, engine: Engine) -> None:
        """Run on under *engine* from where the state is, until it returns or is stopped."""
        guest = engine.guest
        words, state = guest.words, self._state
        ctypes.memmove(guest.address, self._address, _GPR_WORDS * 8)
        words[_ERRNO] = state[_ERRNO]
        ctypes.memmove(guest.address + FPR_OFFSET, self._address + FPR_OFFSET, _FPR_SIZE)
        guest.notice_state()
        self._place.value = RETURN_ADDRESS
        try:
            engine.run(words[_RIP], RETURN_ADDRESS)
        finally:
            ctypes.memmove(self._address, guest.address, _GPR_WORDS * 8)
            state[_ERRNO] = words[_ERRNO]
            ctypes.memmove(self._address + FPR_OFFSET, guest.address + FPR_OFFSET, _FPR_SIZE)
        self.returned = state[_RIP] == RETURN_ADDRESS and state[_RSP] > self._rsp

    def give_up(self) -> None:
        """Let it return 0, with everything else as it was."""
        ctypes.memmove(self._address, self._saved, len(self._saved))
        self._state[_RAX] = 0
        self._state[_RSP] = self._rsp + 8

    def finish(self) -> None:
        """Leave two words for the stub: rbx, and where to go on."""
        state = self._state
        rsp = state[_RSP] - 16
        ctypes.c_uint64.from_address(rsp).value = state[_RBX]
        ctypes.c_uint64.from_address(rsp + 8).value = self._back
        state[_RSP] = rsp


class _Suspended:
    """An engine whose run, if one is under way, is in native code that calls a function of its."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> None:
        engine = self._engine
        words = engine.guest.words
        self._dispatcher, self._stop = engine.dispatcher, engine.translator.stop
        self._slots = [words[slot] for slot in _OF_THE_RUN]
        self._registers = bytes(engine.guest.memory[:_STATE_SIZE])
        engine.dispatcher = Dispatcher(engine, engine.guest)
        words[_RUNNING] = 0

    def __exit__(self, *_: object) -> None:
        engine = self._engine
        words, memory = engine.guest.words, engine.guest.memory
        engine.dispatcher = self._dispatcher
        memory[: _GPR_WORDS * 8] = self._registers[: _GPR_WORDS * 8]
        memory[FPR_OFFSET:_STATE_SIZE] = self._registers[FPR_OFFSET:]
        for slot, value in zip(_OF_THE_RUN, self._slots, strict=True):
            words[slot] = value
        if self._stop is not None:  # blocks may have been made that go beyond it
            engine.invalidation.forget_blocks(self._stop, self._stop + 1)
        engine.translator.stop = self._stop


def _may_enter(engine: Engine, rsp: int) -> bool:
    """Whether a function that is called with *rsp* can run under *engine*.

    It cannot while the engine's guest is in the middle of a block: in a callback or translation.
    While the guest is in native code, the call comes from its stack, and not from the host's.
    Without FPRState (OPT_DISABLE_FPR) it has no vector registers that arguments could be put in.
    """
    if not engine.guest.saves_fpr:
        return False
    if not engine.dispatcher.running:
        return True
    words = engine.guest.words
    depth = words[_DEPTH]
    if not words[_RUNNING] or not depth:
        return False
    native, host = words[_NATIVE_STACK + 2 * depth - 1], words[_HOST_RSP]
    return rsp <= native and not rsp <= host < native


def _instrumented(engine: Engine, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (low, high) of what is instrumented in [*start*, *end*)."""
    while start < end:
        _, high = engine.ranges.bounds_around(start)
        if start in engine.ranges:
            yield start, min(high, end)
        start = high


@cache
def catcher() -> _Catcher:
    """Return the process's own."""
    return _Catcher()
