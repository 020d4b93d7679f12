"""The code cache: what was translated, and where everything lies."""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydbi.errors import CacheError
from pydbi.host.memory import map_memory, unmap_memory, view
from pydbi.jit.arena import ARENA_SIZE, HEADROOM, Arena
from pydbi.jit.block import Block, GatePoint
from pydbi.jit.block_index import BlockIndex, PageIndex
from pydbi.jit.context import FIRST_EXIT, GATE_RECORD_SIZE
from pydbi.jit.stubs import stubs

if TYPE_CHECKING:
    from pydbi.jit.events import EventPoint, Report
    from pydbi.jit.record_readers import Reader
    from pydbi.jit.record_views import RecordView
    from pydbi.jit.recording import Plan

GATE_RECORDS = 1 << 21
EXIT_STUB_SIZE = 20
EXIT_SYSCALL = 1
EXIT_STALE = 2
EXIT_DEAD = 3
"""In place of a displacement's address: a system call; code that has changed since it was
translated; an exit of a block that was removed. Addresses are greater."""
STUBS_AT_ONCE = 256
"""Exit stubs are written so many at a time."""
_LOW_BYTES = bytes(range(STUBS_AT_ONCE))
FIRST_INDEX = STUBS_AT_ONCE
"""The first exit index in use; it leaves room for the other reasons to leave."""
assert FIRST_INDEX >= FIRST_EXIT
_CALL_TYPE = ctypes.PYFUNCTYPE(ctypes.c_uint)
_MANY = 1 << 64


