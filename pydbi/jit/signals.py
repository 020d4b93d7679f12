"""Guest faults: the signal handler stub, and what it left in the context."""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from signal import SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP

from pydbi.host.libc import libc, syscall
from pydbi.host.memory import map_memory
from pydbi.jit.stubs import ACTION_SIZE, stubs

FAULTS = (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP)

_SYS_RT_SIGACTION = 13
_SA_SIGINFO, _SA_RESTORER, _SA_ONSTACK = 4, 0x04000000, 0x08000000
_SS_DISABLE = 2
_ALTERNATE_STACK_SIZE = 1 << 16


class _Stack(ctypes.Structure):
    """stack_t of <bits/types/stack_t.h>."""

    _fields_ = [("sp", ctypes.c_size_t), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@cache
def install_fault_handler() -> None:
    """Put the fault handler before whatever handles these signals now; it passes on the rest.

    The kernel's call itself is used: libc's would not let the handler run on its own restorer,
    and what was there before must be kept exactly as the kernel gives it.
    """
    table = stubs()
    flags = _SA_SIGINFO | _SA_ONSTACK | _SA_RESTORER
    action = (ctypes.c_uint64 * 4)(
        table.find(f"fault_handler_{table.base}"), flags, table.find("signal_restorer"), 0
    )
    for number in FAULTS:
        previous = ctypes.addressof(table.previous_actions) + number * ACTION_SIZE
        syscall(_SYS_RT_SIGACTION, number, ctypes.addressof(action), previous, 8)


_threads = threading.local()


def need_alternate_stack() -> None:
    """Give this thread a stack for signal handlers: the guest's may be anywhere, or full."""
    if getattr(_threads, "ready", False):
        return
    current = _Stack()
    libc.sigaltstack(0, ctypes.addressof(current))
    if current.flags & _SS_DISABLE or current.size < _ALTERNATE_STACK_SIZE:
        memory = map_memory(_ALTERNATE_STACK_SIZE)
        wanted = _Stack(memory, 0, _ALTERNATE_STACK_SIZE)
        libc.sigaltstack(ctypes.addressof(wanted), 0)
    _threads.ready = True
