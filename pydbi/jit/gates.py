"""Blocks with callbacks: where the gates go, and what is remembered of them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from pydbi.errors import UnsupportedInstruction
from pydbi.jit.cache import GATE_RECORDS, HEADROOM, CacheFull
from pydbi.jit.context import GATE_RECORD_SIZE
from pydbi.jit.draft import GATE_AFTER, GATE_BEFORE, GATE_SIZE, Draft
from pydbi.jit.instrumentation import Applicable
from pydbi.jit.patch_operands import Special
from pydbi.jit.patches import rule_for
from pydbi.x86.traits import ENDS_BLOCK, FLOW_MASK

Scanned = tuple[list[int], list[Special], int, int]
"""What `scan_block` gives: starts, specials, end, status."""


def ends_block(bits: int) -> bool:
    """Whether an instruction with the traits *bits* is the last of its block."""
    return bool(ENDS_BLOCK >> (bits & FLOW_MASK) & 1)


def _limit(draft: Draft) -> int:
    """Return how far gate indices may count before room for records or gates runs out."""
    arena = draft.arena
    room = arena.data_top - arena.code_top - HEADROOM // 2
    return min(draft.cache.record_count + room // (2 * GATE_SIZE), GATE_RECORDS)


def emit_with_gates_before(draft: Draft, scanned: Scanned, vectors: Sequence[int]) -> int:
    """Emit the block with the same gates before each instruction and none after.

    The case that people trace with: `emit_with_gates` does the same at three times the cost.

    Returns:
        The traits of all its special instructions together.

    Raises:
        CacheFull: there is no room.
        UnsupportedInstruction: what comes before that instruction is emitted.
    """
    starts, specials, end, _ = scanned
    cache, app, code, out, base = draft.cache, draft.app, draft.code, draft.out, draft.base
    first_index = index = cache.record_count
    if index + len(starts) * len(vectors) > _limit(draft):
        raise CacheFull
    points, shifts = cache.points, draft.shifts
    by_start = {special[0]: special for special in specials}
    records: list[int] = []
    seen = 0
    stops = starts[1:]
    stops.append(end)
    try:
        for start, stop in zip(starts, stops, strict=True):
            shifts.append((start, len(out)))
            here = app + start
            first = index
            for vector in vectors:
                out += GATE_BEFORE + index.to_bytes(4, "little") + GATE_AFTER
                records += (vector, here, base + len(out), here)
                index += 1
            body = base + len(out)
            if start in by_start:
                special = by_start[start]
                seen |= special[2]
                rule_for(special[2])(draft, special)
                behind = 0 if ends_block(special[2]) else base + len(out)
            else:
                out += code[start:stop]
                behind = base + len(out)
            points.append((first, index, here, app + stop, body, behind))
    except UnsupportedInstruction:
        del out[shifts.pop()[1] :]  # it is not reached here: its gates must not be either
        raise
    finally:
        cache.record_count = index
        place = first_index * (GATE_RECORD_SIZE // 8)
        cache.record_words[place : place + len(records)] = array("Q", records)
    return seen


def emit_with_gates(draft: Draft, scanned: Scanned, due: Callable[[int, int], Applicable]) -> int:
    """Emit the block with a gate for every callback that is due in it.

    Args:
        due: what applies to the instruction at an app address, of a size in bytes.

    Returns, raises: as `emit_with_gates_before`.
    """
    starts, specials, end, _ = scanned
    cache, app, code, out, base = draft.cache, draft.app, draft.code, draft.out, draft.base
    by_start = {special[0]: special for special in specials}
    limit = _limit(draft)
    seen = 0
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        before, after = due(app + start, stop - start)
        draft.shift(start)
        if cache.record_count + len(before) + 2 * len(after) > limit:
            raise CacheFull
        first = cache.record_count
        draft.instruction = app + start
        draft.gates(before, app + start)
        body = base + len(out)
        middle = cache.record_count
        special = by_start.get(start)
        ends = special is not None and ends_block(special[2])
        if special is None:
            out += code[start:stop]
        else:
            seen |= special[2]
            draft.branch_vectors = after if ends else ()
            try:
                rule_for(special[2])(draft, special)
            except UnsupportedInstruction:
                del out[draft.shifts.pop()[1] :]
                raise
        behind = 0
        if not ends:  # a branch's lie on the ways it can go
            behind = base + len(out)
            draft.gates(after, app + stop)
        if before or after:
            cache.points.append((first, middle, app + start, app + stop, body, behind))
    return seen
