"""From app bytes to a block in the cache.

scan (`x86/scanner`) -> end it early where it must (`block_ends`) -> patch (`patches`), with gates
where callbacks are due (`gates`) -> place (`placement`). This is the engine's hot path: about half
of the time goes into the scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydbi.errors import UnsupportedInstruction
from pydbi.host.late import load
from pydbi.jit import block_events
from pydbi.jit.app_memory import AppMemory
from pydbi.jit.arena import HEADROOM, Arena, CacheFull
from pydbi.jit.block_ends import BLOCK_LIMIT, cut_at_borders, mind_writes, scan_further, shorten
from pydbi.jit.block_events import end_of_block, survey_block
from pydbi.jit.broker import Broker
from pydbi.jit.cache import CodeCache
from pydbi.jit.code_check import emit_check
from pydbi.jit.context import SLOT
from pydbi.jit.crossings import emit_transfer, make_call_block, make_native_block
from pydbi.jit.draft import BlockFull, Draft
from pydbi.jit.events import IN_BLOCKS, BlockEvents, EventRegistration, Report
from pydbi.jit.guest import Guest
from pydbi.jit.instrumentation import InstrumentedRanges
from pydbi.jit.instruments import Instruments
from pydbi.jit.linker import Linker
from pydbi.jit.lookup import LookupTable
from pydbi.jit.patch_branches import overwrites_rcx
from pydbi.jit.patches import rule_for
from pydbi.jit.placement import add_direct_entry, connect, place, place_behind
from pydbi.tuples import NamedTuple
from pydbi.types import CodeCheck, VMState
from pydbi.x86.registers import RCX
from pydbi.x86.scanner import FLOW, LIMIT, scan_block
from pydbi.x86.traits import AVX512, FSBASE, SYSTEM_FLAGS, X87

if TYPE_CHECKING:
    from pydbi.jit.gates import Scanned

ROOM_FOR_ONE = 256
"""Bytes that an instruction's translation may take, on average over a block, with its gates."""
PAD_ALIGNMENT = 32
_JUMP = b"\xe9"
_SLOT_RCX = SLOT["SCRATCH_RCX"]
_STATE = X87 | AVX512 | SYSTEM_FLAGS | FSBASE
_NEEDS = (
    (X87, Guest.need_x87),
    (AVX512, Guest.need_avx512),
    (SYSTEM_FLAGS, Guest.need_full_flags),
    (FSBASE, Guest.need_fs_swap),
)


class FreshBlock(NamedTuple):
    """A new block whose first execution is to be reported before it."""

    app: int
    body: int
    """Cache address behind the gates that report later executions."""
    report: Report


