"""How a program ends: by a system call, or by a signal."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from pydbi.jit.actions import StopRun


class GuestExit(StopRun):
    """The guest has ended; its run must not go on."""


class Ending:
    """Whether and how a program has ended.

    Attributes:
        on_end: called when it ends.
        status: its exit status; -signal if a signal has ended it; None while it lives.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.on_end: Callable[[], None] = lambda: None

    def come(self, status: int) -> NoReturn:
        """End the program; to be called where the dispatcher can leave its loop."""
        self.status = status
        self.on_end()
        raise GuestExit
