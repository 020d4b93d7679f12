"""Where a block ends that no branch ends, or that a border cuts off before its branch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydbi.errors import DecodeError, GuestFault
from pydbi.jit import block_events
from pydbi.jit.app_memory import LONGEST_INSTRUCTION, AppMemory
from pydbi.jit.code_check import behind_writes
from pydbi.jit.instrumentation import InstrumentedRanges
from pydbi.x86.scanner import INVALID, LIMIT, TRUNCATED, scan_block

if TYPE_CHECKING:
    from pydbi.jit.gates import Scanned

BLOCK_LIMIT = 256
"""Instructions in a block, at most: longer ones are split."""
LONG_WINDOW = 4096
LONGEST_RECHECKED = 128
"""Bytes of a block that is compared again and again, instead of being split, at most."""


def scan_further(
    memory: AppMemory, app: int, code: bytes, scanned: Scanned, reports: int
) -> tuple[bytes, Scanned]:
    """Finish a scan that ran out of bytes, or came to bytes that are no instruction.

    Args:
        reports: whether blocks are reported: then a longer one is not split.

    Raises:
        DecodeError: there is no instruction at *app*.
        GuestFault: it goes on where there is no executable code.
    """
    starts, specials, end, status = scanned
    if status == TRUNCATED:
        window, limit = LONG_WINDOW, BLOCK_LIMIT
        if reports:
            window, limit = block_events.WINDOW, block_events.BLOCK_LIMIT
        code = memory.read_more(app, window)
        starts, specials, end, status = scan_block(code, limit)
    if status > LIMIT:
        if not end:
            if status == INVALID:
                raise DecodeError(app, code[:LONGEST_INSTRUCTION])
            try:
                memory.read_more(app + len(code), 1)
            except GuestFault as fault:  # of the next page; the instruction is here
                where = (app, fault.fault_address)
                raise GuestFault(fault.signal, fault.si_code, *where, code) from None
            raise DecodeError(app, code[:LONGEST_INSTRUCTION], "it goes on past the end")
        status = LIMIT  # what follows is looked at when it is reached
    return code, (starts, specials, end, status)


def cut_at_borders(
    ranges: InstrumentedRanges, stop: int | None, app: int, scanned: Scanned
) -> tuple[Scanned, bool, tuple[int, int, bool]]:
    """Shorten a block so that it crosses no border of a range, and does not go past *stop*.

    Returns:
        The block; whether it is instrumented; and, for others, the borders around it with what lies
        between them: first address, address behind the last, whether it is instrumented.
    """
    low, high = ranges.bounds_around(app)
    if stop is not None:
        if stop <= app:
            low = max(low, stop)
        else:
            high = min(high, stop)
    instrumented = app in ranges
    span = (low, high, instrumented)
    starts, _, end, _ = scanned
    if app + end <= high:
        return scanned, instrumented, span
    bounds = [*starts[1:], end]
    count = bisect_right(bounds, high - app)
    if not count:  # the first instruction crosses the border: it is not wholly inside
        count, instrumented = 1, False
    if count < len(starts):
        scanned = shorten(scanned, bounds[count - 1])
    return scanned, instrumented, span


def mind_writes(scanned: Scanned, code: bytes, seen: bool) -> tuple[Scanned, Sequence[int]]:
    """Shorten a block of code that may change, so that it notices its own changes.

    If somebody sees where it ends it stays, and the offsets are returned too at which it must
    be checked again.
    """
    places = behind_writes(scanned[0], code)
    if seen and scanned[2] <= LONGEST_RECHECKED:
        return scanned, places
    return (shorten(scanned, places[0]) if places else scanned), ()


def shorten(scanned: Scanned, end: int) -> Scanned:
    """Return what is left of a block that ends before the instruction at offset *end*."""
    starts, specials, _, _ = scanned
    starts = [start for start in starts if start < end]
    return starts, [special for special in specials if special[1] <= end], end, LIMIT
