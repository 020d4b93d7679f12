"""What a program tells about its process: callbacks that do not stand at an instruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pydbi.program.modules import Module

if TYPE_CHECKING:
    from pydbi.program.program import Program

_Number = TypeVar("_Number", bound="Callable[[Program, int], object]")
_Name = TypeVar("_Name", bound="Callable[[Program, str], object]")
_Any = TypeVar("_Any")
_AboutModule = TypeVar("_AboutModule", bound="Callable[[Program, Module], object]")
EVENTS = ("exit", "fork", "exec", "load", "unload", "thread_start", "thread_end")


def checked(callback: _Any) -> _Any:
    """Return *callback*; TypeError if it cannot be called."""
    if not callable(callback):
        raise TypeError(f"a callback is due, not {callback!r}")
    return callback


class Events:
    """Program's methods that register such callbacks. Each returns the callback: a decorator."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callable[[Any, Any], object]]] = {e: [] for e in EVENTS}

    def on_exit(self, callback: _Number) -> _Number:
        """Call ``callback(program, status)`` when the program has ended, forked children too."""
        self._callbacks["exit"].append(checked(callback))
        return callback

    def on_fork(self, callback: _Number) -> _Number:
        """Call ``callback(program, child)`` when the program has made a process, in both of them.

        *child* is the new process's id; in the new process it is 0.
        """
        self._callbacks["fork"].append(checked(callback))
        return callback

    def on_exec(self, callback: _Name) -> _Name:
        """Call ``callback(program, path)`` when it has become another program in this process.

        That is loaded, and has not begun.
        """
        self._callbacks["exec"].append(checked(callback))
        return callback

    def on_load(self, callback: _AboutModule) -> _AboutModule:
        """Call ``callback(program, module)`` for each file that is mapped as code.

        For the program itself and its dynamic linker, when the run begins. It comes as soon as the
        code is mapped, before the module is relocated or initialized.
        """
        self._callbacks["load"].append(checked(callback))
        return callback

    def on_unload(self, callback: _AboutModule) -> _AboutModule:
        """Call ``callback(program, module)`` when a module's code was unmapped."""
        self._callbacks["unload"].append(checked(callback))
        return callback

    def on_thread_start(self, callback: _Number) -> _Number:
        """Call ``callback(program, thread)`` when it has started a thread, with the kernel's id."""
        self._callbacks["thread_start"].append(checked(callback))
        return callback

    def on_thread_end(self, callback: _Number) -> _Number:
        """Call ``callback(program, thread)`` when a thread ends, on that thread.

        The first thread is told of only if it ends before the others.
        """
        self._callbacks["thread_end"].append(checked(callback))
        return callback

    def tell(self, event: str, what: object) -> None:
        """Call what was registered for one of `EVENTS`."""
        for callback in self._callbacks[event]:
            callback(self, what)
