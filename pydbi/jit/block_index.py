"""Which block does a cache address belong to?"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Any

_CODE, _CODE_END = 3, 4
"""Fields of `Block`."""
_MANY = 1 << 64


class BlockIndex:
    """Finds blocks by cache address, in lists that grow meanwhile.

    Blocks are placed with ascending addresses, each at most over the jump that ends the one before,
    so the last that begins at or before an address is the one whose code is there.
    """

    def __init__(self, *lists: Sequence[tuple[Any, ...]]) -> None:
        self._lists = lists
        self._counts = [0] * len(lists)
        self._by_code: list[tuple[int, int, int]] = []

    def find(self, cache_address: int) -> tuple[Any, ...] | None:
        """Return the fields of the block whose translation covers *cache_address*, or None."""
        self._catch_up()
        place = bisect_right(self._by_code, (cache_address, _MANY, 0)) - 1
        if place < 0:
            return None
        _, number, position = self._by_code[place]
        fields = self._lists[number][position]
        return fields if cache_address < fields[_CODE_END] else None

    def _catch_up(self) -> None:
        """Enter what was appended since the last question."""
        for number, blocks in enumerate(self._lists):
            for position in range(self._counts[number], len(blocks)):
                insort(self._by_code, (blocks[position][_CODE], number, position))
            self._counts[number] = len(blocks)

    def clear(self) -> None:
        """Forget all, together with the lists."""
        self._by_code.clear()
        self._counts = [0] * len(self._lists)
