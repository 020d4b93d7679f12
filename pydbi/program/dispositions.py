"""What is done with signals while a program runs.

A handler of the guest's is called translated (`pydbi.jit.guest_signals`). A signal that would end
the guest ends its run, not Python. Handlers of Python's own stay in force for signals that the
guest leaves alone, unless the process is there for the program only.
"""

from __future__ import annotations

import ctypes
import threading
from signal import (
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGPIPE,
    SIGSTOP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGURG,
    SIGWINCH,
    SIGXFSZ,
    getsignal,
)

from pydbi.host.libc import syscall
from pydbi.jit.dispositions import KERNEL_FLAGS, SIG_DFL, SIG_IGN, Action, Dispositions
from pydbi.jit.signals import FAULTS, SYS_RT_SIGACTION, install, kick_signal
from pydbi.jit.stubs import ACTION_SIZE, stubs
from pydbi.program.ending import Ending

_SIG_SETMASK, _SYS_RT_SIGPROCMASK, _SYS_RT_SIGPENDING, _SYS_KILL = 2, 14, 127, 62
_PYTHON_IGNORES = (SIGPIPE, SIGXFSZ)
"""What Python ignores from its start, and no program expects to be ignored."""
_STOPS = (SIGTSTP, SIGTTIN, SIGTTOU)
_UNCATCHABLE = (SIGKILL, SIGSTOP)
_HARMLESS = (SIGCHLD, SIGCONT, SIGURG, SIGWINCH)
_FIRST_REAL_TIME, _END = 32, 65


class ProgramDispositions(Dispositions):
    """Those of one program.

    Args:
        own_process: whether the process is there for the program only.
    """

    def __init__(self, ending: Ending, own_process: bool) -> None:
        self._ending = ending
        self._own_process = own_process
        self._actions: dict[int, Action] = {}
        self._hosts: dict[int, Action] = {}
        self._pythons: set[int] = set()
        """The signals that Python has a handler for, written in Python."""
        self._host_mask = 0
        self._guest_mask: int | None = None
        self._engines = (*FAULTS, kick_signal())

    def get(self, signal: int) -> Action:
        return self._actions.get(signal, Action())

    def is_guests(self, signal: int) -> bool:
        return signal in self._actions

    def set(self, signal: int, action: Action) -> None:
        self._actions[signal] = action
        self._apply(signal, action)

    def _apply(self, signal: int, action: Action) -> None:
        """Tell the kernel."""
        if signal in self._engines:
            return  # the engine's own handler stays, and asks for the guest's
        flags = action.flags & KERNEL_FLAGS
        if action.calls:
            install("guest_handler", signal, flags)
        elif action.handler == SIG_IGN:
            _set_kernel_action(signal, Action(SIG_IGN, flags))
        elif signal in self._pythons and not self._own_process:
            host = self._hosts[signal]
            _host_action(signal, host)
            install("host_handler", signal, host.flags & KERNEL_FLAGS)
        elif signal in (*_STOPS, *_HARMLESS):
            _set_kernel_action(signal, Action(SIG_DFL, flags))
        else:
            install("guest_handler", signal, 0)

    def on_default(self, signal: int, info: bytes) -> None:
        if signal in _STOPS:
            syscall(_SYS_KILL, 0, SIGSTOP)
        elif signal not in _HARMLESS:
            self._ending.come(-signal)

    # A run: the process's dispositions become the guest's, and go back.

    def begin(self, context: int) -> None:
        """Put the guest's dispositions in force.

        Args:
            context: address of that of the guest that this thread is about to run.
        """
        self.note_thread(context)
        if self._hosts:  # the process is the program's, and has been all the time
            return
        self._host_mask = _set_mask(self._guest_mask)
        for signal in range(1, _END):
            if signal in _UNCATCHABLE or signal in self._engines:
                continue
            host = _kernel_action(signal)
            self._hosts[signal] = host
            if callable(getsignal(signal)):
                self._pythons.add(signal)
            action = self._actions.get(signal)
            if action is None and host.handler == SIG_IGN and signal not in _PYTHON_IGNORES:
                action = self._actions[signal] = Action(SIG_IGN)
            if action is not None or signal < _FIRST_REAL_TIME or host.calls:
                self._apply(signal, action or Action())

    def note_thread(self, context: int) -> None:
        """Have signals that another thread gets sent on to this one, which runs that guest."""
        stubs().guest_actions[1] = context
        stubs().guest_actions[0] = threading.get_native_id()

    def on_exec(self) -> None:
        """Another program begins: what was handled is not any more; what was ignored still is."""
        for signal, action in list(self._actions.items()):
            if action.handler != SIG_IGN:
                del self._actions[signal]
                self._apply(signal, Action())

    def take_process(self, context: int) -> None:
        """In a forked child: this process is there for the program only."""
        self._own_process = True
        self.note_thread(context)
        for signal in self._pythons - self._actions.keys():
            self._apply(signal, Action())

    def end(self) -> None:
        """Put back what was in force before, unless the process is the program's."""
        if self._own_process:
            return
        stubs().guest_actions[0] = 0
        self._guest_mask = _set_mask(None)
        pending = _pending()
        for signal, host in self._hosts.items():
            if pending >> signal - 1 & 1:  # for the guest: ignoring it makes the kernel drop it
                _set_kernel_action(signal, Action(SIG_IGN))
            _set_kernel_action(signal, host)
            _host_action(signal, Action())
        self._hosts.clear()
        self._pythons.clear()
        _set_mask(self._host_mask)


def _host_action(signal: int, action: Action) -> None:
    place = ctypes.addressof(stubs().host_actions) + signal * ACTION_SIZE
    ctypes.memmove(place, action.pack(), ACTION_SIZE)


def _kernel_action(signal: int) -> Action:
    content = ctypes.create_string_buffer(ACTION_SIZE)
    syscall(SYS_RT_SIGACTION, signal, 0, ctypes.addressof(content), 8)
    return Action.unpack(content.raw)


def _set_kernel_action(signal: int, action: Action) -> None:
    content = ctypes.create_string_buffer(action.pack(), ACTION_SIZE)
    syscall(SYS_RT_SIGACTION, signal, ctypes.addressof(content), 0, 8)


def _pending() -> int:
    """Return the signals that wait until they are no longer blocked, a bit each."""
    result = ctypes.c_uint64()
    syscall(_SYS_RT_SIGPENDING, ctypes.addressof(result), 8)
    return result.value


def _set_mask(mask: int | None) -> int:
    """Set the blocked signals of this thread, if *mask* is given; return what they were."""
    words = (ctypes.c_uint64 * 2)(mask or 0)
    address = ctypes.addressof(words)
    given = 0 if mask is None else address
    syscall(_SYS_RT_SIGPROCMASK, _SIG_SETMASK, given, address + 8, 8)
    return words[1]
