"""The code cache: arenas, blocks and where everything lies.

An arena is filled from both ends. Code grows upwards from its start in the order in which it is
first executed, so that a block usually lies right behind the one that led to it. Exit stubs,
constants and landing pads, all rarely executed, grow downwards from its end.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydbi.errors import CacheError
from pydbi.host.code_memory import CodeMemory
from pydbi.host.memory import map_memory, unmap_memory, view
from pydbi.jit.block_index import BlockIndex
from pydbi.jit.context import FIRST_EXIT, GATE_RECORD_SIZE
from pydbi.jit.stubs import stubs

if TYPE_CHECKING:
    from pydbi.jit.events import EventPoint, Report
    from pydbi.jit.record_readers import Reader
    from pydbi.jit.record_views import RecordView
    from pydbi.jit.recording import Plan

ARENA_SIZE = 64 << 20
REACH = (1 << 31) - (1 << 16)
"""How far a 32-bit displacement is trusted to reach."""
HEADROOM = 1 << 16
"""An arena with less room left than this is full: no single block needs as much."""
GATE_RECORDS = 1 << 21
EXIT_STUB_SIZE = 20
EXIT_SYSCALL = 1
EXIT_STALE = 2
EXIT_DEAD = 3
"""In place of a displacement's address: a system call; code that has changed since it was
translated; an exit of a block that was removed. Addresses are greater."""
_CHUNK = 256
_FAR_CHUNK = 1 << 14
_LOW_BYTES = bytes(range(_CHUNK))
FIRST_INDEX = _CHUNK
"""The first exit index in use; it leaves room for the other reasons to leave."""
assert FIRST_INDEX >= FIRST_EXIT
_CALL_TYPE = ctypes.PYFUNCTYPE(ctypes.c_uint)
_MANY = 1 << 64


class CacheFull(Exception):  # noqa: N818
    """The cache must be reset before another block is translated."""


class Block(NamedTuple):
    """A translated basic block, or the part of one that was translated in one go.

    The translator appends plain tuples with these fields to `CodeCache.blocks`, which costs a
    third of making the named ones; whoever reads them names them (`Block._make`).
    """

    app: int
    end: int
    """The app addresses it covers: [app, end)."""
    entry: int
    """Where direct jumps enter it; mostly the same as `code`."""
    code: int
    code_end: int
    """Its cache addresses, without a landing pad."""
    first_exit: int
    last_exit: int
    """Its exits have indices from first_exit to last_exit (excluded); others may be among them."""
    starts: Sequence[int]
    """Offset of each instruction from `app`."""
    shifts: Sequence[tuple[int, int]]
    """(app offset, cache offset) from which on the distance between the two is another."""
    scratch: Sequence[tuple[int, int, int, int]]
    """(first, last, register, slot): at cache offsets first to last (excluded) the guest's
    register, by its index in GPRState, rests in that context slot; -slot: it is in its place, but
    with the slot's value added."""

    def app_of(self, cache_address: int) -> int:
        """Return the app address of the instruction that *cache_address* belongs to."""
        offset = cache_address - self.code
        app_base = cache_base = 0
        bound = self.end - self.app
        for app_offset, cache_offset in self.shifts:
            if cache_offset > offset:
                bound = app_offset  # a rewritten instruction is longer, but ends here
                break
            app_base, cache_base = app_offset, cache_offset
        place = min(app_base + offset - cache_base, bound - 1)
        return self.app + self.starts[bisect_right(self.starts, place) - 1]

    def code_of(self, app: int) -> tuple[int, int]:
        """Return (address, end) of the translation of the instruction at *app*, gates included."""
        place = self.starts.index(app - self.app)
        following = self.starts[place + 1 : place + 2]
        end = self._cache_offset(following[0]) if following else self.code_end - self.code
        return self.code + self._cache_offset(app - self.app), self.code + end

    def _cache_offset(self, app_offset: int) -> int:
        app_base = cache_base = 0
        for shifted, cache_offset in self.shifts:
            if shifted > app_offset:
                break
            if shifted > app_base or not app_base:
                app_base, cache_base = shifted, cache_offset
        return cache_base + app_offset - app_base


class GatePoint(NamedTuple):
    """An instruction with callbacks: where they begin and end in its translation."""

    first_gate: int
    first_after: int
    """Gate indices: those from first_gate to first_after are due before the instruction."""
    app: int
    following: int
    """App addresses of the instruction and of the next one."""
    body: int
    """Cache address of the instruction itself."""
    behind: int
    """Cache address behind it, where the gates due after it begin; 0 for a branch."""
    event: int = -1
    """Index in `CodeCache.event_points` of what its gates report; -1: instruction callbacks."""


