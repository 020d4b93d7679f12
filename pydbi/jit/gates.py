"""Blocks with callbacks: where the gates go, and what is remembered of them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from pydbi.errors import UnsupportedInstruction
from pydbi.jit.arena import HEADROOM, CacheFull
from pydbi.jit.block_recorder import BlockRecorder
from pydbi.jit.cache import GATE_RECORDS
from pydbi.jit.code_check import emit_check
from pydbi.jit.context import GATE_RECORD_SIZE
from pydbi.jit.draft import GATE_AFTER, GATE_BEFORE, GATE_SIZE, BlockFull, Draft
from pydbi.jit.events import BlockEvents
from pydbi.jit.instrumentation import Applicable
from pydbi.jit.memory_callbacks import MemoryCallbacks
from pydbi.jit.patch_operands import Special
from pydbi.jit.patches import rule_for
from pydbi.jit.watch_blocks import emit_watched
from pydbi.jit.watch_gates import emit_watching_branch, emit_watching_gates
from pydbi.x86.traits import ends_block

EVENT_GATES = 1 << 10
"""Room that is kept for the gates of events."""

Scanned = tuple[list[int], list[Special], int, int]
"""What `scan_block` gives: starts, specials, end, status."""


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
            points.append((first, index, here, app + stop, body, behind, -1))
    except UnsupportedInstruction:
        del out[shifts.pop()[1] :]  # it is not reached here: its gates must not be either
        raise
    finally:
        cache.record_count = index
        place = first_index * (GATE_RECORD_SIZE // 8)
        cache.record_words[place : place + len(records)] = array("Q", records)
    return seen


def emit_with_gates(
    draft: Draft,
    scanned: Scanned,
    due: Callable[[int, bytes], Applicable],
    events: BlockEvents | None,
    memory: MemoryCallbacks,
) -> int:
    """Emit the block with a gate for every callback that is due in it.

    Args:
        due: what applies to the instruction at an app address, with these bytes.
        events: what the block reports, if anybody wants to know.
        memory: what of its accesses is to be recorded or watched.

    Returns, raises: as `emit_with_gates_before`.
    """
    starts, specials, end, _ = scanned
    cache, app, code, out, base = draft.cache, draft.app, draft.code, draft.out, draft.base
    recording = memory.recording_in(app, app + end)
    if memory.is_watching and not recording:
        return emit_watched(draft, scanned, memory)
    by_start = {special[0]: special for special in specials}
    limit = _limit(draft) - EVENT_GATES
    recorder = BlockRecorder(draft, recording, memory.records_values) if recording else None
    watching = memory.is_watching
    seen = 0
    draft.instruction = app
    if events is not None:
        draft.report(events.entry(), app)
        draft.body = base + len(out)
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        here = app + start
        bytes_here = code[start:stop]
        before, after = due(here, bytes_here)
        if cache.record_count + len(before) + 2 * len(after) > limit:
            raise CacheFull
        if base + len(out) + HEADROOM // 2 > draft.arena.data_top:
            raise CacheFull
        draft.shift(start)
        if start in draft.rechecks:
            emit_check(draft, end, start)
        if events is not None and start:
            _report_between(draft, events, here, recorder)
        draft.instruction = here
        try:
            plan = None if recorder is None else recorder.before(here, bytes_here)
        except BlockFull:
            del out[draft.shifts.pop()[1] :]
            raise
        first = cache.record_count
        if watching:
            emit_watching_gates(draft, before, here, memory, plan)
        else:
            draft.gates(before, here)
        middle = cache.record_count
        if recorder is not None:
            recorder.note_gates(first)
            if before:
                recorder.again()
        body = base + len(out)
        point = len(cache.points)
        if before or after:
            cache.points.append((first, middle, here, app + stop, body, 0, -1))
        special = by_start.get(start)
        if special is None:
            out += bytes_here
        else:
            seen |= special[2]
            try:
                if watching and ends_block(special[2]):
                    emit_watching_branch(draft, special, after, events, memory, plan)
                else:
                    if ends_block(special[2]):
                        draft.watch_branch(after, events)
                    rule_for(special[2])(draft, special)
            except UnsupportedInstruction:
                del out[draft.shifts.pop()[1] :]
                raise
            if ends_block(special[2]):  # its callbacks lie on the ways it can go
                if recorder is not None:
                    recorder.executed(middle)
                return seen
        if recorder is not None:
            recorder.after()
        if before or after:
            cache.points[point] = (*cache.points[point][:5], base + len(out), -1)
            if watching:
                emit_watching_gates(draft, after, app + stop, memory, plan)
            else:
                draft.gates(after, app + stop)
        if recorder is not None:
            recorder.executed(middle)
    if events is not None:
        middle = cache.record_count
        draft.report(events.exit(), app + end)
        if recorder is not None:
            recorder.note_later_gates(middle)
    return seen


def _report_between(
    draft: Draft, events: BlockEvents, here: int, recorder: BlockRecorder | None
) -> None:
    """Emit what is due where another sequence begins with the instruction at *here*."""
    between = events.between(here)
    if between is None:
        return
    first = draft.cache.record_count
    draft.report(between[0], here)
    if recorder is not None:
        recorder.note_later_gates(first)
        recorder.begin_sequence()
    draft.instruction = here
    draft.report(between[1], here)