class CodeCache:
    """All generated code of a VM, and the maps from app addresses to it and back.

    Attributes:
        mapped_twice: whether arenas are writable at one address and executable at another.
        far_arena: the one for code that no arena can lie near to, if there is such code.
        entries: cache address of the live block at each app address.
        exits: (app address it goes to, cache address of the displacement that decides where it
            goes now, or an ``EXIT_`` value), by exit index. The first places stand for the other
            reasons to leave.
        stub_chunks: where these stubs lie, by index divided by `STUBS_AT_ONCE`.
        fallen: exits that are no jump any more because their target was placed right behind
            them; for these the displacement's address is the target's second byte.
        blocks: every block placed since the last reset, in that order, as `Block`'s fields.
        points: the instructions with gates, in the order of these, as `GatePoint`'s fields.
        event_points: what gates report that are not an instruction's.
        borders: where the sequences of a block begin, and where it ends, by `Block.code`; of blocks
            that report events.
        checked: the bytes of blocks that compare them when they are entered, by app address.
        cut_exits: those of blocks that end because a run is to stop behind them.
        cut_blocks: these blocks, by `Block.code`.
        bodies: cache address behind the gates that report a block's entry, and what they report,
            by app address.
        seen: instructions that were translated before the event callbacks changed: no news since.
        seen_borders: the borders of the blocks they were in, by app address.
        gate_records: what was recorded when a gate is reached, if anything is, by gate.
        loads: the pieces of code that read the guest's memory to record it, by app address of their
            instruction: (first cache address, address behind the last, what is recorded).
        instruction_readers, sequence_readers: what reads it, by gate, as far as somebody has asked.
        far_pieces: code that lies elsewhere and belongs to a block, with `Block`'s fields; its
            instructions are some of the block's.
        far_ways: (app address, cache address of the displacement of the jump) by which a piece of
            these is left, by its gates.
        call_blocks: the blocks by which these enter the cache, by `Block.code`.
        calls: what calls a function from Python, by its app address; see `add_call`.
        syscall_places: cache address of a SYSCALL instruction, by exit index.
        syscall_resumes: cache address behind a system call, by exit index.
    """

    def __init__(self, arena_size: int = ARENA_SIZE) -> None:
        self.arena_size = arena_size
        self.mapped_twice = False
        self.arenas: list[Arena] = []
        self.far_arena: Arena | None = None
        self._without_room: set[int] = set()
        self.entries: dict[int, int] = {}
        self.exits: list[tuple[int, int]] = []
        self.fallen: set[int] = set()
        self.blocks: list[tuple[Any, ...]] = []
        self.far_pieces: list[tuple[Any, ...]] = []
        self.far_ways: dict[int, tuple[int, int]] = {}
        self._index = BlockIndex(self.blocks, self.far_pieces)
        self._pages = PageIndex(self.blocks)
        self.calls: dict[int, Callable[[], int]] = {}
        self.call_blocks: set[int] = set()
        self.syscall_resumes: dict[int, int] = {}
        self.syscall_places: dict[int, int] = {}
        self.points: list[tuple[int, ...]] = []
        self.event_points: list[EventPoint] = []
        self.checked: dict[int, bytes] = {}
        self.cut_exits: set[int] = set()
        self.cut_blocks: set[int] = set()
        self.borders: dict[int, tuple[int, ...]] = {}
        self.bodies: dict[int, tuple[int, Report]] = {}
        self.seen: set[int] = set()
        self.seen_borders: dict[int, tuple[int, ...]] = {}
        self.gate_records: dict[int, RecordView] = {}
        self.loads: dict[int, list[tuple[int, int, Plan]]] = {}
        self.instruction_readers: dict[int, Reader] = {}
        self.sequence_readers: dict[int, Reader] = {}
        self.records_address = map_memory(GATE_RECORDS * GATE_RECORD_SIZE)
        self.records = view(self.records_address, GATE_RECORDS * GATE_RECORD_SIZE)
        self.record_words = self.records.cast("Q")
        self.stub_chunks: list[int] = []
        self._call_thunk = stubs().template("call_thunk")
        self._stub = stubs().template("exit")
        self._stub_chunk = bytearray(self._stub.code * STUBS_AT_ONCE)
        assert len(self._stub.code) == EXIT_STUB_SIZE
        self._contents = (
            self.entries, self.blocks, self.far_pieces, self.far_ways, self._index,
            self._pages, self.points, self.event_points, self.checked, self.cut_exits,
            self.cut_blocks, self.borders, self.bodies, self.gate_records, self.loads,
            self.instruction_readers, self.sequence_readers, self.calls,
            self.call_blocks, self.syscall_resumes, self.syscall_places, self.fallen,
        )  # fmt: skip
        self.reset()

    def reset(self) -> None:
        """Forget all blocks and reuse their memory. Nothing of it may be executing."""
        for arena in self.arenas:
            arena.reset()
        for content in self._contents:
            content.clear()
        self.stub_chunks[:] = [0]  # the first indices are not exits
        self.exits[:] = [(0, 0)] * STUBS_AT_ONCE
        self.record_count = 0

    def map_arenas(self, mapped_twice: bool) -> None:
        """Map all arenas once or twice from now on. Afterwards all blocks must be forgotten."""
        for arena in self.arenas:
            arena.map_again(mapped_twice)
        self.mapped_twice = mapped_twice

    def arena_for(self, app: int, low: int, high: int) -> Arena:
        """Return an arena that reaches *app*, near [*low*, *high*) if it has to be made.

        If there is no room so near, it is one that does not reach it: then operands relative to
        RIP take a scratch register.
        """
        for arena in self.arenas:
            if arena.reaches(app):
                return arena
        for near, far in () if low in self._without_room else ((low, high), (app, app + 1)):
            try:
                arena = Arena(self.arena_size, (near, far), self.mapped_twice)
                break
            except CacheError:
                continue
        else:
            self._without_room.add(low)
            if self.far_arena is None:
                self.far_arena = Arena(self.arena_size, None, self.mapped_twice)
                self.arenas.append(self.far_arena)
            return self.far_arena
        self.arenas.append(arena)
        return arena

    def is_full(self, arena: Arena) -> bool:
        """Whether *arena*, or the room for gate records, may not hold another block."""
        return (
            arena.data_top - arena.code_top < HEADROOM
            or self.record_count > GATE_RECORDS - HEADROOM // 16
        )

    def add_exit_stubs(self, arena: Arena) -> int:
        """Write the next chunk of exit stubs into *arena*; return the index of its first.

        Stubs are the same but for their index: writing 256 at once, byte position by byte
        position, costs 10 ns each.
        """
        first = len(self.exits)
        chunk, hole = self._stub_chunk, self._stub.holes["index"]
        for position, byte in enumerate(first.to_bytes(4, "little")):
            column = _LOW_BYTES if position == 0 else bytes((byte,)) * STUBS_AT_ONCE
            chunk[hole + position :: EXIT_STUB_SIZE] = column
        address = arena.add_data(chunk)
        self.stub_chunks.append(address)
        self.exits.extend([(0, 0)] * STUBS_AT_ONCE)
        arena.next_exit = first
        arena.exit_limit = first + STUBS_AT_ONCE
        arena.stub_base = address - first * EXIT_STUB_SIZE
        return first

    def add_call(self, app: int, context: int, entry: int) -> Callable[[], int]:
        """Make, and remember for *app*, what enters the cache at *entry* to call that function."""
        code = bytearray(self._call_thunk.code)
        for hole, value in (("context", context), ("entry", entry)):
            place = self._call_thunk.holes[hole]
            code[place : place + 8] = value.to_bytes(8, "little")
        call: Callable[[], int] = _CALL_TYPE(self.arena_at(entry).add_data(code))
        self.calls[app] = call
        return call

    def leave_far_piece(self, gate: int) -> None:
        """Let the far piece that *gate* is in leave for the dispatcher, not for its old block."""
        if gate in self.far_ways:
            following, site = self.far_ways[gate]
            arena = self.arena_at(site)
            if arena.next_exit == arena.exit_limit:
                self.add_exit_stubs(arena)
            index = arena.next_exit
            arena.next_exit += 1
            self.exits[index] = (following, EXIT_DEAD)
            distance = self.stub_of(index) - site - 4
            arena.write(site, distance.to_bytes(4, "little", signed=True))

    def stub_of(self, index: int) -> int:
        """Return the cache address of an exit's stub."""
        return self.stub_chunks[index // STUBS_AT_ONCE] + index % STUBS_AT_ONCE * EXIT_STUB_SIZE

    def rewrite_stub(self, index: int) -> None:
        """Make an exit's stub what it was at first."""
        stub = self.stub_of(index)
        code = self._stub.filled("index", index.to_bytes(4, "little"))
        self.arena_at(stub).write(stub, code)

    def point_of(self, gate: int) -> GatePoint:
        """Return the instruction that a gate belongs to."""
        return GatePoint._make(self.points[bisect_right(self.points, (gate, _MANY)) - 1])

    def translation_of(self, block: Block, app: int) -> tuple[int, int, int, int]:
        """Return where in *block* the instruction at *app* was translated to.

        Returns:
            Address and size of its translation; offset and size of the instruction itself in it.
        """
        start, end = block.code_of(app)
        for point in self.points:
            if point[2] == app and point[6] < 0 and start <= point[4] <= end:
                return start, end - start, point[4] - start, (point[5] or end) - point[4]
        return start, end - start, 0, end - start

    def last_gate_of(self, point: GatePoint) -> int:
        """Return the index of the last gate due at an instruction."""
        place = bisect_right(self.points, (point.first_gate, _MANY))
        following = self.points[place][0] if place < len(self.points) else self.record_count
        return following - 1

    def record_word(self, gate: int, word: int) -> int:
        """Return a word of a gate record: 0 vector, 1 rip, 2 resume address, 3 instruction."""
        return self.record_words[gate * (GATE_RECORD_SIZE // 8) + word]

    def used_size(self) -> int:
        """Bytes of generated code, stubs and constants."""
        return sum(a.code_top - a.address + a.end - a.data_top for a in self.arenas)

    def count_code_pages(self) -> int:
        """Return how many pages of 4 KiB the translated code takes."""
        return sum((a.code_top - a.address + 4095) >> 12 for a in self.arenas)

    def ranges(self) -> list[tuple[int, int]]:
        """The cache addresses that can be generated code."""
        return [(arena.address, arena.end) for arena in self.arenas]

    def arena_at(self, cache_address: int) -> Arena:
        """Return the arena that *cache_address* lies in.

        Raises:
            KeyError: it is in none.
        """
        for arena in self.arenas:
            if arena.address <= cache_address < arena.end:
                return arena
        raise KeyError(cache_address)

    def block_of(self, cache_address: int) -> Block | None:
        """Return the block whose translation covers *cache_address*, removed ones included."""
        fields = self._index.find(cache_address)
        return None if fields is None else Block._make(fields)

    def blocks_in(self, low: int, high: int) -> list[Block]:
        """Return the live blocks that overlap the app addresses [*low*, *high*)."""
        return [block for block in self._pages.find(low, high) if self.is_live(block)]

    def is_live(self, block: Block) -> bool:
        """Whether *block* is what executes at its app address."""
        return self.entries.get(block.app) == block.entry

    def remove(self, block: Block) -> None:
        """Take *block* out of the maps; its code stays until the next reset."""
        self.entries.pop(block.app, None)
        self.bodies.pop(block.app, None)
        self._pages.remove(block)

    def close(self) -> None:
        """Give all memory back."""
        for arena in self.arenas:
            arena.close()
        self.arenas.clear()
        self.far_arena = None
        unmap_memory(self.records_address, GATE_RECORDS * GATE_RECORD_SIZE)
