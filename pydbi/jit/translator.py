"""From app bytes to a block in the cache.

scan (`x86/scanner`) -> patch (`patches`) -> gates where callbacks are due (`draft`) -> place
(`cache`). This is the engine's hot path: about half of the time goes into the scan.
"""

from __future__ import annotations

from bisect import bisect_right

from pydbi.errors import DecodeError, UnsupportedInstruction
from pydbi.jit.app_memory import LONGEST_INSTRUCTION, AppMemory
from pydbi.jit.broker import Broker
from pydbi.jit.cache import HEADROOM, Arena, CacheFull, CodeCache
from pydbi.jit.context import SLOT
from pydbi.jit.draft import Draft
from pydbi.jit.gates import Scanned, emit_with_gates, emit_with_gates_before
from pydbi.jit.guest import Guest
from pydbi.jit.instrumentation import Instrumentation, InstrumentedRanges
from pydbi.jit.linker import Linker
from pydbi.jit.lookup import LookupTable
from pydbi.jit.patch_branches import STORE_RCX, emit_push, overwrites_rcx
from pydbi.jit.patches import rule_for
from pydbi.jit.stubs import stubs
from pydbi.x86.registers import RCX
from pydbi.x86.scanner import FLOW, INVALID, LIMIT, TRUNCATED, scan_block
from pydbi.x86.traits import AVX512, FSBASE, SYSTEM_FLAGS, X87

BLOCK_LIMIT = 256
"""Instructions in a block, at most: longer ones are split."""
LONG_WINDOW = 4096
PAD_ALIGNMENT = 32
_JUMP = b"\xe9"
_JUMP_SIZE = 5
_SLOT_RCX = SLOT["SCRATCH_RCX"]
_STATE = X87 | AVX512 | SYSTEM_FLAGS | FSBASE
_NATIVE = stubs().template("native")
_CALL, _CALL_RETURN = stubs().template("call"), stubs().template("call_return")


class Translator:
    """Makes blocks for one cache."""

    def __init__(
        self,
        cache: CodeCache,
        linker: Linker,
        lookup: LookupTable,
        guests: list[Guest],
        memory: AppMemory,
        ranges: InstrumentedRanges,
        instrumentation: Instrumentation,
        broker: Broker,
    ) -> None:
        self._cache = cache
        self._linker = linker
        self._lookup = lookup
        self._guests = guests
        self._memory = memory
        self._ranges = ranges
        self._instrumentation = instrumentation
        self._broker = broker
        self._draft = Draft(cache)
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
        scanned = scan_block(code, BLOCK_LIMIT)
        if scanned[3] > LIMIT:
            code, scanned = self._scan_further(app, code, scanned)
        low, high, instrumented = self._span
        if not (low <= app and app + scanned[2] <= high):
            scanned, instrumented = self._cut(app, scanned)
        starts, specials, end, status = scanned

        arena = self._arena
        if arena is None or not arena.low_reach <= app < arena.high_reach:
            arena = self._choose_arena(app)
        if arena.data_top - arena.code_top < HEADROOM and self._cache.is_full(arena):
            raise CacheFull
        instrumentation = self._instrumentation
        gated = (
            instrumented and instrumentation.active and instrumentation.anything_in(app, app + end)
        )
        if pad:
            # Where a pad begins within its 32 bytes decides over a fifth of a dispatch's time.
            arena.code_top += -(arena.code_top + self._lookup.pad_entry) % PAD_ALIGNMENT
        top = arena.code_top
        base = self._place_behind(origin, arena, top) if origin else top
        draft = self._draft
        draft.begin(app, code, arena, base)
        draft.out = out = self._lookup.landing_pad(app) if pad else bytearray()
        if pad and not gated and overwrites_rcx(code, end):
            # What the pad would load is overwritten at once; until then it rests in its slot.
            del out[-self._lookup.restore_size :]
            draft.rests(len(out), len(out) + (starts[1] if starts[1:] else end), RCX, _SLOT_RCX)
            entry = self._add_direct_entry(arena, base + len(out))
        else:
            entry = base + len(out)
        start = base + len(out)
        entries = draft.entries
        entries[app] = entry  # the block may jump to itself
        try:
            if gated:
                due = instrumentation.uniform()
                if due is not None and not due.after:
                    seen = emit_with_gates_before(draft, scanned, due.before)
                else:
                    seen = emit_with_gates(draft, scanned, instrumentation.applicable)
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
        except UnsupportedInstruction as error:
            # The block ends before it: it raises when it is about to be executed.
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
        if seen & _STATE:
            self._notice(seen)
        if status != FLOW:
            draft.exit(_JUMP, app + end)
        self._place(app, end, entry, start, starts)
        if origin:
            self._connect(origin, app, start, top)
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
        if start == site - 1 and start < top:
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
            code = self._memory.read_more(app, LONG_WINDOW)
            starts, specials, end, status = scan_block(code, BLOCK_LIMIT)
        if status > LIMIT:
            if not end:
                if status == INVALID:
                    raise DecodeError(app, code[:LONGEST_INSTRUCTION])
                self._memory.read_more(app + len(code), 1)  # raises the fault of the next page
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
        self._place(app, 1, draft.base, draft.base, [0])
        return draft.base
