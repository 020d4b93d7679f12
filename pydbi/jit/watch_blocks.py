"""Blocks in which nothing but watches is due.

Before an instruction there is only a test (`watch_tests`), which goes on into the instruction
itself if it misses. Otherwise it jumps to the instruction's *far* piece, which lies elsewhere in
the arena and has everything: accesses are recorded, filters tell exactly, gates call, and a copy of
the instruction is executed between them.
"""

from __future__ import annotations

from typing import Final

from pydbi.errors import UnsupportedInstruction
from pydbi.jit.arena import HEADROOM, CacheFull
from pydbi.jit.cache import GATE_RECORDS
from pydbi.jit.code_check import emit_check
from pydbi.jit.draft import Draft
from pydbi.jit.memory_callbacks import READ, WRITE, MemoryCallbacks
from pydbi.jit.patch_operands import Special
from pydbi.jit.patches import rule_for
from pydbi.jit.record_views import LoneRecords
from pydbi.jit.recording import Plan, emit_after, emit_before, plan_recording
from pydbi.jit.watch_gates import emit_watching_branch, emit_watching_gates
from pydbi.jit.watch_tests import Test, emit_test
from pydbi.x86.traits import ends_block

_PIECE: Final = 1 << 13
"""Room that one instruction's far piece may need: enter with 31 levels takes half of it."""
_JUMP: Final = b"\xe9"
_GATES: Final = 8
"""Gates of one instruction, at most."""


class _Site:
    """Where an instruction lies in the block, for the jumps from and to its far piece."""

    def __init__(self, start: int, stop: int, test: Test, body: int, behind: int) -> None:
        self.start, self.stop, self.test = start, stop, test
        self.body, self.behind = body, behind
        """Cache addresses of the instruction, and behind it."""


class _FarCode:
    """The far pieces of one block."""

    def __init__(self, near: Draft, memory: MemoryCallbacks) -> None:
        self._near = near
        self._memory = memory
        self._draft = Draft(near.cache, near.event_vector)
        self._starts: list[int] = []
        self._open = False

    def add(self, site: _Site, special: Special | None) -> None:
        """Emit the far piece of an instruction, and let its test's jumps lead there.

        Raises:
            CacheFull: there is no room.
        """
        near, memory = self._near, self._memory
        kinds = memory.kinds
        self._make_room()
        draft = self._draft
        draft.shift(site.start)
        self._starts.append(site.start)
        for place in site.test.sites:
            distance = draft.base + len(draft.out) - (near.base + place + 4)
            near.out[place : place + 4] = distance.to_bytes(4, "little", signed=True)
        entry = len(draft.out)
        draft.out += site.test.restore
        for register, slot in site.test.borrowed:
            draft.rests(entry, len(draft.out), register, slot)
        here = near.app + site.start
        code = near.code[site.start : site.stop]
        draft.instruction = here
        reads, writes = bool(kinds & READ), bool(kinds & WRITE)
        plan = plan_recording(code, here, 0, reads, writes, memory.records_values)
        before, after = memory.groups_at(here, code)
        emit_before(draft, plan)
        first = near.cache.record_count
        emit_watching_gates(draft, before, here, memory, plan)
        middle = near.cache.record_count
        self._note(first, plan, executed=False)
        if middle > first:
            emit_before(draft, plan)
        point = len(near.cache.points)
        near.cache.points.append((first, middle, here, near.app + site.stop, site.body, 0, -1))
        behind = 0
        if special is None or not ends_block(special[2]):
            behind = self._emit_instruction(special, code, plan)
            emit_watching_gates(draft, after, near.app + site.stop, memory, plan)
            self._jump(site.behind)
            for gate in range(first, near.cache.record_count):
                end = draft.base + len(draft.out)
                near.cache.far_ways[gate] = (near.app + site.stop, end - 4)
        elif after:
            emit_watching_branch(draft, special, after, None, memory, plan)
        else:
            self._jump(site.body)
        self._note(middle, plan, executed=True)
        near.cache.points[point] = (*near.cache.points[point][:5], behind, -1)

    def _emit_instruction(self, special: Special | None, code: bytes, plan: Plan) -> int:
        """Emit the instruction and the rest of its record; return the cache address behind both."""
        draft = self._draft
        if special is None:
            draft.out += code
        else:
            rule_for(special[2])(draft, special)
        emit_after(draft, plan)
        return draft.base + len(draft.out)

    def _jump(self, target: int) -> None:
        out = self._draft.out
        out += _JUMP
        distance = target - (self._draft.base + len(out) + 4)
        out += distance.to_bytes(4, "little", signed=True)

    def _note(self, first: int, plan: Plan, *, executed: bool) -> None:
        cache = self._near.cache
        view = LoneRecords(plan, executed, self._memory.record_all)
        for gate in range(first, cache.record_count):
            cache.gate_records[gate] = view

    def _make_room(self) -> None:
        near, arena = self._near, self._near.arena
        if near.cache.record_count + _GATES > GATE_RECORDS:
            raise CacheFull
        if self._open and self._draft.base + len(self._draft.out) + _PIECE <= arena.far_end:
            return
        self.place()
        base = arena.take_far(_PIECE, near.base + len(near.out))
        self._draft.begin(near.app, near.code, arena, base)
        self._draft.out = bytearray()
        self._open = True

    def place(self) -> None:
        """Copy what has been emitted into the arena, and enter it in the maps."""
        draft = self._draft
        if not self._open:
            return
        self._open = False
        arena, base = draft.arena, draft.base
        arena.write(base, draft.out)
        arena.far_top = base + len(draft.out)
        end = self._near.app + self._starts[-1] + 1
        draft.cache.far_pieces.append(
            (
                draft.app,
                end,
                0,
                base,
                arena.far_top,
                draft.first_exit,
                arena.next_exit,
                tuple(self._starts),
                tuple(draft.shifts),
                tuple(draft.scratch),
            )
        )
        self._starts = []


