"""The tables in which indirect branches look up their targets, and the landing pads they lead to.

An indirect branch jumps through the first-level entry that its target's low 16 bits choose, to the
landing pad of a block that may or may not be the right one. The pad compares; if it is not, or
there is none, ``lookup.S`` asks the second-level table, which holds every pad, and then the
dispatcher.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence

from pydbi.host import cpu
from pydbi.host.memory import map_memory, unmap_memory, view
from pydbi.jit.context import SLOT, TABLE_OFFSET
from pydbi.jit.guest import Guest
from pydbi.jit.stubs import stubs

_L2_ENTRIES = 1 << 14
_L2_GUARD = 1 << 12
"""Entries behind the last index: a probe never wraps around, and never runs off the end."""
_FAST_LOOP = ("AuthenticAMD", "HygonGenuine")
"""Makers of processors on which LOOP costs no more than another conditional jump."""
_HALF = (1 << 32) - 1


class SecondLevel:
    """The second-level table's memory: 16-byte entries (app address, landing pad)."""

    def __init__(self) -> None:
        self.entries = 0
        self.address = self._size = 0
        self._old: list[tuple[int, int]] = []
        self._resize(_L2_ENTRIES)

    def _resize(self, entries: int) -> None:
        self.entries = entries
        self._size = (entries + _L2_GUARD) * 16
        self.address = map_memory(self._size)
        self._words = view(self.address, self._size).cast("Q")

    def _place(self, app: int) -> int:
        """Return the index, in words, of the entry of *app*, or of the free one it would get."""
        words = self._words
        place = ((app >> 15 ^ app) & (self.entries - 1)) * 2
        while words[place] and words[place] != app:
            place += 2
        return place

    def enter(self, app: int, pad: int) -> bool:
        """Enter *pad* for *app*; False if there is no room at its place."""
        place = self._place(app)
        if place >= (self.entries + _L2_GUARD - 1) * 2:
            return False
        self._words[place + 1] = pad
        self._words[place] = app
        return True

    def enter_all(self, pads: Iterable[tuple[int, int]]) -> bool:
        """Enter what is not there yet; False if there is no room for one."""
        words, mask = self._words, self.entries - 1
        end = (self.entries + _L2_GUARD - 1) * 2
        for app, pad in pads:
            place = ((app >> 15 ^ app) & mask) * 2
            while words[place]:
                place += 2
            if place >= end:
                return False
            words[place + 1] = pad
            words[place] = app
        return True

    def grow(self, pads: dict[int, int], *, keep: bool) -> None:
        """Move to a larger table, no more than half full, and enter all of *pads*.

        Args:
            keep: whether the old one may still be in use, until the next `clear`.
        """
        old_address, old_size = self.address, self._size
        entries = self.entries
        while True:
            entries *= 2
            if entries < len(pads) * 2:
                continue
            self._resize(entries)
            if self.enter_all(pads.items()):
                break
            unmap_memory(self.address, self._size)
        self._old.append((old_address, old_size))
        if not keep:
            self._drop_old()

    def _drop_old(self) -> None:
        while self._old:
            unmap_memory(*self._old.pop())

    def clear(self) -> None:
        """Make it empty."""
        ctypes.memset(self.address, 0, self._size)
        self._drop_old()

    def close(self) -> None:
        """Give the memory back."""
        self._drop_old()
        unmap_memory(self.address, self._size)


class LookupTable:
    """Both levels, for the guest threads of one VM.

    Attributes:
        pad_entry: where in a landing pad it is entered, in bytes from its start.
        keeps_tables: whether a table that has become too small may still be in use.
        restore_size: how many bytes at a landing pad's end give the guest its rcx back.
    """

    def __init__(self, guests: list[Guest]) -> None:
        self._guests = guests
        self.keeps_tables = False
        self._by_loop = cpu.has_bmi2() and cpu.cpu().vendor in _FAST_LOOP
        self._pad = stubs().template(f"landing_pad_{'loop' if self._by_loop else 'jrcxz'}")
        self._pad_low, self._pad_high = self._pad.holes["low"], self._pad.holes["high"]
        self.pad_entry = self._pad.holes["entry"]
        self.restore_size = len(self._pad.code) - self._pad.holes["restore"]
        self._lookup_miss = stubs().find("lookup_miss")
        self._lookup_absent = stubs().find("lookup_absent")
        self._pads: dict[int, int] = {}
        self.second_level = SecondLevel()
        for guest in guests:
            self.attach(guest)

    def landing_pad(self, app: int) -> bytearray:
        """Return the code of the landing pad for *app*; it goes on right behind itself."""
        code = bytearray(self._pad.code)
        low = -app & _HALF
        if self._by_loop:
            signed = low - (low >> 31 << 32)  # as LEA reads it
            high = 1 - (app + signed >> 32) & _HALF
        else:
            high = -(app >> 32) & _HALF
        code[self._pad_low : self._pad_low + 4] = low.to_bytes(4, "little")
        code[self._pad_high : self._pad_high + 4] = high.to_bytes(4, "little")
        return code

    def get(self, app: int) -> int | None:
        """Return the cache address at which indirect branches to *app* enter, if it is known."""
        return self._pads.get(app)

    def enter(self, app: int, pad: int) -> None:
        """Let indirect branches to *app* enter the landing pad at cache address *pad*."""
        self._pads[app] = pad
        self.prefer(app, pad)
        if self._is_full() or not self.second_level.enter(app, pad):
            self._grow()

    def enter_all(self, pads: Sequence[tuple[int, int]]) -> None:
        """Enter many (app address, pad), none of which is known."""
        self._pads.update(pads)
        table = TABLE_OFFSET >> 3
        for guest in self._guests:
            words = guest.words
            for app, pad in pads:
                words[table + (app & 0xFFFF)] = pad
        if self._is_full() or not self.second_level.enter_all(pads):
            self._grow()

    def _is_full(self) -> bool:
        return len(self._pads) * 2 > self.second_level.entries

    def _grow(self) -> None:
        self.second_level.grow(self._pads, keep=self.keeps_tables)
        for guest in self._guests:
            self.attach(guest)

    def prefer(self, app: int, pad: int) -> None:
        """Let *pad* have the first-level entry that addresses like *app* share."""
        place = (TABLE_OFFSET >> 3) + (app & 0xFFFF)
        for guest in self._guests:
            guest.words[place] = pad

    def remove(self, app: int) -> None:
        """Make indirect branches to *app* leave for the dispatcher again."""
        pad = self._pads.pop(app, None)
        if pad is None:
            return
        place = (TABLE_OFFSET >> 3) + (app & 0xFFFF)
        for guest in self._guests:
            if guest.words[place] == pad:
                guest.words[place] = self._lookup_miss
        self.second_level.enter(app, self._lookup_absent)  # the key stays: probes go on behind it

    def attach(self, guest: Guest) -> None:
        """Let *guest* look into the second-level table.

        First its address, then its size: who looks at both meanwhile is within the new one.
        """
        guest.words[SLOT["L2_TABLE"] >> 3] = self.second_level.address
        guest.words[SLOT["L2_MASK"] >> 3] = self.second_level.entries - 1

    def clear(self) -> None:
        """Forget all targets."""
        self._pads.clear()
        self.second_level.clear()
        for guest in self._guests:
            guest.clear_table()
