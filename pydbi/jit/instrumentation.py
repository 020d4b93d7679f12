"""The registry of callbacks: what applies at this app address?"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Any, NamedTuple

from pydbi.types import InstPosition

Callback = Callable[..., Any]
FOREVER = 1 << 64


class Registration(NamedTuple):
    """A callback and where it is due."""

    identity: int
    position: InstPosition
    priority: int
    low: int
    high: int
    """App addresses: it is due at instructions that lie wholly in [low, high)."""
    callback: Callback
    data: Any
    vector: int
    """Offset of its callback vector."""

    @property
    def order(self) -> tuple[int, int]:
        """Higher priority first, then in order of registration."""
        return -self.priority, self.identity


class Applicable(NamedTuple):
    """Vector offsets of the callbacks due before and after one instruction, in their order."""

    before: tuple[int, ...]
    after: tuple[int, ...]


NOTHING = Applicable((), ())


class InstrumentedRanges:
    """App addresses whose instructions callbacks apply to, as disjoint ascending ranges."""

    def __init__(self) -> None:
        self._bounds: list[int] = []  # low, high, low, high, ...

    def __contains__(self, address: int) -> bool:
        place = bisect_left(self._bounds, address + 1)
        return bool(place & 1)

    def add(self, low: int, high: int) -> None:
        """Include [*low*, *high*)."""
        if low >= high:
            return
        first, last = bisect_left(self._bounds, low), bisect_left(self._bounds, high + 1)
        replacement = ([] if first & 1 else [low]) + ([] if last & 1 else [high])
        self._bounds[first:last] = replacement

    def remove(self, low: int, high: int) -> None:
        """Exclude [*low*, *high*)."""
        if low >= high:
            return
        first, last = bisect_left(self._bounds, low), bisect_left(self._bounds, high + 1)
        replacement = ([low] if first & 1 else []) + ([high] if last & 1 else [])
        self._bounds[first:last] = replacement

    def bounds_around(self, address: int) -> tuple[int, int]:
        """Return the widest [low, high) around *address* within which inclusion is the same."""
        place = bisect_left(self._bounds, address + 1)
        low = self._bounds[place - 1] if place else 0
        high = self._bounds[place] if place < len(self._bounds) else FOREVER
        return low, high


class Instrumentation:
    """All registrations of a VM.

    Those for every instruction, for one address and for a range are kept apart, so that asking
    about an instruction costs by what applies to it, not by how many there are.
    """

    def __init__(self) -> None:
        self.active = False
        """Whether there is any registration."""
        self.by_vector: dict[int, Registration] = {}
        self._by_identity: dict[int, Registration] = {}
        self._next_identity = 0
        self._everywhere: list[Registration] = []
        self._ranges: list[Registration] = []
        self._at: dict[int, list[Registration]] = {}
        self._addresses: list[int] = []
        self._everywhere_applicable = NOTHING

    def uniform(self) -> Applicable | None:
        """Return what is due at every instruction, if that is the same at all of them."""
        if self._at or self._ranges:
            return None
        return self._everywhere_applicable

    def next_identity(self) -> int:
        """Return the id that the next registration is to have, and count on."""
        identity = self._next_identity
        self._next_identity += 1
        return identity

    def add(self, registration: Registration) -> None:
        """Enter a registration."""
        self.active = True
        self._by_identity[registration.identity] = registration
        self.by_vector[registration.vector] = registration
        if (registration.low, registration.high) == (0, FOREVER):
            self._everywhere.append(registration)
            self._everywhere_applicable = _in_order(self._everywhere)
        else:
            self._ranges.append(registration)

    def add_at(self, registration: Registration) -> None:
        """Enter a registration for the one instruction at `registration.low`."""
        self.active = True
        self._by_identity[registration.identity] = registration
        self.by_vector[registration.vector] = registration
        address = registration.low
        if address not in self._at:
            insort(self._addresses, address)
        self._at.setdefault(address, []).append(registration)

    def remove(self, identity: int) -> Registration | None:
        """Take a registration out and return it, or None if there is none with this id."""
        registration = self._by_identity.pop(identity, None)
        if registration is None:
            return None
        self.by_vector.pop(registration.vector, None)
        self.active = bool(self._by_identity)
        at = self._at.get(registration.low)
        if at is not None and registration in at:
            at.remove(registration)
            if not at:
                del self._at[registration.low]
                del self._addresses[bisect_left(self._addresses, registration.low)]
        elif registration in self._everywhere:
            self._everywhere.remove(registration)
            self._everywhere_applicable = _in_order(self._everywhere)
        else:
            self._ranges.remove(registration)
        return registration

    def remove_all(self) -> list[Registration]:
        """Take all registrations out, return them, and count ids from 0 again."""
        removed = list(self._by_identity.values())
        self.__init__()  # type: ignore[misc]
        return removed

    def anything_in(self, low: int, high: int) -> bool:
        """Whether a callback may be due at an instruction in [*low*, *high*)."""
        if self._everywhere:
            return True
        if self._addresses:
            place = bisect_left(self._addresses, low)
            if place < len(self._addresses) and self._addresses[place] < high:
                return True
        return any(r.low < high and r.high > low for r in self._ranges)

    def applicable(self, app: int, size: int) -> Applicable:
        """Return what is due at the instruction of *size* bytes at *app*."""
        if not self._at and not self._ranges:
            return self._everywhere_applicable
        due = [r for r in self._ranges if r.low <= app and app + size <= r.high]
        due += self._at.get(app, ())
        if not due:
            return self._everywhere_applicable
        return _in_order(self._everywhere + due)


def _in_order(registrations: list[Registration]) -> Applicable:
    ordered = sorted(registrations, key=lambda r: r.order)
    before = tuple(r.vector for r in ordered if r.position == InstPosition.PREINST)
    after = tuple(r.vector for r in ordered if r.position == InstPosition.POSTINST)
    return Applicable(before, after)
