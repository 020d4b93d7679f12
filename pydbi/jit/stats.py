"""What an engine counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_STARTS = 7
"""Field of `Block`."""
_COUNTERS = {
    "blocks": "blocks translated, those forgotten since included",
    "restored_blocks": "blocks that were not translated, but taken from the disk cache",
    "instructions": "instructions translated, in all these blocks",
    "links": "exits linked to a block that was there already; new blocks are linked when made",
    "direct_exits": "times the cache was left through an exit that was not linked yet",
    "lookup_misses": "times an indirect branch went to an address without a landing pad",
    "lookup_collisions": "times the second-level table had to be asked",
    "native_calls": "functions that ran natively",
    "system_calls": "system calls that Python handled",
    "faults": "guest faults",
    "stale_blocks": "blocks found to be of code that has changed since",
    "resets": "times the whole cache was emptied, by request or because it was full",
    "cache_bytes": "bytes of generated code, stubs and constants now",
}


class Stats:
    """Counters of what the engine did; every slow path has one.

    Attributes:
    """

    blocks = restored_blocks = instructions = links = direct_exits = 0
    lookup_misses = lookup_collisions = 0
    native_calls = system_calls = faults = stale_blocks = resets = cache_bytes = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return {name: getattr(self, name) for name in _COUNTERS}

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.as_dict().items())
        return f"Stats({values})"


assert Stats.__doc__
Stats.__doc__ += "".join(f"        {name}: {text}.\n" for name, text in _COUNTERS.items())


class Counters(Stats):
    """Those of an engine, as they grow; blocks in the cache are counted when somebody asks.

    Attributes:
        cached_blocks: `CodeCache.blocks`.
    """

    def __init__(self, cached_blocks: Sequence[tuple[Any, ...]]) -> None:
        self.cached_blocks = cached_blocks
        self._restored = (0, 0)
        """How many of these blocks, and of their instructions, were not translated here."""

    @property
    def fresh_blocks(self) -> int:
        """How many of the blocks in the cache were translated here."""
        return len(self.cached_blocks) - self._restored[0]

    def note_restored(self, blocks: int, instructions: int) -> None:
        """Take notice of blocks in the cache that were not translated here."""
        self.restored_blocks += blocks
        self._restored = self._restored[0] + blocks, self._restored[1] + instructions

    def note_reset(self) -> None:
        """Count the blocks in the cache, which is about to be emptied."""
        self._add_blocks_to(self)
        self.resets += 1
        self._restored = (0, 0)

    def snapshot(self) -> Stats:
        """Return the counters as they stand."""
        result = Stats()
        vars(result).update(self.as_dict())
        self._add_blocks_to(result)
        return result

    def _add_blocks_to(self, stats: Stats) -> None:
        stats.blocks += self.fresh_blocks
        instructions = sum(len(fields[_STARTS]) for fields in self.cached_blocks)
        stats.instructions += instructions - self._restored[1]
