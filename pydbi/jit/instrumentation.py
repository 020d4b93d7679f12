"""The registry of callbacks: what applies at this app address?"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from typing import Any

from pydbi.tuples import NamedTuple
from pydbi.types import InstPosition

Callback = Callable[..., Any]
Selector = Callable[[bytes], bool]
"""Whether a callback is due at the instruction with these bytes."""
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
    selects: Selector | None = None
    """What else an instruction must be for it to be due, if anything."""
    by_rule: bool = False
    """A rule has asked for it: among callbacks of its priority it counts as one of priority 0."""

    @property
    def order(self) -> tuple[int, int, int]:
        """Higher priority first, then in order of registration."""
        return -self.priority, 0 if self.by_rule else -self.priority, self.identity


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
    """All instruction callbacks of a VM.

    Those for every instruction, for one address and for a range are kept apart, so that asking
    about an instruction costs by what applies to it, not by how many there are.
    """

    def __init__(self) -> None:
        self.by_vector: dict[int, Registration] = {}
        self._by_identity: dict[int, Registration] = {}
        self._everywhere: list[Registration] = []
        self._selective: list[Registration] = []
        self._ranges: list[Registration] = []
        self._at: dict[int, list[Registration]] = {}
        self._addresses: list[int] = []
        self._everywhere_applicable = NOTHING

    def __bool__(self) -> bool:
        return bool(self._by_identity)

    def uniform(self) -> Applicable | None:
        """Return what is due at every instruction, if that is the same at all of them."""
        if self._at or self._ranges or self._selective:
            return None
        return self._everywhere_applicable

    def add(self, registration: Registration) -> None:
        """Enter a registration."""
        self._by_identity[registration.identity] = registration
        self.by_vector[registration.vector] = registration
        if registration.selects is not None:
            self._selective.append(registration)
        elif (registration.low, registration.high) == (0, FOREVER):
            self._everywhere.append(registration)
            self._everywhere_applicable = in_order(self._everywhere)
        else:
            self._ranges.append(registration)

    def add_at(self, registration: Registration) -> None:
        """Enter a registration for the one instruction at `registration.low`."""
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
        at = self._at.get(registration.low)
        if at is not None and registration in at:
            at.remove(registration)
            if not at:
                del self._at[registration.low]
                del self._addresses[bisect_left(self._addresses, registration.low)]
            return registration
        for group in (self._everywhere, self._selective, self._ranges):
            if registration in group:
                group.remove(registration)
        self._everywhere_applicable = in_order(self._everywhere)
        return registration

    def remove_all(self) -> list[Registration]:
        """Take all registrations out and return them."""
        removed = list(self._by_identity.values())
        self.__init__()  # type: ignore[misc]
        return removed

    def anything_in(self, low: int, high: int) -> bool:
        """Whether a callback may be due at an instruction in [*low*, *high*)."""
        if self._everywhere or self._selective:
            return True
        if self._addresses:
            place = bisect_left(self._addresses, low)
            if place < len(self._addresses) and self._addresses[place] < high:
                return True
        return any(r.low < high and r.high > low for r in self._ranges)

    def at(self, app: int, code: bytes) -> list[Registration]:
        """Return the registrations for the instruction with the bytes *code* at *app*."""
        due = [r for r in self._ranges if r.low <= app and app + len(code) <= r.high]
        due += self._at.get(app, ())
        due += [r for r in self._selective if r.selects is not None and r.selects(code)]
        return due + self._everywhere if due else self._everywhere

    def applicable(self, app: int, code: bytes) -> Applicable:
        """Return what is due at the instruction with the bytes *code* at *app*."""
        due = self.at(app, code)
        return self._everywhere_applicable if due is self._everywhere else in_order(due)


def in_order(registrations: Iterable[Registration]) -> Applicable:
    """Return the vectors of *registrations* in the order in which they are called."""
    ordered = sorted(registrations, key=lambda r: r.order)
    before = tuple(r.vector for r in ordered if r.position == InstPosition.PREINST)
    after = tuple(r.vector for r in ordered if r.position == InstPosition.POSTINST)
    return Applicable(before, after)