class Translator:
    """Makes blocks for one cache.

    Attributes:
        code_check: which code is taken for code that may change.
        fresh: the block made last, if it is new and somebody wants to know; whoever executes it
            first reports it, and sets this to None.
    """

    def __init__(
        self,
        cache: CodeCache,
        linker: Linker,
        lookup: LookupTable,
        guests: list[Guest],
        memory: AppMemory,
        ranges: InstrumentedRanges,
        instruments: Instruments,
        broker: Broker,
        event_vector: Callable[[EventRegistration, VMState], int],
        returning: Callable[[EventRegistration], EventRegistration],
    ) -> None:
        self._cache = cache
        self._linker = linker
        self._lookup = lookup
        self._guests = guests
        self._memory = memory
        self._ranges = ranges
        self._instruments = instruments
        self._broker = broker
        self._draft = Draft(cache, event_vector)
        self._returning = returning
        self.code_check = CodeCheck.WRITABLE
        self.fresh: FreshBlock | None = None
        self._stop: int | None = None
        self._span = (0, 0, False)
        self._arena: Arena | None = None

    def translate(self, app: int, origin: int = 0, pad: bool = False) -> int:
        """Translate the block at *app* and return the cache address of its code.

        Args:
            origin: index of the exit that wants it: if its jump is the last thing placed, the
                block takes the jump's place.
            pad: whether an indirect branch wants it: then it gets a landing pad.

        Raises:
            GuestFault: there is no executable code at *app*.
            DecodeError: the bytes there are not an instruction.
            UnsupportedInstruction: the instruction there cannot be translated.
            CacheFull: there is no room; nothing was changed.
        """
        if app in self._broker.functions or app >> 12 in self._broker.pages:
            return self._translate_native(app, pad)
        code = self._memory.read(app)
        instruments = self._instruments
        reports = instruments.events.mask & IN_BLOCKS
        scanned = scan_block(code, block_events.BLOCK_LIMIT if reports else BLOCK_LIMIT)
        if scanned[3] > LIMIT:
            code, scanned = scan_further(self._memory, app, code, scanned, reports)
        low, high, instrumented = self._span
        if not (low <= app and app + scanned[2] <= high):
            scanned, instrumented, self._span = cut_at_borders(
                self._ranges, self._stop, app, scanned
            )
        check = self.code_check
        checked = check is not CodeCheck.NEVER and (
            check is CodeCheck.ALWAYS or self._memory.is_writable(app)
        )
        rechecks: Sequence[int] = ()
        if checked:
            scanned, rechecks = mind_writes(scanned, code, instrumented and instruments.active)
        starts, specials, end, status = scanned

        arena = self._arena
        if arena is None or not arena.low_reach <= app < arena.high_reach:
            arena = self._choose_arena(app)
        room = arena.data_top - arena.code_top
        if room < HEADROOM or room < len(starts) * ROOM_FOR_ONE:
            raise CacheFull
        gated = instrumented and instruments.active and instruments.anything_in(app, app + end)
        if instrumented and instruments.rules and self._ask_rules(app, scanned, code):
            gated = True
        gated = gated or bool(rechecks)
        if pad:
            # Where a pad begins within its 32 bytes decides over a fifth of a dispatch's time.
            arena.code_top += -(arena.code_top + self._lookup.pad_entry) % PAD_ALIGNMENT
        top = arena.code_top
        draft = self._draft
        behind = origin and not draft.shared
        base = place_behind(draft.exits, origin, arena, top) if behind else top
        draft.begin(app, code, arena, base)
        draft.out = out = self._lookup.landing_pad(app) if pad else bytearray()
        plain = not (gated or checked or instruments.transfers)
        if pad and plain and overwrites_rcx(code, end):
            # What the pad would load is overwritten at once; until then it rests in its slot.
            del out[-self._lookup.restore_size :]
            draft.rests(len(out), len(out) + (starts[1] if starts[1:] else end), RCX, _SLOT_RCX)
            entry = add_direct_entry(arena, base + len(out))
        else:
            entry = base + len(out)
        start = base + len(out)
        entries = draft.entries
        events: BlockEvents | None = None
        if gated and reports:
            events = self._survey(app, scanned)
        entries[app] = entry  # the block may jump to itself
        try:
            if checked:
                self._cache.checked[app] = code[:end]
                draft.rechecks = rechecks
                emit_check(draft, end)
            if instruments.transfers:
                returning = self._returning if instrumented else None
                emit_transfer(draft, instruments.events, returning, app)
            if gated:
                load("pydbi.jit.gates")
                from pydbi.jit.gates import emit_with_gates, emit_with_gates_before

                due = instruments.uniform()
                if due is not None and not due.after and not rechecks:
                    seen = emit_with_gates_before(draft, scanned, due.before)
                else:
                    seen = emit_with_gates(
                        draft, scanned, instruments.applicable, events, instruments.memory
                    )
            else:
                done = 0
                seen = 0
                for special in specials:
                    at = special[0]
                    if at > done:
                        out += code[done:at]
                    done = special[1]
                    bits = special[2]
                    seen |= bits
                    rule_for(bits)(draft, special)
                if done < end:
                    out += code[done:end]
        except (UnsupportedInstruction, BlockFull) as error:
            # The block ends before it; the former raises when it is about to be executed.
            end = (error.app_address or app) - app
            if not end:
                del entries[app]
                raise
            starts, specials, end, status = shorten(scanned, end)
            seen = 0
            for special in specials:
                seen |= special[2]
        except BaseException:
            del entries[app]
            raise
        if base + len(out) > arena.data_top - HEADROOM // 16:
            del entries[app]
            raise CacheFull
        if seen & _STATE:
            self._notice(seen)
        if status != FLOW:
            draft.exit(_JUMP, app + end)
            if app + end == self._stop and app + end in self._ranges:
                self._cache.cut_exits.add(arena.next_exit - 1)
                self._cache.cut_blocks.add(start)
        place(draft, self._lookup, app, end, entry, start, starts)
        if origin:
            connect(draft, self._linker, origin, app, start, top)
        if events is not None:
            self._cache.borders[start] = events.borders
            self._cache.bodies[app] = (draft.body, events.entry())
            if events.is_new:
                self.fresh = FreshBlock(app, draft.body, events.first_entry())
        return entry

    # Where blocks must end: at the borders of instrumented ranges, and where `run` is to stop.

    @property
    def stop(self) -> int | None:
        """Blocks end before this app address; older ones are the caller's to remove."""
        return self._stop

    @stop.setter
    def stop(self, app: int | None) -> None:
        self._stop = app
        self._span = (0, 0, False)

    def share(self) -> None:
        """From now on, make blocks that several threads may execute while they are linked."""
        self._draft.shared = True

    def forget_span(self) -> None:
        """Look the instrumented ranges up anew."""
        self._span = (0, 0, False)

    # Events.

    def _survey(self, app: int, scanned: Scanned) -> BlockEvents:
        """Find out what the block at *app* reports."""
        starts, _, size, status = scanned
        last = app + size
        if last == self._stop and status != FLOW:
            last = self._whole_end(last)
        registry = self._instruments.events
        return survey_block(registry, self._cache, app, starts, app + size, last)

    def _whole_end(self, app: int) -> int:
        """Return where the block ends that is cut at *app* because a run is to stop there."""
        return end_of_block(self._memory, self._ranges, app)

    def _ask_rules(self, app: int, scanned: Scanned, code: bytes) -> bool:
        """Ask the rules about a block, and about what a run's stop has cut off; see `Rules.ask`."""
        starts, _, size, status = scanned
        if app + size == self._stop and status != FLOW:
            size = self._whole_end(app + size) - app
            code = self._memory.read_more(app, size)
            starts = scan_block(code, block_events.BLOCK_LIMIT)[0]
        return self._instruments.rules.ask(app, starts, size, code)

    def _choose_arena(self, app: int) -> Arena:
        low, high, _ = self._memory.module_of(app)
        count = len(self._cache.arenas)
        arena = self._cache.arena_for(app, low, high)
        if len(self._cache.arenas) > count:
            for guest in self._guests:
                guest.set_cache_ranges(self._cache.ranges())
        self._arena = arena
        return arena

    def _notice(self, seen: int) -> None:
        """Make switches save what the guest is about to use for the first time."""
        for guest in self._guests:
            for traits, need in _NEEDS:
                if seen & traits:
                    need(guest)

    def _arena_with_room(self, app: int) -> Arena:
        """Return the arena for code that the engine makes for *app*.

        Raises:
            CacheFull: there is no room in it.
        """
        arena = self._arena
        if arena is None or not arena.reaches(app):
            arena = self._choose_arena(app)
        if self._cache.is_full(arena):
            raise CacheFull
        return arena

    def _translate_native(self, app: int, pad: bool) -> int:
        """Make the block that hands over to native code at *app*."""
        instruments, arena = self._instruments, self._arena_with_room(app)
        events = instruments.events if instruments.transfers else None
        return make_native_block(self._draft, arena, self._lookup, events, app, pad)

    def translate_call(self, app: int, frame_size: int, return_address: int) -> int:
        """Make the code behind a call of the function at *app* from Python; return its address.

        It lowers rsp by *frame_size* and pushes *return_address*; the landing pad of that gives
        rsp back and leaves with REASON_RETURNED.

        Raises:
            CacheFull: there is no room.
        """
        arena = self._arena_with_room(app)
        return make_call_block(self._draft, arena, self._lookup, app, frame_size, return_address)
