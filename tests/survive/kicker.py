"""Kicks in quick succession, to interrupt a guest thousands of times a second at random places."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydbi.jit.signals import KickTimer

_AGAIN = 200_000
"""Nanoseconds after which a kick that met no translated code is sent once more."""


class Kicker:
    """Kicks the guest of a VM, which must run on this thread.

    Attributes:
        boundaries: app addresses at which it was interrupted so far, with their numbers.
    """

    def __init__(self, vm: Any, seed: int = 0, longest: int = 100_000) -> None:
        self.boundaries: dict[int, int] = {}
        self._vm = vm
        self._timer = KickTimer()
        self._random = random.Random(f"kicker {seed}")
        self._longest = longest
        self._kicks = vm._engine.dispatcher._kicks
        self._check = self._kicks.check

    @property
    def count(self) -> int:
        """How many interruptions there were."""
        return sum(self.boundaries.values())

    @contextmanager
    def kicking(
        self, look: Callable[[int], None] | None = None, most: int = 1 << 30
    ) -> Iterator[None]:
        """Kick what runs inside, until it was interrupted *most* times.

        *look* is called with the app address at each interruption.

        There rip must be that address, and the trap flag must not show.
        """

        def check(app: int) -> None:
            gpr = self._vm.getGPRState()
            assert gpr.rip == app
            assert not gpr.eflags & 0x100
            self.boundaries[app] = self.boundaries.get(app, 0) + 1
            if look is not None:
                look(app)
            if self.count < last:
                self._rearm()
            else:
                self._timer.start(0, 0)
            self._check(app)

        last = self.count + most
        self._kicks.check = check
        self._rearm()
        try:
            yield
        finally:
            self._timer.start(0, 0)
            self._kicks.check = self._check

    def _rearm(self) -> None:
        self._timer.start(self._random.randrange(3000, self._longest), _AGAIN)