class Arena:
    """A region of executable memory within reach of the code it translates.

    Attributes:
        memory: its bytes. They are written here and executed at `address`; the two need not be the
            same pages.
        code_top, data_top: what lies between is free.
        last_code: where the block that was placed last begins.
        far_top, far_end: what lies between is free for code that is rarely executed.
        next_exit, exit_limit: exit indices whose stubs are written and wait to be used.
        stub_base: the stub of exit *index* is at ``stub_base + EXIT_STUB_SIZE * index``.
    """

    def __init__(self, size: int, near: tuple[int, int] | None, mapped_twice: bool) -> None:
        """Map *size* bytes near [low, high), or anywhere.

        Raises:
            CacheError: no memory is free there.
        """
        self._pages = CodeMemory(size, near, mapped_twice, self._extents)
        self.memory = self._pages.memory
        self.address = self._pages.address
        self.end = self.address + size
        self.low_reach = self.end - REACH
        self.high_reach = self.address + REACH
        self.reset()

    def reset(self) -> None:
        """Forget everything in it."""
        self.code_top = self.address
        self.data_top = self.end
        self.last_code = self.address
        self.far_top = self.far_end = 0
        self.next_exit = self.exit_limit = 0
        self.stub_base = 0

    def map_again(self, mapped_twice: bool) -> None:
        """Replace its memory, at the same address."""
        self._pages.map_again(mapped_twice)
        self.memory = self._pages.memory
        self.reset()

    def _extents(self) -> Iterable[tuple[int, int]]:
        return (self.address, self.code_top), (self.data_top, self.end)

    def close(self) -> None:
        """Give its memory back."""
        self._pages.close()

    def reaches(self, address: int) -> bool:
        """Whether all code in this arena reaches *address* with a 32-bit displacement."""
        return self.low_reach <= address < self.high_reach

    def write(self, address: int, data: bytes | bytearray) -> None:
        """Write at a cache address."""
        offset = address - self.address
        self.memory[offset : offset + len(data)] = data

    def take_far(self, size: int, code_top: int) -> int:
        """Return where there is room for *size* bytes of code that is rarely executed.

        Args:
            code_top: the end of the block in the making.

        Raises:
            CacheFull: there is no room.
        """
        if self.far_end - self.far_top < size:
            chunk = max(size + 7 & -8, _FAR_CHUNK)
            if self.data_top - chunk - code_top < HEADROOM // 2:
                raise CacheFull
            self.data_top -= chunk
            self.far_top, self.far_end = self.data_top, self.data_top + chunk
        return self.far_top

    def add_data(self, data: bytes | bytearray) -> int:
        """Put *data* right below `data_top` and return its address.

        `data_top` stays a multiple of 8, and so 8 bytes are aligned: the guest may have set AC.
        """
        place = self.data_top - len(data)
        self.data_top = place & -8
        offset = place - self.address
        self.memory[offset : offset + len(data)] = data
        return place


class CodeCache:
    """All generated code of a VM, and the maps from app addresses to it and back.

    Attributes:
        mapped_twice: whether arenas are writable at one address and executable at another.
        far_arena: the one for code that no arena can lie near to, if there is such code.
        entries: cache address of the live block at each app address.
        exits: (app address it goes to, cache address of the displacement that decides where it
            goes now, or an ``EXIT_`` value), by exit index. The first places stand for the other
            reasons to leave.
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
        self._stub_chunks: list[int] = []
        self._by_page: dict[int, list[Block]] = {}
        self._paged = 0
        self._call_thunk = stubs().template("call_thunk")
        self._stub = stubs().template("exit")
        self._stub_chunk = bytearray(self._stub.code * _CHUNK)
        assert len(self._stub.code) == EXIT_STUB_SIZE
        self.reset()

    def reset(self) -> None:
        """Forget all blocks and reuse their memory. Nothing of it may be executing."""
        for arena in self.arenas:
            arena.reset()
        self.entries.clear()
        self.blocks.clear()
        self.far_pieces.clear()
        self.far_ways.clear()
        self._index.clear()
        self.points.clear()
        self.event_points.clear()
        self.checked.clear()
        self.cut_exits.clear()
        self.cut_blocks.clear()
        self.borders.clear()
        self.bodies.clear()
        self.gate_records.clear()
        self.loads.clear()
        self.instruction_readers.clear()
        self.sequence_readers.clear()
        self.calls.clear()
        self.call_blocks.clear()
        self.syscall_resumes.clear()
        self.syscall_places.clear()
        self.fallen.clear()
        self._by_page.clear()
        self._paged = 0
        self._stub_chunks[:] = [0]  # the first indices are not exits
        self.exits[:] = [(0, 0)] * _CHUNK
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
            column = _LOW_BYTES if position == 0 else bytes((byte,)) * _CHUNK
            chunk[hole + position :: EXIT_STUB_SIZE] = column
        address = arena.add_data(chunk)
        self._stub_chunks.append(address)
        self.exits.extend([(0, 0)] * _CHUNK)
        arena.next_exit = first
        arena.exit_limit = first + _CHUNK
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
        return self._stub_chunks[index // _CHUNK] + index % _CHUNK * EXIT_STUB_SIZE

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
        for fields in self.blocks[self._paged :]:  # kept up only when asked for
            block = Block._make(fields)
            for page in range(block.app >> 12, ((block.end - 1) >> 12) + 1):
                self._by_page.setdefault(page, []).append(block)
        self._paged = len(self.blocks)
        pages: Iterable[int] = range(low >> 12, ((high - 1) >> 12) + 1)
        if high - low >> 12 > len(self._by_page):
            pages = [page for page in self._by_page if low >> 12 <= page <= (high - 1) >> 12]
        found = []
        for page in pages:
            for block in self._by_page.get(page, ()):
                if block.app < high and block.end > low and self.is_live(block):
                    found.append(block)
        return found

    def is_live(self, block: Block) -> bool:
        """Whether *block* is what executes at its app address."""
        return self.entries.get(block.app) == block.entry

    def remove(self, block: Block) -> None:
        """Take *block* out of the maps; its code stays until the next reset."""
        self.entries.pop(block.app, None)
        self.bodies.pop(block.app, None)
        for page in range(block.app >> 12, ((block.end - 1) >> 12) + 1):
            blocks = self._by_page.get(page)
            if blocks is not None:
                self._by_page[page] = [b for b in blocks if b.code != block.code]

    def close(self) -> None:
        """Give all memory back."""
        for arena in self.arenas:
            arena.close()
        self.arenas.clear()
        self.far_arena = None
        unmap_memory(self.records_address, GATE_RECORDS * GATE_RECORD_SIZE)
