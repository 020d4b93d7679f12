"""What is known of a piece of translated code: a block, and an instruction with gates."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from pydbi.tuples import NamedTuple


class Block(NamedTuple):
    """A translated basic block, or the part of one that was translated in one go.

    The translator appends plain tuples with these fields to `CodeCache.blocks`, which costs a
    third of making the named ones; whoever reads them names them (`Block._make`).
    """

    app: int
    end: int
    """The app addresses it covers: [app, end)."""
    entry: int
    """Where direct jumps enter it; mostly the same as `code`."""
    code: int
    code_end: int
    """Its cache addresses, without a landing pad."""
    first_exit: int
    last_exit: int
    """Its exits have indices from first_exit to last_exit (excluded); others may be among them."""
    starts: Sequence[int]
    """Offset of each instruction from `app`."""
    shifts: Sequence[tuple[int, int]]
    """(app offset, cache offset) from which on the distance between the two is another."""
    scratch: Sequence[tuple[int, int, int, int]]
    """(first, last, register, slot): at cache offsets first to last (excluded) the guest's
    register, by its index in GPRState, rests in that context slot; -slot: it is in its place, but
    with the slot's value added."""

    def app_of(self, cache_address: int) -> int:
        """Return the app address of the instruction that *cache_address* belongs to."""
        offset = cache_address - self.code
        app_base = cache_base = 0
        bound = self.end - self.app
        for app_offset, cache_offset in self.shifts:
            if cache_offset > offset:
                bound = app_offset  # a rewritten instruction is longer, but ends here
                break
            app_base, cache_base = app_offset, cache_offset
        place = min(app_base + offset - cache_base, bound - 1)
        return self.app + self.starts[bisect_right(self.starts, place) - 1]

    def code_of(self, app: int) -> tuple[int, int]:
        """Return (address, end) of the translation of the instruction at *app*, gates included."""
        place = self.starts.index(app - self.app)
        following = self.starts[place + 1 : place + 2]
        end = self._cache_offset(following[0]) if following else self.code_end - self.code
        return self.code + self._cache_offset(app - self.app), self.code + end

    def _cache_offset(self, app_offset: int) -> int:
        app_base = cache_base = 0
        for shifted, cache_offset in self.shifts:
            if shifted > app_offset:
                break
            if shifted > app_base or not app_base:
                app_base, cache_base = shifted, cache_offset
        return cache_base + app_offset - app_base


class GatePoint(NamedTuple):
    """An instruction with callbacks: where they begin and end in its translation."""

    first_gate: int
    first_after: int
    """Gate indices: those from first_gate to first_after are due before the instruction."""
    app: int
    following: int
    """App addresses of the instruction and of the next one."""
    body: int
    """Cache address of the instruction itself."""
    behind: int
    """Cache address behind it, where the gates due after it begin; 0 for a branch."""
    event: int = -1
    """Index in `CodeCache.event_points` of what its gates report; -1: instruction callbacks."""
