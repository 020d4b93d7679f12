"""Everything that is due somewhere in a VM: instruction callbacks, rules, events, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydbi.jit.events import IN_BLOCKS, TRANSFERS, EventRegistry
from pydbi.jit.instrumentation import Applicable, Instrumentation, in_order
from pydbi.jit.memory_callbacks import MemoryCallbacks
from pydbi.jit.rules import Rules

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine


class Instruments:
    """What the translator asks when it makes a block.

    Attributes:
        active: whether there is anything that a block may need gates for.
        transfers: whether blocks report that execution comes into or leaves the ranges.
    """

    def __init__(self, engine: Engine) -> None:
        self.callbacks = Instrumentation()
        self.rules = Rules(engine)
        self.events = EventRegistry()
        self.memory = MemoryCallbacks(engine, self.others_in)
        self.active = False
        self.transfers = False
        self._next_identity = 0

    @property
    def calls_back(self) -> bool:
        """Whether Python may be called from blocks."""
        if not (self.active or self.transfers):  # this is asked at each block
            return False
        return bool(
            self.callbacks or self.memory or self.events.mask or self.rules.have_asked_for_callbacks
        )

    def changed(self) -> None:
        """Take notice of what was added or removed."""
        self.active = bool(
            self.callbacks or self.rules or self.memory or self.events.mask & IN_BLOCKS
        )
        self.transfers = bool(self.events.mask & TRANSFERS)
        self.memory.beside_others = bool(self.callbacks or self.rules or self.events.mask)

    def next_identity(self) -> int:
        """Return the id that the next registration is to have, and count on."""
        identity = self._next_identity
        self._next_identity += 1
        return identity

    def count_anew(self) -> None:
        """Let ids count from 0 again."""
        self._next_identity = 0

    def anything_in(self, low: int, high: int) -> bool:
        """Whether anything may be due in [*low*, *high*)."""
        return bool(
            self.events.mask & IN_BLOCKS or self.memory or self.callbacks.anything_in(low, high)
        )

    def others_in(self, low: int, high: int) -> bool:
        """Whether anything but watches is due in [*low*, *high*), which rules were asked about."""
        if self.events.mask & IN_BLOCKS or self.callbacks.anything_in(low, high):
            return True
        return bool(self.rules) and any(map(self.rules.at, range(low, high)))

    def uniform(self) -> Applicable | None:
        """Return what is due at every instruction, if that is the same and nothing else is due."""
        if self.rules or self.memory or self.events.mask & IN_BLOCKS:
            return None
        return self.callbacks.uniform()

    def applicable(self, app: int, code: bytes) -> Applicable:
        """Return what is due at the instruction with the bytes *code* at *app*."""
        more = self.rules.at(app) if self.rules else []
        if self.memory.is_watching:
            more = [*more, *self.memory.due_at(app, code)]
        if more:
            return in_order([*self.callbacks.at(app, code), *more])
        return self.callbacks.applicable(app, code)
