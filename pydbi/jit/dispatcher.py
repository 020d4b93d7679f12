"""The run loop: enter the cache, see why it was left, find where to go on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIGILL
from threading import get_ident, get_native_id
from typing import TYPE_CHECKING

from pydbi.errors import DecodeError, GuestFault, PydbiError, ReentryError
from pydbi.jit.actions import Actions, Next, StopRun
from pydbi.jit.cache import EXIT_DEAD, EXIT_STALE, EXIT_SYSCALL
from pydbi.jit.context import (
    FIRST_EXIT,
    GPR_OFFSET,
    REASON_FAULT,
    REASON_GATE,
    REASON_KICK,
    REASON_LOOKUP,
    REASON_NATIVE_OVERFLOW,
    REASON_NONE,
    REASON_REENTERED,
    REASON_RETURNED,
    SLOT,
)
from pydbi.jit.faults import drop_abandoned_excursions, guest_fault, leave_record, settle_fault
from pydbi.jit.kicks import Kicks
from pydbi.jit.lost_code import recover, replace_lost_code
from pydbi.jit.signals import prepare_thread
from pydbi.jit.syscalls import SYSCALL_SIZE

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.guest import Guest

_ENTRY = SLOT["ENTRY"] >> 3
_TARGET = SLOT["TARGET"] >> 3
_RIP = GPR_OFFSET["rip"] >> 3
_INSIDE, _OUTSIDE = SLOT["INSIDE"] >> 3, SLOT["OUTSIDE"] >> 3
_REASON = SLOT["REASON"] >> 3
_STOP_REQUEST = SLOT["STOP_REQUEST"] >> 3
_STEPPING = SLOT["STEPPING"] >> 3
_RUNNING, _ACTIVE = SLOT["RUNNING"] >> 3, SLOT["ACTIVE"] >> 3
_PENDING = SLOT["PENDING"] >> 3
_ILL_ILLOPN = 2
_ENTER = -1
"""In place of a reason to have left the cache: it is to be entered."""


class Dispatcher:
    """Runs a thread of an engine's guest."""

    def __init__(self, engine: Engine, guest: Guest) -> None:
        self._engine = engine
        self._guest = guest
        self._actions = Actions(engine)
        self._kicks = Kicks(engine)
        self._looping = False
        self._postponed = False
        self._thread = self._native_thread = 0
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
        return self._looping or bool(self._guest.words[_RUNNING])

    def check_not_running(self) -> None:
        """Raise ReentryError if this guest is running already."""
        if self.running:
            raise ReentryError("this VM is running already: use another one, or return first")

    def prepare(self) -> None:
        """Get this thread ready to run the guest."""
        thread = get_ident()
        if thread != self._thread:
            prepare_thread()
            self._engine.guest.prepare_thread()
            self._thread = thread
            self._native_thread = get_native_id()

    def stop(self) -> None:
        """Let the run that is under way, on whatever thread, stop at the next boundary."""
        if self.running:
            self._kicks.request_stop(self._native_thread)

    @contextmanager
    def limited(self, timeout: float) -> Iterator[None]:
        """Let what is run inside end with GuestTimeout after *timeout* seconds."""
        self.check_not_running()
        self._kicks.begin(timeout)
        try:
            yield
        finally:
            self._kicks.end()

    def call_on_kicks(self, callback: Callable[[], object]) -> None:
        """Call *callback* when a kick has brought this thread's guest to an instruction boundary.

        That is every few milliseconds of computing. What it raises ends the run.
        """
        self._kicks.on_kick = callback

    def forget_thread(self) -> None:
        """Prepare the thread that next runs the guest, whichever it is."""
        self._thread = 0
        self._engine.guest.words[SLOT["THREAD"] >> 3] = 0

    def settle(self) -> None:
        """Make rip right after an exception came between leaving the cache and going on.

        A signal handler of Python's runs as soon as the cache is left, and may raise.
        """
        engine = self._engine
        words = engine.guest.words
        reason = words[_REASON] & 0xFFFFFFFF
        if reason == REASON_NONE and words[_STEPPING]:
            reason = REASON_KICK  # it was to be stepped to a boundary, and did not begin
        words[_REASON] = REASON_NONE
        words[_STEPPING] = 0
        if reason >= FIRST_EXIT:
            app, site = engine.cache.exits[reason]
            words[_RIP] = app - SYSCALL_SIZE if site == EXIT_SYSCALL else app
        elif reason == REASON_LOOKUP:
            words[_RIP] = words[_TARGET]
        elif reason == REASON_FAULT:
            guest_fault(engine)
        elif reason == REASON_KICK:
            reason, _ = self._kicks.reach_boundary()
            if reason != REASON_KICK:
                self.settle()
                return
        self.interrupted_at = words[_RIP]

    def go_on(self, reason: int, stop: int) -> None:
        """Run on after the cache was left for *reason*; see `run`."""
        if reason == REASON_REENTERED:
            self.check_not_running()
        self._loop(0, stop, reason)

    def run(self, app: int, stop: int) -> bool:
        """Run the guest from *app* until it is about to execute *stop*.

        Returns:
            False if a callback stopped it at the very beginning, on entry into the first block.

        Raises:
            ReentryError: this guest is running already.
            GuestFault: the guest did what raises a signal natively.
            BaseException: what a callback raised. In each case the guest's state is exact, and it
                can go on from there.
        """
        self.check_not_running()
        self.prepare()
        return self._loop(app, stop, _ENTER)

    def _loop(self, app: int, stop: int, reason: int) -> bool:
        engine = self._engine
        words, enter = engine.guest.words, engine.guest.enter
        entries, exits = engine.cache.entries, engine.cache.exits
        stats = engine.stats
        origin = 0  # the exit that was taken, as long as it is to be linked
        indirect = False
        in_python = True
        kicked = False  # and the guest has left the cache before it has come to a boundary
        started = reason != _ENTER
        code = 0
        if not started:
            words[_STOP_REQUEST] = 0
            words[_RIP] = app
            words[_REASON] = REASON_NONE
            if engine.instruments.transfers:
                words[_INSIDE] = app in engine.ranges
                words[_OUTSIDE] = not words[_INSIDE]
        words[_ACTIVE] = 1
        words[_STEPPING] = 0
        self._looping = True
        self.interrupted_at = -1
        try:
            while True:
                if reason == _ENTER:
                    if kicked:
                        kicked = False
                        words[_RIP] = app
                        words[_REASON] = REASON_NONE
                        self._kicks.check(app)
                    if not code:
                        if app == stop:
                            words[_RIP] = app
                            falls = not started or origin in engine.cache.cut_exits
                            started = True
                            app = self._come_back(stop)
                            if app == stop and falls:
                                app = self._actions.on_stop_address(stop)
                            if app == stop:
                                return True
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
                        if engine.translator.fresh is not None or not started:
                            in_python = False
                            app, code = self._announce(app, code)
                            if not code:
                                origin = 0
                                indirect = False
                                continue
                    words[_ENTRY] = code
                    words[_REASON] = REASON_NONE
                    in_python = False
                    started = True
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
                            words[_RIP] = app - SYSCALL_SIZE
                            words[_REASON] = REASON_NONE
                            self._kicks.forget_call()
                            app, code = engine.system_calls.on_exit(reason)
                            enter = engine.guest.enter  # another one, if it has made a thread
                            kicked = self._kicks.is_wanted()  # it may have come meanwhile
                        elif site == EXIT_STALE:
                            engine.invalidation.drop_stale(app)
                        else:  # a system call that a signal has interrupted, or a dead block's end
                            code = engine.cache.syscall_resumes.get(reason - 1, 0)
                elif reason == REASON_LOOKUP:
                    stats.lookup_misses += 1
                    if engine.cache.mapped_twice:  # it may have returned from fork
                        replace_lost_code(engine)
                    app = words[_TARGET]
                    origin = code = 0
                    indirect = True
                elif reason == REASON_KICK:
                    reason, code = self._kicks.reach_boundary()
                    if reason != REASON_KICK:
                        kicked = True
                        continue
                    app = words[_RIP]
                    origin = 0
                    indirect = False
                    self._kicks.check(app)
                    if engine.sharing.active and engine.sharing.stops:
                        engine.sharing.park()
                        code = 0
                    if words[_PENDING]:
                        if self._kicks.interrupts_call and engine.signals.end_calls():
                            app, code = self._kicks.end_call(code)
                        else:
                            engine.signals.deliver()
                            if words[_RIP] != app:
                                app, code = words[_RIP], 0
                elif reason == REASON_RETURNED:
                    return True
                else:
                    origin = 0
                    indirect = False
                    app, code = self._handlers[reason]()
                reason = _ENTER
        except StopRun:
            words[_REASON] = REASON_NONE
            return started
        except BaseException as error:
            self.settle()
            if in_python and not isinstance(error, PydbiError):
                engine.invalidation.distrust()  # translation may have been interrupted anywhere
            raise
        finally:
            self._looping = False
            self.end_activity()
            if self._postponed:
                self._postponed = False
                gc.enable()
            engine.after_run()

    def end_activity(self) -> None:
        """Signals have nothing to do with this guest any more, as far as it is not running."""
        words = self._engine.guest.words
        words[_ACTIVE] = 0
        if words[_PENDING]:
            self._engine.signals.release()

    def _translate(self, app: int, origin: int, indirect: bool) -> int:
        """Have the block at *app* translated, without looking for cyclic garbage meanwhile.

        That costs a third of the time. A run without callbacks makes no garbage of its own, so it
        is left off until its end.
        """
        if not self._postponed and gc.isenabled():
            self._postponed = True
            gc.disable()
        try:
            code = self._engine.translate(app, origin, indirect)
        except (GuestFault, DecodeError) as error:
            code = self._on_fetch_fault(error)
        if self._postponed and self._engine.instruments.calls_back:
            self._postponed = False
            gc.enable()
        return code

    def _come_back(self, app: int) -> int:
        """Report that execution comes back into the ranges at *app*, if so; return where to go."""
        words = self._engine.guest.words
        if not self._engine.instruments.transfers or not words[_OUTSIDE]:
            return app
        words[_INSIDE], words[_OUTSIDE] = 1, 0
        words[_RIP] = app
        self._actions.on_return()
        return words[_RIP]

    def _announce(self, app: int, code: int) -> Next:
        """Report that the block at *app* is entered, if that is not left to its gates.

        It is not if the block is new, or the first of the run. Returns where to go on.
        """
        engine = self._engine
        fresh, engine.translator.fresh = engine.translator.fresh, None
        words = engine.guest.words
        words[_REASON] = REASON_NONE
        if fresh is not None:
            target = self._come_back(app)
            if target != app:
                return target, 0
            return self._actions.on_entry(*fresh)
        if app in engine.cache.bodies:
            return self._actions.on_entry(app, *engine.cache.bodies[app])
        return app, code

    def _on_fault(self) -> Next:
        engine = self._engine
        app = recover(engine)
        if app:
            return app, 0
        behind_record = leave_record(engine)
        if behind_record is not None:
            return behind_record
        engine.stats.faults += 1
        if engine.signals.deliver_fault(*settle_fault(engine)):
            return engine.guest.words[_RIP], 0
        raise guest_fault(engine)

    def _on_fetch_fault(self, error: GuestFault | DecodeError) -> int:
        """Let the guest handle that there is no code at rip; return the code of its handler."""
        engine = self._engine
        if isinstance(error, GuestFault):
            what = error.signal, error.si_code, error.fault_address
        else:
            what = SIGILL, _ILL_ILLOPN, error.app_address or 0
        if not engine.signals.deliver_fault(*what):
            raise error
        return engine.translate(engine.guest.words[_RIP])

    def _on_native_overflow(self) -> Next:
        drop_abandoned_excursions(self._engine.guest)
        return self._engine.guest.words[SLOT["NATIVE_TARGET"] >> 3], 0
