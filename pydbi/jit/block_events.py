"""How a block in the making lies among those that are there already, and what it reports."""

from __future__ import annotations

from collections.abc import Sequence

from pydbi.errors import GuestFault
from pydbi.jit.app_memory import AppMemory
from pydbi.jit.cache import CodeCache
from pydbi.jit.events import BlockEvents, EventRegistry
from pydbi.jit.instrumentation import InstrumentedRanges
from pydbi.x86.scanner import scan_block

BLOCK_LIMIT = 1 << 14
"""Instructions in a block, at most, while blocks are reported: it matters where they end."""
WINDOW = 1 << 16


def survey_block(
    registry: EventRegistry, cache: CodeCache, app: int, starts: Sequence[int], end: int, last: int
) -> BlockEvents:
    """Find out what the block at *app* reports.

    As in PyQBDI, a block whose tail was translated already shares that sequence with others.

    Args:
        starts: offset of each of its instructions.
        end: app address behind what is translated of it.
        last: app address behind the whole of it, which is beyond *end* if a run is to stop there.
    """
    known = set(cache.seen)
    borders = {border for seen in cache.seen_borders.values() for border in seen}
    for block in cache.blocks_in(app, end):
        known.update(block.app + offset for offset in block.starts)
        borders.update(cache.borders.get(block.code, ()))
    inner = [app + offset for offset in starts[1:]]
    if app in cache.seen_borders:
        tails = [address for address in inner if address in cache.seen_borders[app]]
    elif app in known:
        tails = [address for address in inner if address in borders]
    else:
        meets = next((address for address in inner if address in known), end)
        tails = [a for a in inner if a == meets or (a > meets and a in borders)]
    return BlockEvents(registry, (app, *tails, last), app not in known, last == end)


def end_of_block(memory: AppMemory, ranges: InstrumentedRanges, app: int) -> int:
    """Return where the basic block ends that goes on at *app*."""
    if app not in ranges:
        return app
    try:
        _, high = ranges.bounds_around(app)
        code = memory.read_more(app, WINDOW)[: high - app]
    except GuestFault:
        return app
    return app + scan_block(code, BLOCK_LIMIT)[2]
