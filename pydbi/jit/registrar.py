"""Entering callbacks, rules and events, and taking them out again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydbi.jit.block import Block
from pydbi.jit.context import SLOT
from pydbi.jit.events import FIRST_IDENTITY as EVENT_IDENTITIES
from pydbi.jit.events import TRANSFER_RETURN, EventRegistration, transfer_state
from pydbi.jit.instrumentation import FOREVER, Registration, Selector
from pydbi.jit.memory_callbacks import FIRST_IDENTITY as WATCH_IDENTITIES
from pydbi.types import InstPosition, VMState

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

_TRANSFER_TARGET = SLOT["TRANSFER_TARGET"] >> 3


class Registrar:
    """What a VM's methods register, and the vectors through which it is called."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._event_vectors: dict[int, list[int]] = {}

    def release(self) -> None:
        """Let go of the vectors of blocks that are gone."""
        for vectors in self._event_vectors.values():
            for vector in vectors:
                self._engine.vectors.retire(vector)
        self._event_vectors.clear()

    def add_vector(self, callback: Callable[..., Any], data: Any) -> int:
        """Make a vector that calls an instruction callback."""
        guest = self._engine.vectors.guest
        return self._engine.vectors.add(callback, self._engine.vm(), guest.gpr, guest.fpr, data)

    def add_event_vector(self, registration: EventRegistration, state: VMState) -> int:
        """Make a vector that calls an event callback from a block; it lives as long as that."""
        guest = self._engine.vectors.guest
        callback, data = registration.callback, registration.data
        vector = self._engine.vectors.add(
            callback, self._engine.vm(), state, guest.gpr, guest.fpr, data
        )
        self._event_vectors.setdefault(registration.identity, []).append(vector)
        return vector

    def returning(self, registration: EventRegistration) -> EventRegistration:
        """Return what tells an event callback of a return: it shows where the ranges were left."""
        engine, callback = self._engine, registration.callback

        def tell(vm: object, state: VMState, *arguments: object) -> object:
            left_at = engine.guest.words[_TRANSFER_TARGET]
            return callback(vm, transfer_state(TRANSFER_RETURN, left_at), *arguments)

        return registration._replace(callback=tell)

    def retire_vector(self, vector: int) -> None:
        """Let go of a vector as soon as no gate can be using it."""
        self._engine.vectors.retire(vector)
        if not self._engine.dispatcher.running:
            self._engine.vectors.settle()

    def register(
        self,
        position: InstPosition,
        callback: Callable[..., Any],
        data: Any,
        priority: int,
        low: int = 0,
        high: int = FOREVER,
        *,
        single: bool = False,
        selects: Selector | None = None,
    ) -> int:
        """Enter a callback for instructions in [*low*, *high*), or for the one at *low*.

        Args:
            selects: if not None, which of them.
        """
        vector = self.add_vector(callback, data)
        identity = self._engine.instruments.next_identity()
        registration = Registration(
            identity, position, priority, low, high, callback, data, vector, selects
        )
        if single:
            self._engine.instrumentation.add_at(registration)
        else:
            self._engine.instrumentation.add(registration)
        self.changed(low, high)
        return identity

    def unregister(self, identity: int) -> bool:
        """Take out what has this id; return whether there was something."""
        instruments = self._engine.instruments
        if identity >= WATCH_IDENTITIES:
            found = instruments.memory.remove_watch(identity)
        elif identity >= EVENT_IDENTITIES:
            for vector in self._event_vectors.get(identity, ()):
                self._engine.vectors.silence(vector)
            if not instruments.events.remove(identity):
                return False
            self.events_changed()
            return True
        else:
            rule = instruments.rules.remove(identity)
            registration = self._engine.instrumentation.remove(identity)
            found = rule is not None
            if registration is not None:
                self.retire_vector(registration.vector)
                if not found:
                    self.changed(registration.low, registration.high)
                    return True
                found = True
        if found:
            self.changed()
        return found

    def unregister_all(self) -> None:
        """Take all callbacks, rules and records out; ids count from 0 again."""
        instruments = self._engine.instruments
        for registration in self._engine.instrumentation.remove_all():
            self.retire_vector(registration.vector)
        instruments.rules.remove_all()
        instruments.events.remove_all()
        instruments.memory.remove_all()
        instruments.count_anew()
        self.changed()

    def changed(self, low: int = 0, high: int = FOREVER) -> None:
        """Have code in [*low*, *high*) translated anew, with what is due there now."""
        self._engine.instruments.changed()
        if high != FOREVER:
            self._engine.invalidation.forget_blocks(low, high)
        elif self._engine.cache.blocks:
            self._engine.invalidation.forget_all()

    def events_changed(self) -> None:
        """Have everything translated anew, with other events; what is known is no news."""
        cache = self._engine.cache
        for fields in cache.blocks:
            block = Block._make(fields)
            if cache.is_live(block) and block.app in self._engine.ranges:
                cache.seen.update(block.app + offset for offset in block.starts)
                borders = cache.borders.get(block.code, (block.app, block.end))
                cache.seen_borders[block.app] = borders
        self._engine.invalidation.forget_translations()
        self._engine.instruments.changed()
