"""Which block does a cache address belong to, and which blocks translate an app address?"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import Any

from pydbi.jit.block import Block

_CODE, _CODE_END = 3, 4
"""Fields of `Block`."""
_MANY = 1 << 64
_FEW = 16
"""New blocks that are entered one by one."""


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
            first, count = self._counts[number], len(blocks)
            if count - first > _FEW:
                # A list of ascending runs: sorting it takes next to no time.
                self._by_code += [(blocks[p][_CODE], number, p) for p in range(first, count)]
                self._by_code.sort()
            else:
                for position in range(first, count):
                    insort(self._by_code, (blocks[position][_CODE], number, position))
            self._counts[number] = count

    def clear(self) -> None:
        """Forget all, together with the lists."""
        self._by_code.clear()
        self._counts = [0] * len(self._lists)


class PageIndex:
    """Finds blocks by the app's pages that they translate, in a list that grows meanwhile."""

    def __init__(self, blocks: Sequence[tuple[Any, ...]]) -> None:
        self._blocks = blocks
        self._by_page: dict[int, list[Block]] = {}
        self._count = 0

    def find(self, low: int, high: int) -> list[Block]:
        """Return the blocks that overlap the app addresses [*low*, *high*)."""
        for fields in self._blocks[self._count :]:  # kept up only when asked for
            block = Block._make(fields)
            for page in _pages(block):
                self._by_page.setdefault(page, []).append(block)
        self._count = len(self._blocks)
        pages: Iterable[int] = range(low >> 12, ((high - 1) >> 12) + 1)
        if high - low >> 12 > len(self._by_page):
            pages = [page for page in self._by_page if low >> 12 <= page <= (high - 1) >> 12]
        found = []
        for page in pages:
            for block in self._by_page.get(page, ()):
                if block.app < high and block.end > low:
                    found.append(block)
        return found

    def remove(self, block: Block) -> None:
        """Find *block* no more."""
        for page in _pages(block):
            blocks = self._by_page.get(page)
            if blocks is not None:
                self._by_page[page] = [b for b in blocks if b.code != block.code]

    def clear(self) -> None:
        """Forget all, together with the list."""
        self._by_page.clear()
        self._count = 0


def _pages(block: Block) -> range:
    return range(block.app >> 12, ((block.end - 1) >> 12) + 1)
