"""From app bytes to a block in the cache.

scan (`x86/scanner`) -> patch (`patches`) -> gates where callbacks are due (`draft`) -> place
(`cache`). This is the engine's hot path: about half of the time goes into the scan.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydbi.errors import DecodeError, GuestFault, UnsupportedInstruction
from pydbi.host.late import load
from pydbi.jit import block_events
from pydbi.jit.app_memory import LONGEST_INSTRUCTION, AppMemory
from pydbi.jit.block_events import end_of_block, survey_block
from pydbi.jit.broker import Broker
from pydbi.jit.cache import HEADROOM, Arena, CacheFull, CodeCache
from pydbi.jit.code_check import behind_writes, emit_check
from pydbi.jit.context import SLOT
from pydbi.jit.draft import BlockFull, Draft
from pydbi.jit.events import (
    IN_BLOCKS,
    TRANSFER_CALL,
    TRANSFER_RETURN,
    BlockEvents,
    EventRegistration,
    Report,
    transfer_state,
)
from pydbi.jit.guest import Guest
from pydbi.jit.instrumentation import InstrumentedRanges
from pydbi.jit.instruments import Instruments
from pydbi.jit.linker import Linker
from pydbi.jit.lookup import LookupTable
from pydbi.jit.patch_branches import STORE_RCX, emit_push, overwrites_rcx
from pydbi.jit.patches import rule_for
from pydbi.jit.stubs import stubs
from pydbi.types import CodeCheck, VMState
from pydbi.x86.registers import RCX
from pydbi.x86.scanner import FLOW, INVALID, LIMIT, TRUNCATED, scan_block
from pydbi.x86.traits import AVX512, FSBASE, SYSTEM_FLAGS, X87

if TYPE_CHECKING:
    from pydbi.jit.gates import Scanned

BLOCK_LIMIT = 256
"""Instructions in a block, at most: longer ones are split."""
LONG_WINDOW = 4096
LONGEST_RECHECKED = 128
"""Bytes of a block that is compared again and again, instead of being split, at most."""
ROOM_FOR_ONE = 256
"""Bytes that an instruction's translation may take, on average over a block, with its gates."""
PAD_ALIGNMENT = 32
_JUMP = b"\xe9"
_JUMP_SIZE = 5
_SLOT_RCX = SLOT["SCRATCH_RCX"]
_STATE = X87 | AVX512 | SYSTEM_FLAGS | FSBASE
_NATIVE = stubs().template("native")
_TRANSFER_IN = stubs().template("transfer_in").code
_TRANSFER_OUT = stubs().template("transfer_out")
_CALL, _CALL_RETURN = stubs().template("call"), stubs().template("call_return")


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
            code, scanned = self._scan_further(app, code, scanned)
        low, high, instrumented = self._span
        if not (low <= app and app + scanned[2] <= high):
            scanned, instrumented = self._cut(app, scanned)
        check = self.code_check
        checked = check is not CodeCheck.NEVER and (
            check is CodeCheck.ALWAYS or self._memory.is_writable(app)
        )
        rechecks: Sequence[int] = ()
        if checked:
            scanned, rechecks = self._mind_writes(
                scanned, code, instrumented and instruments.active
            )
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
        behind = origin and not self._draft.shared
        base = self._place_behind(origin, arena, top) if behind else top
        draft = self._draft
        draft.begin(app, code, arena, base)
        draft.out = out = self._lookup.landing_pad(app) if pad else bytearray()
        plain = not (gated or checked or instruments.transfers)
        if pad and plain and overwrites_rcx(code, end):
            # What the pad would load is overwritten at once; until then it rests in its slot.
            del out[-self._lookup.restore_size :]
            draft.rests(len(out), len(out) + (starts[1] if starts[1:] else end), RCX, _SLOT_RCX)
            entry = self._add_direct_entry(arena, base + len(out))
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
                self._emit_transfer(draft, app, TRANSFER_RETURN if instrumented else TRANSFER_CALL)
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
            starts = [offset for offset in starts if offset < end]
            status = LIMIT
            seen = 0
            for special in specials:
                if special[0] < end:
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
        self._place(app, end, entry, start, starts)
        if origin:
            self._connect(origin, app, start, top)
        if events is not None:
            self._cache.borders[start] = events.borders
            self._cache.bodies[app] = (draft.body, events.entry())
            if events.is_new:
                self.fresh = FreshBlock(app, draft.body, events.first_entry())
        return entry

    def _add_direct_entry(self, arena: Arena, start: int) -> int:
        """Return where direct jumps enter a block that believes rcx to rest in its slot."""
        jump_end = arena.data_top
        distance = (start - jump_end).to_bytes(4, "little", signed=True)
        return arena.add_data(STORE_RCX + _JUMP + distance)

    def _place(self, app: int, end: int, entry: int, start: int, starts: list[int]) -> None:
        """Copy the draft into its arena and enter the block in the maps."""
        draft = self._draft
        arena, base, out = draft.arena, draft.base, draft.out
        offset = base - arena.address
        size = len(out)
        arena.memory[offset : offset + size] = out
        arena.code_top = base + size
        arena.last_code = start
        pad = base - start  # offsets in a block count from behind its landing pad
        shifts: tuple[tuple[int, int], ...] = ()
        scratch: tuple[tuple[int, int, int, int], ...] = ()
        if draft.shifts:
            shifts = tuple((a, c + pad) for a, c in draft.shifts) if pad else tuple(draft.shifts)
            draft.shifts.clear()
        if draft.scratch:
            scratch = tuple((f + pad, t + pad, r, s) for f, t, r, s in draft.scratch)
            draft.scratch.clear()
        packed = bytes(starts) if end < 256 else tuple(starts)
        self._cache.blocks.append(
            (
                app,
                app + end,
                entry,
                start,
                base + size,
                draft.first_exit,
                arena.next_exit,
                packed,
                shifts,
                scratch,
            )
        )
        if pad:
            self._lookup.enter(app, base + self._lookup.pad_entry)

    # A block is best placed where the jump to it would be: then there is no jump.

    def _place_behind(self, origin: int, arena: Arena, top: int) -> int:
        """Return where a block that exit *origin* wants should begin; nothing is changed yet."""
        exits = self._cache.exits
        site = exits[origin][1]
        if site + 4 == top and site - 1 - arena.last_code >= _JUMP_SIZE:
            return site - 1  # in the place of the jump at the end
        if site + 4 + _JUMP_SIZE == top and arena.last_code < site:
            offset = site - arena.address
            is_jcc = arena.memory[offset - 2] == 0x0F and arena.memory[offset - 1] >> 4 == 8
            if is_jcc and exits[origin + 1][1] == site + 4 + 1:
                return site + 4  # behind the jcc, whose condition is turned round
        return top

    def _connect(self, origin: int, app: int, start: int, top: int) -> None:
        """Let exit *origin* lead to the block that was placed at *start*."""
        exits = self._cache.exits
        site = exits[origin][1]
        if self._draft.shared:
            self._linker.link(origin, start)
        elif start == site - 1 and start < top:
            exits[origin] = (app, site)
            self._cache.fallen.add(origin)
        elif start == site + 4 and start < top:
            # jcc A; jmp B; with A wanted first becomes jncc B; A follows.
            arena = self._draft.arena
            arena.memory[site - 1 - arena.address] ^= 1
            other, _ = exits[origin + 1]
            exits[origin + 1] = (other, site)
            exits[origin] = (app, start + 1)
            self._cache.fallen.add(origin)
            self._linker.relink(origin + 1)
        else:
            self._linker.link(origin, start)

    def _scan_further(self, app: int, code: bytes, scanned: Scanned) -> tuple[bytes, Scanned]:
        """Finish a scan that ran out of bytes, or came to bytes that are no instruction."""
        starts, specials, end, status = scanned
        if status == TRUNCATED:
            window, limit = LONG_WINDOW, BLOCK_LIMIT
            if self._instruments.events.mask & IN_BLOCKS:
                window, limit = block_events.WINDOW, block_events.BLOCK_LIMIT
            code = self._memory.read_more(app, window)
            starts, specials, end, status = scan_block(code, limit)
        if status > LIMIT:
            if not end:
                if status == INVALID:
                    raise DecodeError(app, code[:LONGEST_INSTRUCTION])
                try:
                    self._memory.read_more(app + len(code), 1)
                except GuestFault as fault:  # of the next page; the instruction is here
                    where = (app, fault.fault_address)
                    raise GuestFault(fault.signal, fault.si_code, *where, code) from None
                raise DecodeError(app, code[:LONGEST_INSTRUCTION], "it goes on past the end")
            status = LIMIT  # what follows is looked at when it is reached
        return code, (starts, specials, end, status)

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

    def _cut(self, app: int, scanned: Scanned) -> tuple[Scanned, bool]:
        """Shorten a block so that it crosses no border; return it and whether it is inside."""
        low, high = self._ranges.bounds_around(app)
        if self._stop is not None:
            if self._stop <= app:
                low = max(low, self._stop)
            else:
                high = min(high, self._stop)
        instrumented = app in self._ranges
        self._span = (low, high, instrumented)
        starts, specials, end, status = scanned
        if app + end <= high:
            return scanned, instrumented
        limit = high - app
        bounds = [*starts[1:], end]
        count = bisect_right(bounds, limit)
        if not count:  # the first instruction crosses the border: it is not wholly inside
            count, instrumented = 1, False
        if count < len(starts):
            starts, end, status = starts[:count], bounds[count - 1], LIMIT
            specials = [special for special in specials if special[1] <= end]
        return (starts, specials, end, status), instrumented

    def _mind_writes(
        self, scanned: Scanned, code: bytes, seen: bool
    ) -> tuple[Scanned, Sequence[int]]:
        """Shorten a block of code that may change, so that it notices its own changes.

        If somebody sees where it ends it stays, and the offsets are returned too at which it must
        be checked again.
        """
        starts, specials, end, status = scanned
        places = behind_writes(starts, code)
        if seen and end <= LONGEST_RECHECKED:
            return scanned, places
        if places:
            end, status = places[0], LIMIT
            starts = [start for start in starts if start < end]
            specials = [special for special in specials if special[1] <= end]
        return (starts, specials, end, status), ()

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

    def _emit_transfer(self, draft: Draft, app: int, bits: int) -> None:
        """Emit what reports that execution has come into the instrumented ranges, or left them."""
        inside = bits == TRANSFER_RETURN
        due = self._instruments.events.due(bits)
        draft.instruction = 0  # none is current
        out = draft.out
        if inside:
            out += _TRANSFER_IN
            due = tuple(map(self._returning, due))
        else:
            out += _TRANSFER_OUT.filled("target", app.to_bytes(8, "little"))
        place = len(out)
        draft.report(Report(transfer_state(bits, app), due), app)
        out[place - 4 : place] = (len(out) - place).to_bytes(4, "little")
        draft.shift(0)

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
            if seen & X87:
                guest.need_x87()
            if seen & AVX512:
                guest.need_avx512()
            if seen & SYSTEM_FLAGS:
                guest.need_full_flags()
            if seen & FSBASE:
                guest.need_fs_swap()

    def _translate_native(self, app: int, pad: bool) -> int:
        """Make the block that hands over to native code at *app*."""
        arena = self._arena
        if arena is None or not arena.reaches(app):
            arena = self._choose_arena(app)
        if self._cache.is_full(arena):
            raise CacheFull
        draft = self._draft
        draft.begin(app, b"", arena, arena.code_top)
        draft.out = self._lookup.landing_pad(app) if pad else bytearray()
        start = draft.base + len(draft.out)
        if self._instruments.transfers:
            self._emit_transfer(draft, app, TRANSFER_CALL)
        draft.out += _NATIVE.filled("target", app.to_bytes(8, "little"))
        draft.entries[app] = start
        self._place(app, 1, start, start, [0])
        return start

    def translate_call(self, app: int, frame_size: int, return_address: int) -> int:
        """Make the code behind a call of the function at *app* from Python; return its address.

        It lowers rsp by *frame_size* and pushes *return_address*; the landing pad of that gives
        rsp back and leaves with REASON_RETURNED.

        Raises:
            CacheFull: there is no room.
        """
        arena = self._arena
        if arena is None or not arena.reaches(app):
            arena = self._choose_arena(app)
        if self._cache.is_full(arena):
            raise CacheFull
        draft = self._draft
        draft.begin(app, b"", arena, arena.code_top)
        if self._lookup.get(return_address) is None:
            code = self._lookup.landing_pad(return_address) + _CALL_RETURN.filled(
                "rip", return_address.to_bytes(4, "little")
            )
            pad = arena.add_data(code) + self._lookup.pad_entry
            self._lookup.enter(return_address, pad)
        draft.out = bytearray(
            _CALL.filled("frame", (-frame_size).to_bytes(4, "little", signed=True))
        )
        emit_push(draft, return_address)
        draft.exit(_JUMP, app)
        self._cache.call_blocks.add(draft.base)
        self._place(app, 1, draft.base, draft.base, [0])
        return draft.base
