"""Signal handlers: guest faults, and kicks, which make the guest leave the cache.

Python's own signal handlers, its other threads, a timeout and `VM.stop` all need the interpreter,
which does not get to run while linked blocks do. So each thread that runs a guest has a timer on
its own processor time: every few milliseconds of computing it sends a *kick*, a signal of ours,
whose handler makes translated code leave for Python (``faults.S``). Who does not compute is not
disturbed, unless several threads run guests.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from contextlib import suppress
from functools import cache
from signal import SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP

from pydbi.host.libc import libc, syscall
from pydbi.host.memory import map_memory, unmap_memory
from pydbi.jit.stubs import ACTION_SIZE, stubs

FAULTS = (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP)
WAITING_TICK = 10_000_000
"""Nanoseconds between kicks of a guest that waits, where several threads run guests."""
TICK = 5_000_000
"""Nanoseconds of processor time between kicks: CPython's own switch interval."""

SYS_RT_SIGACTION = 13
_SYS_RT_TGSIGQUEUEINFO = 297
_SYS_TIMER_CREATE, _SYS_TIMER_SETTIME, _SYS_TIMER_DELETE, _SYS_TGKILL = 222, 223, 226, 234
_CLOCK_MONOTONIC, _CLOCK_THREAD_CPUTIME_ID = 1, 3
_SIGEV_THREAD_ID = 4
_SA_SIGINFO, _SA_RESTORER, _SA_ONSTACK, _SA_RESTART = 4, 0x04000000, 0x08000000, 0x10000000
_SS_DISABLE = 2
_ALTERNATE_STACK_SIZE = 1 << 16
_SECOND = 1_000_000_000
ALL_BUT_FAULTS = (1 << 64) - 1 - sum(1 << number - 1 for number in FAULTS)


