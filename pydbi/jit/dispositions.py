"""What is to be done with each signal, as a guest has told the kernel."""

from __future__ import annotations

import ctypes
import struct
from abc import ABC, abstractmethod
from functools import cache

from pydbi.host.libc import syscall
from pydbi.jit.broker import broker
from pydbi.jit.signals import FAULTS, SYS_RT_SIGACTION, install, kick_signal, queue
from pydbi.jit.stubs import ACTION_SIZE, stubs
from pydbi.tuples import NamedTuple

SIG_DFL, SIG_IGN = 0, 1
_SA_NOCLDSTOP, _SA_NOCLDWAIT, _SA_RESTART = 1, 2, 0x10000000
KERNEL_FLAGS = _SA_NOCLDSTOP | _SA_NOCLDWAIT | _SA_RESTART
"""Flags that matter to the kernel, whichever handler it calls."""
_FORM = struct.Struct("<4Q")
assert _FORM.size == ACTION_SIZE


class Action(NamedTuple):
    """The kernel's struct sigaction."""

    handler: int = SIG_DFL
    flags: int = 0
    restorer: int = 0
    mask: int = 0

    @property
    def calls(self) -> bool:
        """Whether a function is called."""
        return self.handler > SIG_IGN

    @classmethod
    def unpack(cls, content: bytes) -> Action:
        """Return what the kernel is given as *content*."""
        return cls(*_FORM.unpack(content))

    def pack(self) -> bytes:
        """Return it as the kernel gives it."""
        return _FORM.pack(*self)


class Dispositions(ABC):
    """The handlers of one guest process."""

    @abstractmethod
    def get(self, signal: int) -> Action:
        """Return what the guest sees as the action of *signal*."""

    @abstractmethod
    def set(self, signal: int, action: Action) -> None:
        """Do what the guest asks for."""

    @abstractmethod
    def is_guests(self, signal: int) -> bool:
        """Whether it was the guest that has set the action of *signal*."""

    @abstractmethod
    def on_default(self, signal: int, info: bytes) -> None:
        """Do what the kernel does with *signal*, which has no handler any more."""


class LibraryDispositions(Dispositions):
    """Those of Python's own process: a handler that is not the guest's is the kernel's affair.

    A library may be run by several VMs, but signals are the process's: all share one of these.
    """

    def __init__(self) -> None:
        self._actions: dict[int, Action] = {}
        self._hosts: dict[int, Action] = {}

    def get(self, signal: int) -> Action:
        if signal in self._actions:
            return self._actions[signal]
        if signal in FAULTS:
            return Action.unpack(ctypes.string_at(_place("previous_actions", signal), ACTION_SIZE))
        content = ctypes.create_string_buffer(ACTION_SIZE)
        syscall(SYS_RT_SIGACTION, signal, 0, ctypes.addressof(content), 8)
        return Action.unpack(content.raw)

    def set(self, signal: int, action: Action) -> None:
        if signal not in self._actions:
            self._hosts[signal] = self.get(signal)
        ours = (
            action.calls
            and action.handler != self._hosts[signal].handler
            and not broker().is_native(action.handler)
        )
        if ours:
            self._actions[signal] = action
        else:
            self._actions.pop(signal, None)
        shown = action if ours else Action()
        ctypes.memmove(_place("guest_actions", signal), shown.pack(), ACTION_SIZE)
        if signal in FAULTS or signal == kick_signal():
            return  # the engine's own handler stays, and asks for the guest's
        if ours:
            install("guest_handler", signal, action.flags & KERNEL_FLAGS)
        else:
            content = (ctypes.c_uint64 * 4)(*action)
            syscall(SYS_RT_SIGACTION, signal, ctypes.addressof(content), 0, 8)

    def is_guests(self, signal: int) -> bool:
        return signal in self._actions

    def on_default(self, signal: int, info: bytes) -> None:
        content = ctypes.create_string_buffer(info)
        queue(signal, ctypes.addressof(content))


def _place(table: str, signal: int) -> int:
    return ctypes.addressof(getattr(stubs(), table)) + signal * ACTION_SIZE


@cache
def library_dispositions() -> LibraryDispositions:
    """Return what all VMs share that run libraries."""
    return LibraryDispositions()
