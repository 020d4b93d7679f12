"""What the guest has mapped, and with which permissions, as it sees it itself.

The kernel knows another truth: there, no page of the guest is executable.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from pydbi.host.libc import PROT_EXEC
from pydbi.tuples import NamedTuple


class Area(NamedTuple):
    """Pages next to each other that were mapped alike."""

    start: int
    end: int
    """App addresses [start, end)."""
    protection: int
    """``PROT_`` values, as the guest has asked for them."""
    path: str = ""
    """The mapped file; ``[heap]`` and the like; empty if anonymous."""
    offset: int = 0
    """Offset of the first byte in the file."""
    shared: bool = False
    """Whether it was mapped with MAP_SHARED."""

    def clipped(self, low: int, high: int) -> Area:
        """Return the part of it that lies in [*low*, *high*)."""
        start = max(self.start, low)
        offset = self.offset + start - self.start if self.path else 0
        return self._replace(start=start, end=min(self.end, high), offset=offset)

    def continues(self, other: Area) -> bool:
        """Whether *other* and this one, right behind it, are one area."""
        return (
            self.start == other.end
            and self[2:4] == other[2:4]
            and self.shared == other.shared
            and (not self.path or self.offset == other.offset + other.end - other.start)
        )


class GuestMappings:
    """A sorted list of areas that do not overlap."""

    def __init__(self) -> None:
        self._areas: list[Area] = []
        self._starts: list[int] = []

    def __iter__(self) -> Iterator[Area]:
        return iter(self._areas)

    def find(self, address: int) -> Area | None:
        """Return the area that *address* lies in."""
        place = bisect_right(self._starts, address) - 1
        if place >= 0 and address < self._areas[place].end:
            return self._areas[place]
        return None

    def _span(self, low: int, high: int) -> tuple[int, int]:
        """Return the indices [first, last) of the areas that overlap [*low*, *high*)."""
        first = bisect_right(self._starts, low) - 1
        if first < 0 or self._areas[first].end <= low:
            first += 1
        last = first
        while last < len(self._areas) and self._starts[last] < high:
            last += 1
        return first, last

    def overlapping(self, low: int, high: int) -> list[Area]:
        """Return the areas in [*low*, *high*), those at its ends cut off there."""
        first, last = self._span(low, high)
        return [area.clipped(low, high) for area in self._areas[first:last]]

    def gaps(self, low: int, high: int) -> list[tuple[int, int]]:
        """Return the parts of [*low*, *high*) where nothing is mapped."""
        result = []
        for area in self.overlapping(low, high):
            if low < area.start:
                result.append((low, area.start))
            low = area.end
        if low < high:
            result.append((low, high))
        return result

    def is_executable(self, low: int, high: int) -> bool:
        """Whether the guest may execute anything in [*low*, *high*)."""
        first, last = self._span(low, high)
        return any(area.protection & PROT_EXEC for area in self._areas[first:last])

    def add(self, area: Area) -> None:
        """Enter *area* in place of what it overlaps."""
        self._put(area.start, area.end, [area])

    def remove(self, low: int, high: int) -> None:
        """Take out what is in [*low*, *high*)."""
        self._put(low, high, [])

    def protect(self, low: int, high: int, protection: int) -> None:
        """Give what is mapped in [*low*, *high*) another protection."""
        inside = self.overlapping(low, high)
        self._put(low, high, [area._replace(protection=protection) for area in inside])

    def _put(self, low: int, high: int, inside: list[Area]) -> None:
        first, last = self._span(low, high)
        areas = self._areas
        if first < last and areas[first].start < low:
            inside = [areas[first].clipped(0, low), *inside]
        if first < last and areas[last - 1].end > high:
            inside = [*inside, areas[last - 1].clipped(high, areas[last - 1].end)]
        if first and inside:
            first -= 1
            inside = [areas[first], *inside]
        if last < len(areas) and inside:
            inside = [*inside, areas[last]]
            last += 1
        merged: list[Area] = []
        for area in inside:
            if merged and area.continues(merged[-1]):
                merged[-1] = merged[-1]._replace(end=area.end)
            else:
                merged.append(area)
        areas[first:last] = merged
        self._starts[first:last] = [area.start for area in merged]