def emit_watched(
    draft: Draft, scanned: tuple[list[int], list[Special], int, int], memory: MemoryCallbacks
) -> int:
    """Emit a block in which nothing but watches is due.

    Returns:
        The traits of all its special instructions together.

    Raises:
        CacheFull: there is no room.
        UnsupportedInstruction: what comes before that instruction is emitted.
    """
    starts, specials, end, _ = scanned
    app, code, out = draft.app, draft.code, draft.out
    by_start = {special[0]: special for special in specials}
    stops = [*starts[1:], end]
    codes = [code[start:stop] for start, stop in zip(starts, stops, strict=True)]
    far = _FarCode(draft, memory)
    seen = 0
    try:
        for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            draft.shift(start)
            if draft.base + len(out) + HEADROOM // 2 > draft.arena.data_top:
                raise CacheFull
            if start in draft.rechecks:
                emit_check(draft, end, start)
            special = by_start.get(start)
            check = memory.check_of(app + start, codes[number])
            test = None
            if check is not None:
                test = emit_test(draft, check, codes[number])
            body = len(out)
            if special is None:
                out += codes[number]
            else:
                seen |= special[2]
                _emit_special(draft, special)
            if test is not None:
                for register, slot in test.borrowed:
                    if register == test.overwritten:
                        draft.rests(body, len(out), register, slot)
                site = _Site(start, stop, test, draft.base + body, draft.base + len(out))
                far.add(site, special)
    finally:
        far.place()
    return seen


def _emit_special(draft: Draft, special: Special) -> None:
    if ends_block(special[2]):
        draft.watch_branch((), None)
    try:
        rule_for(special[2])(draft, special)
    except UnsupportedInstruction:
        del draft.out[draft.shifts.pop()[1] :]  # its test too
        raise
