"""Several threads of one guest: one cache, one Python.

Each thread has a context and a dispatcher of its own, and runs on a Python thread. While it is in
the cache it holds nothing. In Python it holds the engine's lock, so one thread at a time
translates, links and is called back; the engine's `guest` and `dispatcher` are then its own.

What is changed while others may execute it is changed at one stroke: a displacement within a cache
line, a word of a table. Code is used again only while everybody else is out of the cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydbi.jit.actions import StopRun
from pydbi.jit.context import REASON_KICK, SLOT
from pydbi.jit.dispatcher import Dispatcher
from pydbi.jit.guest import Guest
from pydbi.jit.signals import kick

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

_RUNNING = SLOT["RUNNING"] >> 3
_STEPPING, _FAULT_PC = SLOT["STEPPING"] >> 3, SLOT["FAULT_PC"] >> 3
_ENTRY, _REASON = SLOT["ENTRY"] >> 3, SLOT["REASON"] >> 3
_INTERRUPTED_REASON = SLOT["INTERRUPTED_REASON"] >> 3
_SHARES_PYTHON = SLOT["SHARES_PYTHON"] >> 3
_MOMENT = 0.001
"""Seconds between kicks of who is still in the cache."""


class GuestThread:
    """A thread of a guest.

    Attributes:
        identity: the kernel's id of the thread it runs on.
        parked: whether it is at an instruction boundary, and knows no cache address.
        waits: whether it is in a system call that Python makes for it.
        over: whether it has nothing to execute any more.
    """

    def __init__(self, guest: Guest, dispatcher: Dispatcher, identity: int) -> None:
        self.guest = guest
        self.dispatcher = dispatcher
        self.identity = identity
        self.over = self.waits = False
        self.parked = True

    @property
    def is_inside(self) -> bool:
        """Whether it is in the cache, or in a callback that returns there."""
        return bool(self.guest.words[_RUNNING])


class Sharing:
    """The threads of a guest, and the lock that they hold in Python.

    Attributes:
        threads: those that there are; the first is the one that `Engine.run` runs.
        active: whether there has ever been a second one.
        ended: the guest has ended; no thread may go on.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        main = GuestThread(engine.guest, engine.dispatcher, 0)
        self.threads = [main]
        self.active = self.ended = False
        self._changed = threading.Condition(threading.RLock())
        self._stopper: GuestThread | None = None
        """Who needs the others to be at instruction boundaries, out of the cache."""
        self._wishes: list[BaseException] = []
        """What the first thread is to raise: callbacks of others have raised it, or ask to stop."""

    @property
    def main(self) -> GuestThread:
        """The thread that `Engine.run` runs."""
        return self.threads[0]

    @property
    def current(self) -> GuestThread:
        """The thread that is in Python."""
        guest = self._engine.guest
        return next(thread for thread in self.threads if thread.guest is guest)

    # Making threads.

    def begin(self, identity: int) -> None:
        """Get ready for a second thread; the first one, whose kernel id is given, is in Python."""
        if self.active:
            return
        engine = self._engine
        self._changed.acquire()
        self.main.identity = identity
        engine.invalidation.reset()  # blocks made so far may be changed where others would execute
        engine.translator.share()
        engine.linker.shared = True
        engine.lookup.keeps_tables = True
        self.active = True
        self._wrap(self.main)

    def add(self) -> GuestThread:
        """Make a thread whose registers are a copy of the current one's."""
        engine = self._engine
        guest = Guest()
        guest.copy_state(engine.guest)
        engine.add_guest(guest)
        thread = GuestThread(guest, Dispatcher(engine, guest), 0)
        self._wrap(thread)
        self.threads.append(thread)
        return thread

    def remove(self, thread: GuestThread) -> None:
        """Forget a thread that is over. If the guest has ended, see that the first one knows."""
        thread.parked = True
        while self.ended and thread is not self.main and self.main.is_inside:
            self.call_out(self.main)
            self._changed.wait(_MOMENT)
        self.threads.remove(thread)
        self._engine.remove_guest(thread.guest)
        self._changed.notify_all()

    def _wrap(self, thread: GuestThread) -> None:
        """Let a thread hold the lock in Python, and neither it nor the interpreter's elsewhere."""
        enter = thread.guest.enter

        words = thread.guest.words

        def enter_unlocked() -> int:
            if self._must_park(thread) and not words[_STEPPING]:
                # As if a kick had come at once: it is to go to a boundary, and park there.
                words[_FAULT_PC], words[_INTERRUPTED_REASON] = words[_ENTRY], words[_REASON]
                words[_REASON] = REASON_KICK
                return REASON_KICK
            self.release()
            try:
                return enter()
            finally:
                self.acquire(thread)

        thread.guest.enter = enter_unlocked
        thread.guest.words[_SHARES_PYTHON] = 1
        self._engine.vectors.attach(thread.guest, self._through(thread))

    def _through(self, thread: GuestThread) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return what makes a callback one that the gates of *thread* can call."""

        def through(callback: Callable[..., Any]) -> Callable[..., Any]:
            def locked(*arguments: Any) -> Any:
                with self._changed:
                    self._attach(thread)
                    return callback(*arguments)

            return locked

        return through

    # The lock.

    def acquire(self, thread: GuestThread) -> None:
        """Come from the cache into Python.

        Raises:
            StopRun: the guest has ended.
        """
        self._changed.acquire()
        thread.parked = False
        self._attach(thread)
        self._leave_if_ended(thread)

    def _leave_if_ended(self, thread: GuestThread) -> None:
        if self.ended:
            thread.over = True
            raise self._wishes.pop(0) if self._wishes and thread is self.main else StopRun

    def _must_park(self, thread: GuestThread) -> bool:
        if self._wishes and thread is self.main:
            return True
        return self._stopper is not None and self._stopper is not thread

    @property
    def stops(self) -> bool:
        """Whether the current thread is to park."""
        return self._must_park(self.current)

    def park(self) -> None:
        """Wait, at an instruction boundary, until the others may go on.

        Raises:
            StopRun: the guest has ended, or is to stop.
            BaseException: what another thread's callback has raised, if this is the first.
        """
        thread = self.current
        thread.parked = True
        self._changed.notify_all()
        while self._stopper not in (None, thread) and not self.ended:
            self._changed.wait()
        thread.parked = False
        self._attach(thread)
        if self._wishes and thread is self.main:
            raise self._wishes.pop(0)
        self._leave_if_ended(thread)

    def wish(self, error: BaseException) -> None:
        """Have the first thread raise *error* as soon as it is in Python."""
        self._wishes.append(error)

    def release(self) -> None:
        """Leave Python for the cache, or for a call that may take long."""
        self._changed.release()

    @contextmanager
    def unlocked(self) -> Iterator[None]:
        """Within, the current thread waits for something else than the lock."""
        if not self.active:
            yield
            return
        thread = self.current
        thread.waits = True
        self.release()
        try:
            yield
        finally:
            thread.waits = False
            self.acquire(thread)

    def _attach(self, thread: GuestThread) -> None:
        self._engine.attach(thread.guest, thread.dispatcher)

    # Stopping the others.

    def stop_others(self) -> None:
        """Wait until all others have parked; they stay so until `let_go`."""
        thread = self.current
        while self._stopper not in (None, thread):
            self.park()
        self._stopper = thread
        while any(not other.parked for other in self.threads if other is not thread):
            self._kick_others(thread)
            self._changed.wait(_MOMENT)
        self._attach(thread)

    def let_go(self) -> None:
        """Let the others go on."""
        self._stopper = None
        self._changed.notify_all()

    def _kick_others(self, thread: GuestThread) -> None:
        """Kick who is in the cache, or in a system call, beside *thread*."""
        for other in self.threads:
            if other is not thread and other.identity and (other.is_inside or other.waits):
                kick(other.identity)

    def pause(self) -> None:
        """The first thread's run is over for now: let the others wait for the next."""
        if self.active and not self.ended:
            self._attach(self.main)
            self.stop_others()
            self.main.parked = True

    def resume(self) -> None:
        """The first thread runs again."""
        if self.active:
            self._attach(self.main)
            self.main.parked = False
            self.let_go()

    def report(self, thread: GuestThread, error: BaseException | None) -> None:
        """Have the first thread raise *error*, or stop; then wait until it runs again."""
        wish = error or StopRun()
        self.wish(wish)
        thread.parked = True
        while wish in self._wishes and not self.ended:
            self.call_out(self.main)
            self._changed.notify_all()
            self._changed.wait(_MOMENT)
        while self._stopper is not None and not self.ended:
            self._changed.wait()
        thread.parked = False
        self._attach(thread)
        thread.over = thread.over or self.ended

    def call_out(self, thread: GuestThread) -> None:
        """Have a thread come into Python soon; to be called again until it is there."""
        if thread.is_inside or thread.waits:
            kick(thread.identity)

    def end(self) -> None:
        """Have all threads end."""
        self.ended = True
        self._changed.notify_all()

    def finish(self, thread: GuestThread) -> None:
        """Wait until there is no thread but *thread*; if the guest has ended, see to it."""
        thread.parked = True
        while len(self.threads) > 1:
            if self.ended:
                self._kick_others(thread)
                self._changed.notify_all()
            self._changed.wait(_MOMENT if self.ended else None)
            if self._wishes and thread is self.main:
                raise self._wishes.pop(0)
        self._attach(thread)

    def after_fork(self) -> None:
        """In a forked child there is one thread: the one that has forked."""
        thread = self.current
        for other in self.threads:
            if other is not thread:
                self._engine.remove_guest(other.guest)
        self.threads[:] = [thread]
        self._stopper = None
        thread.identity = threading.get_native_id()
        self._wishes.clear()
        if self.active:
            self._changed = threading.Condition(threading.RLock())
            self._changed.acquire()