class _Stack(ctypes.Structure):
    """stack_t of <bits/types/stack_t.h>."""

    _fields_ = [("sp", ctypes.c_size_t), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


class _SignalEvent(ctypes.Structure):
    """The kernel's struct sigevent, as far as SIGEV_THREAD_ID uses it."""

    _fields_ = [
        ("value", ctypes.c_uint64),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("_padding", ctypes.c_uint8 * 44),
    ]


@cache
def install_handlers() -> None:
    """Put the fault handler before whatever handles these signals now, and install the kick's.

    The fault handler passes on what is not its own. The kernel's call itself is used: libc's would
    not let the handler run on its own restorer, and what was there before must be kept exactly as
    the kernel gives it.
    """
    previous = ctypes.addressof(stubs().previous_actions)
    for number in FAULTS:
        install("fault_handler", number, 0, previous + number * ACTION_SIZE)
    install("kick_handler", kick_signal(), _SA_RESTART)


def install(handler: str, number: int, more_flags: int, previous: int = 0) -> None:
    """Install a handler stub for a signal.

    While it runs other signals wait: what a handler changes in the mask of blocked signals, where
    it has interrupted another one, would be undone by that one's return.

    Args:
        handler: the stub's name.
        more_flags: of the kernel's struct sigaction.
        previous: address at which to store the action that was there before, or 0.
    """
    table = stubs()
    flags = _SA_SIGINFO | _SA_ONSTACK | _SA_RESTORER | more_flags
    stub, restorer = table.find(f"{handler}_{table.base}"), table.find("signal_restorer")
    action = (ctypes.c_uint64 * 4)(stub, flags, restorer, ALL_BUT_FAULTS)
    syscall(SYS_RT_SIGACTION, number, ctypes.addressof(action), previous, 8)


@cache
def kick_signal() -> int:
    """Return the number of the signal that kicks: a real-time signal that nobody handles."""
    action = (ctypes.c_uint64 * 4)()
    for number in range(signal.SIGRTMAX - 4, signal.SIGRTMIN, -1):
        syscall(SYS_RT_SIGACTION, number, 0, ctypes.addressof(action), 8)
        if not action[0]:
            return number
    raise OSError("every real-time signal has a handler already: pydbi needs one")


_threads = threading.local()


class _ThreadKicks:
    """What kicks a thread that runs guests, until the thread ends."""

    def __init__(self) -> None:
        self._thread = threading.get_native_id()
        self._computing = KickTimer(_CLOCK_THREAD_CPUTIME_ID)
        self._computing.start(TICK, TICK)
        self._waiting: KickTimer | None = None

    def while_waiting(self, wanted: bool) -> None:
        """Kick the thread by the clock too, or no longer."""
        if not wanted:
            self._waiting = None
        elif self._waiting is None:
            with suppress(OSError):  # the thread has just ended
                timer = KickTimer(thread=self._thread)
                timer.start(WAITING_TICK, WAITING_TICK)
                self._waiting = timer


class GuestThreads:
    """The threads that have run a guest.

    A guest waits with the interpreter's lock. What it waits for may be another thread that wants
    that: one whose guest holds a lock of libc, say. So where there are several threads, or
    `may_start_elsewhere` is set, they are kicked while they wait.
    """

    def __init__(self) -> None:
        self._kicks: list[_ThreadKicks] = []
        self._elsewhere = False

    def may_start_elsewhere(self, yes: bool) -> None:
        """Say whether threads that have not run a guest yet may come to do so by themselves."""
        self._elsewhere = yes
        self._update()

    def add(self, kicks: _ThreadKicks) -> None:
        """A thread begins to run guests."""
        self._kicks.append(kicks)
        self._update()

    def remove(self, kicks: _ThreadKicks) -> None:
        """A thread has ended."""
        kicks.while_waiting(False)
        if kicks in self._kicks:
            self._kicks.remove(kicks)
            self._update()

    def forget_all(self) -> None:
        """A forked process has none of the others, and no timers."""
        self._kicks.clear()

    def _update(self) -> None:
        wanted = self._elsewhere or len(self._kicks) > 1
        for kicks in list(self._kicks):  # others may come and go meanwhile
            kicks.while_waiting(wanted)


guest_threads = GuestThreads()


class _ThreadEnd:
    """Ends a thread's kicks when the thread's local data goes."""

    _kicks: _ThreadKicks | None = None

    def __init__(self) -> None:
        self._kicks = _ThreadKicks()
        guest_threads.add(self._kicks)

    def __del__(self) -> None:
        # Python may be ending, or a signal handler have raised while this was made.
        if guest_threads is not None and self._kicks is not None:
            guest_threads.remove(self._kicks)


class _AlternateStack:
    """A stack for signal handlers of the thread that makes it, as long as that lives."""

    def __init__(self) -> None:
        self.thread = threading.get_native_id()
        self._memory = map_memory(_ALTERNATE_STACK_SIZE)
        wanted = _Stack(self._memory, 0, _ALTERNATE_STACK_SIZE)
        libc.sigaltstack(ctypes.addressof(wanted), 0)

    def close(self) -> None:
        """Take it back. To be called on its thread: from others, nothing is done."""
        if self._memory and threading.get_native_id() == self.thread:
            nothing = _Stack(0, _SS_DISABLE, 0)
            libc.sigaltstack(ctypes.addressof(nothing), 0)
            unmap_memory(self._memory, _ALTERNATE_STACK_SIZE)
            self._memory = 0

    def __del__(self) -> None:
        if guest_threads is not None:  # Python is not ending
            self.close()


def prepare_thread(*, ticks: bool = True) -> None:
    """Give this thread a stack for signal handlers, and kicks while it computes, if *ticks*.

    Both are taken back when Python forgets the thread: where C has started it, that is at the end
    of the outermost call from there.
    """
    if getattr(_threads, "end", None) is not None:
        return
    current = _Stack()
    libc.sigaltstack(0, ctypes.addressof(current))
    if current.flags & _SS_DISABLE or current.size < _ALTERNATE_STACK_SIZE:
        _threads.stack = _AlternateStack()
    _threads.end = _ThreadEnd() if ticks else ()


def leave_thread() -> None:
    """Take back what `prepare_thread` has given this thread, which is about to end."""
    stack = getattr(_threads, "stack", None)
    if stack is not None:
        stack.close()


def _prepare_forked_child() -> None:
    guest_threads.forget_all()
    stack = getattr(_threads, "stack", None)
    if stack is not None:
        stack.thread = threading.get_native_id()
    if getattr(_threads, "end", None) is not None:  # a child has no timers
        _threads.end = None
        prepare_thread()


os.register_at_fork(after_in_child=_prepare_forked_child)


class KickTimer:
    """A timer that kicks a thread: by default the one that makes it."""

    def __init__(self, clock: int = _CLOCK_MONOTONIC, thread: int = 0) -> None:
        thread = thread or threading.get_native_id()
        self._process = 0  # it has not been made yet
        event = _SignalEvent(0, kick_signal(), _SIGEV_THREAD_ID, thread)
        identity = ctypes.c_int()
        syscall(_SYS_TIMER_CREATE, clock, ctypes.addressof(event), ctypes.addressof(identity), 0, 0)
        self._identity = identity.value
        self._process = os.getpid()  # a forked child has no timers

    def start(self, first: int, then: int) -> None:
        """Kick after *first* nanoseconds, and every *then* from there on (0: never again)."""
        times = (ctypes.c_int64 * 4)(*divmod(then, _SECOND), *divmod(first, _SECOND))
        syscall(_SYS_TIMER_SETTIME, self._identity, 0, ctypes.addressof(times), 0, 0)

    def __del__(self) -> None:
        if self._process == os.getpid():
            syscall(_SYS_TIMER_DELETE, self._identity, 0, 0, 0, 0)


def kick(thread: int) -> None:
    """Kick the guest that runs on the thread with this kernel id, if one does."""
    with suppress(ProcessLookupError):  # the thread has ended meanwhile
        syscall(_SYS_TGKILL, os.getpid(), thread, kick_signal(), 0, 0)


def queue(number: int, info: int) -> None:
    """Send this thread a signal that has come already once; *info* is the siginfo_t's address."""
    syscall(_SYS_RT_TGSIGQUEUEINFO, os.getpid(), threading.get_native_id(), number, info)
