"""Importing parts of pydbi while a guest runs, when they are first needed.

A Python signal handler may raise at any time, and CPython's importer takes an OSError (TimeoutError
and InterruptedError are some) for a file that is not there: the exception would be lost, and the
guest would run on for ever. So handlers wait until the import is done.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals wait meanwhile; their handlers run at the end.

    Only a signal that another thread takes for this one interrupts.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        # This runs handlers when it has blocked them, and raises what one of them raises.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def load(module: str) -> ModuleType:
    """Return the module of this name; it is imported `undisturbed`, unless that was done before."""
    if module not in sys.modules:
        with undisturbed():
            __import__(module)
    return sys.modules[module]
