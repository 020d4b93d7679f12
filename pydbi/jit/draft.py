"""A block while it is being translated: what the patch rules write to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

from pydbi.jit.arena import Arena
from pydbi.jit.cache import EXIT_STUB_SIZE, CodeCache
from pydbi.jit.context import GATE_RECORD_SIZE
from pydbi.jit.events import BlockEvents, EventPoint, EventRegistration, Report
from pydbi.jit.stubs import stubs
from pydbi.types import VMState

_signed = Struct("<i").pack
_record = Struct("<QQQQ").pack_into
CACHE_LINE = 64
GATE_BEFORE, GATE_AFTER = stubs().template("gate").around("index", 4)
GATE_SIZE = len(stubs().template("gate").code)

# The guest's registers as contexts count them, by their encoding number.
_CONTEXT_INDEX = (0, 2, 3, 1, 15, 14, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)


class BlockFull(Exception):  # noqa: N818
    """A block must end before the instruction at `app_address`: all words for records are taken."""

    def __init__(self, app_address: int) -> None:
        super().__init__(app_address)
        self.app_address = app_address


class Draft:
    """One block's translation in the making; the translator uses the same one again and again.

    Attributes:
        app: app address of the block; `code` its bytes.
        out: the translation so far; it will lie at cache address `base` in `arena`.
        shifts, scratch: see `Block`.
        instruction: app address of the instruction that gates are emitted for.
        branch_vectors: callbacks (offsets of their vectors) to run when the last instruction has
            decided where to go; `exit_report`: events to report then; `branch_is_watched`: whether
            there are any.
        rechecks: offsets in the block before which its code must be checked again.
        body: cache address behind the gates that report that the block is entered.
        shared: whether other threads may execute a jump while it is linked.
        event_vector: makes the vector for an event callback and a state.
    """

    __slots__ = (
        "app", "arena", "base", "body", "branch_is_watched", "branch_vectors", "cache", "code",
        "entries", "event_vector", "exit_report", "exits", "first_exit", "instruction", "out",
        "rechecks", "scratch", "shared", "shifts", "stub_base",
    )  # fmt: skip

    def __init__(
        self, cache: CodeCache, event_vector: Callable[[EventRegistration, VMState], int]
    ) -> None:
        self.cache = cache
        self.entries = cache.entries
        self.exits = cache.exits
        self.arena: Arena
        self.branch_is_watched = self.shared = False
        self.app = self.base = self.body = self.stub_base = self.instruction = self.first_exit = 0
        self.code = b""
        self.out = bytearray()
        self.shifts: list[tuple[int, int]] = []
        self.scratch: list[tuple[int, int, int, int]] = []
        self.branch_vectors: Sequence[int] = ()
        self.exit_report: Report | None = None
        self.event_vector = event_vector
        self.rechecks: Sequence[int] = ()

    def begin(self, app: int, code: bytes, arena: Arena, base: int) -> None:
        """Begin the translation of the block at *app*, with the bytes *code*, at *base*."""
        self.app = app
        self.code = code
        self.arena = arena
        self.base = base
        self.first_exit = arena.next_exit
        self.branch_vectors = ()
        self.exit_report = None
        self.rechecks = ()
        self.branch_is_watched = False
        if self.shifts or self.scratch:  # of a translation that failed
            self.shifts.clear()
            self.scratch.clear()

    def take_exits(self, count: int) -> int:
        """Reserve the next *count* exits, whose stubs lie one behind the other."""
        arena = self.arena
        index = arena.next_exit
        if index + count > arena.exit_limit:
            index = self.cache.add_exit_stubs(arena)
        arena.next_exit = index + count
        self.stub_base = arena.stub_base
        return index

    def exit(self, jump: bytes, target: int) -> None:
        """Emit *jump* with a displacement to the block at app address *target*, or to a stub."""
        index = self.take_exits(1)
        out = self.out
        if self.shared:
            self.keep_together(len(jump) + 4)
        out += jump
        site = self.base + len(out)
        self.exits[index] = (target, site)
        code = self.entries.get(target)
        distance = (code or self.stub_base + index * EXIT_STUB_SIZE) - site - 4
        if not -0x80000000 <= distance < 0x80000000:  # a block in another arena
            distance = self.stub_base + index * EXIT_STUB_SIZE - site - 4
        out += _signed(distance)

    def keep_together(self, size: int) -> None:
        """Have the next *size* bytes in one cache line, so that a link is made at one stroke."""
        left = -(self.base + len(self.out)) % CACHE_LINE
        if 0 < left < size:
            self.out += b"\x90" * left

    def constant(self, value: int) -> int:
        """Return the cache address of 8 bytes that hold *value*."""
        return self.arena.add_data(value.to_bytes(8, "little"))

    def shift(self, app_offset: int) -> None:
        """Note that the translation from *app_offset* on begins here."""
        self.shifts.append((app_offset, len(self.out)))

    def rests(self, first: int, last: int, register: int, slot: int) -> None:
        """Note that between two cache offsets a guest register (by encoding) rests in *slot*.

        A negative *slot* means that the register has the value of that slot added.
        """
        self.scratch.append((first, last, _CONTEXT_INDEX[register], slot))

    def gates(self, vectors: Sequence[int], rip: int) -> None:
        """Emit a gate for each callback vector; callbacks see *rip* (0: slot TARGET)."""
        cache = self.cache
        out = self.out
        for vector in vectors:
            index = cache.record_count
            cache.record_count = index + 1
            out += GATE_BEFORE + index.to_bytes(4, "little") + GATE_AFTER
            place = index * GATE_RECORD_SIZE
            _record(cache.records, place, vector, rip, self.base + len(out), self.instruction)

    def report(self, report: Report, rip: int) -> None:
        """Emit a gate for each callback that *report* is due to; see `gates` for *rip*."""
        if not report.due:
            return
        cache = self.cache
        point = EventPoint(cache.record_count, report.state, report.due)
        cache.points.append(
            (cache.record_count, 0, self.instruction, rip, 0, 0, len(cache.event_points))
        )
        cache.event_points.append(point)
        self.gates([self.event_vector(due, report.state) for due in report.due], rip)

    def watch_branch(self, vectors: Sequence[int], events: BlockEvents | None) -> None:
        """Let the branch that comes next have callbacks where it has decided where to go."""
        self.branch_vectors = vectors
        self.exit_report = events.exit() if events is not None else None
        self.branch_is_watched = bool(vectors or (self.exit_report and self.exit_report.due))

    def branch_gates(self, rip: int) -> None:
        """Emit what is due on the way from the last instruction to app address *rip*, or TARGET."""
        cache = self.cache
        if self.branch_vectors:
            first = cache.record_count
            if cache.points and cache.points[-1][6] >= 0:  # another way's events lie between
                cache.points.append((first, first, self.instruction, rip, 0, 0, -1))
            self.gates(self.branch_vectors, rip)
        if self.exit_report is not None:
            self.report(self.exit_report, rip)
