"""The run loop: enter the cache, see why it was left, find where to go on."""

from __future__ import annotations

import gc
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING

from pydbi.errors import PydbiError, ReentryError
from pydbi.jit.actions import Actions, Next, StopRun
from pydbi.jit.cache import EXIT_DEAD, EXIT_SYSCALL
from pydbi.jit.context import (
    FIRST_EXIT,
    GPR_OFFSET,
    REASON_FAULT,
    REASON_GATE,
    REASON_LOOKUP,
    REASON_NATIVE_OVERFLOW,
    REASON_NONE,
    REASON_REENTERED,
    REASON_RETURNED,
    SLOT,
)
from pydbi.jit.faults import drop_abandoned_excursions, guest_fault
from pydbi.jit.signals import need_alternate_stack
from pydbi.jit.syscalls import on_syscall

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

_ENTRY = SLOT["ENTRY"] >> 3
_TARGET = SLOT["TARGET"] >> 3
_RIP = GPR_OFFSET["rip"] >> 3
_REASON = SLOT["REASON"] >> 3
_RUNNING = SLOT["RUNNING"] >> 3
_ENTER = -1
"""In place of a reason to have left the cache: it is to be entered."""


SYSCALL_SIZE = 2


class Dispatcher:
    """Runs the guest of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._actions = Actions(engine)
        self._looping = False
        self._postponed = False
        self._thread = 0
        self.interrupted_at = -1
        """Where the latest run ended with an exception; it may go on there, instrumented or not."""
        self._handlers: dict[int, Callable[[], Next]] = {
            REASON_GATE: self._actions.on_result,
            REASON_FAULT: self._on_fault,
            REASON_NATIVE_OVERFLOW: self._on_native_overflow,
        }

    @property
    def running(self) -> bool:
        """Whether the guest is under way: in the cache, in a callback, or being dispatched."""
        return self._looping or bool(self._engine.guest.words[_RUNNING])

    def check_not_running(self) -> None:
        """Raise ReentryError if this guest is running already."""
        if self.running:
            raise ReentryError("this VM is running already: use another one, or return first")

    def prepare(self) -> None:
        """Get this thread ready to run the guest."""
        thread = get_ident()
        if thread != self._thread:
            need_alternate_stack()
            self._engine.guest.prepare_thread()
            self._thread = thread

    def settle(self) -> None:
        """Make rip right after an exception came between leaving the cache and going on.

        A signal handler of Python's runs as soon as the cache is left, and may raise.
        """
        engine = self._engine
        words = engine.guest.words
        reason = words[_REASON] & 0xFFFFFFFF
        words[_REASON] = REASON_NONE
        if reason >= FIRST_EXIT:
            app, site = engine.cache.exits[reason]
            words[_RIP] = app - SYSCALL_SIZE if site == EXIT_SYSCALL else app
        elif reason == REASON_LOOKUP:
            words[_RIP] = words[_TARGET]
        elif reason == REASON_FAULT:
            guest_fault(engine)
        self.interrupted_at = words[_RIP]

    def go_on(self, reason: int, stop: int) -> None:
        """Run on after the cache was left for *reason*; see `run`."""
        if reason == REASON_REENTERED:
            self.check_not_running()
        self._loop(0, stop, 0, reason)

    def run(self, app: int, stop: int, code: int = 0) -> None:
        """Run the guest from *app* until it is about to execute *stop*.

        Args:
            code: the cache address to begin at, if it is known.

        Raises:
            ReentryError: this guest is running already.
            GuestFault: the guest did what raises a signal natively.
            BaseException: what a callback raised. In each case the guest's state is exact, and it
                can go on from there.
        """
        self.check_not_running()
        self.prepare()
        self._loop(app, stop, code, _ENTER)

    def _loop(self, app: int, stop: int, code: int, reason: int) -> None:
        engine = self._engine
        words, enter = engine.guest.words, engine.guest.enter
        entries, exits = engine.cache.entries, engine.cache.exits
        stats = engine.stats
        origin = 0  # the exit that was taken, as long as it is to be linked
        indirect = False
        in_python = True
        if reason == _ENTER:
            words[_RIP] = app
            words[_REASON] = REASON_NONE
        self._looping = True
        self.interrupted_at = -1
        try:
            while True:
                if reason == _ENTER:
                    if not code:
                        if app == stop:
                            words[_RIP] = app
                            app = self._actions.on_stop_address(stop)
                            if app == stop:
                                return
                            words[_REASON] = REASON_NONE
                            origin = 0
                            indirect = False
                        words[_RIP] = app
                        code = entries.get(app) or 0
                        if not code:
                            code = self._translate(app, origin, indirect)
                        elif origin:
                            engine.linker.link(origin, code)
                            stats.links += 1
                        elif indirect:
                            engine.linker.add_pad(app, code)
                    words[_ENTRY] = code
                    words[_REASON] = REASON_NONE
                    in_python = False
                    reason = enter()
                    in_python = True
                if reason >= FIRST_EXIT:
                    app, site = exits[reason]
                    indirect = False
                    code = 0
                    stats.direct_exits += 1
                    origin = reason
                    if site <= EXIT_DEAD:
                        origin = 0
                        if site == EXIT_SYSCALL:
                            stats.system_calls += 1
                            code = on_syscall(engine, reason)
                elif reason == REASON_LOOKUP:
                    stats.lookup_misses += 1
                    app = words[_TARGET]
                    origin = code = 0
                    indirect = True
                elif reason == REASON_RETURNED:
                    return
                else:
                    origin = 0
                    indirect = False
                    app, code = self._handlers[reason]()
                reason = _ENTER
        except StopRun:
            words[_REASON] = REASON_NONE
        except BaseException as error:
            self.settle()
            if in_python and not isinstance(error, PydbiError):
                engine.distrust()  # translation may have been interrupted anywhere
            raise
        finally:
            self._looping = False
            if self._postponed:
                self._postponed = False
                gc.enable()
            engine.after_run()

    def _translate(self, app: int, origin: int, indirect: bool) -> int:
        """Have the block at *app* translated, without looking for cyclic garbage meanwhile.

        That costs a third of the time. A run without callbacks makes no garbage of its own, so it
        is left off until its end.
        """
        if not self._postponed and gc.isenabled():
            self._postponed = True
            gc.disable()
        code = self._engine.translate(app, origin, indirect)
        if self._postponed and self._engine.instrumentation.active:
            self._postponed = False
            gc.enable()
        return code

    def _on_fault(self) -> Next:
        self._engine.stats.faults += 1
        raise guest_fault(self._engine)

    def _on_native_overflow(self) -> Next:
        drop_abandoned_excursions(self._engine.guest)
        return self._engine.guest.words[SLOT["NATIVE_TARGET"] >> 3], 0
