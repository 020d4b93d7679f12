"""The translations of an engine, as they are put into another one.

Generated code names no address outside its arena but app addresses: it leaves through slots of the
context. So an arena can be written to a file as it stands, and be used again by an engine whose
arena lies at the same address, for an app whose code lies at the same addresses.

An app's code comes in areas, say the text of a library, which may change or go separately. What was
translated of one area is a layer. Direct jumps stay within their layer; from one layer to another
leads the lookup table alone. So each layer is made live by itself, once its area's code is known to
be the same, and what was not made live is never reached.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydbi.jit.app_memory import PAGE_SHIFT
from pydbi.jit.cache import STUBS_AT_ONCE
from pydbi.jit.context import SLOT
from pydbi.tuples import NamedTuple
from pydbi.types import CodeCheck, Options

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

_FULL_FLAGS = SLOT["FULL_FLAGS"] >> 3
NUMBERS = 7
"""The first fields of `Block` are numbers; behind them come `starts`, `shifts` and `scratch`."""
Fields = tuple[Any, ...]
"""A block's, in the order of `Block`."""
Bounds = tuple[int, int]


class Layer(NamedTuple):
    """What was translated of one area: tables, by columns, with 64-bit words as bytes.

    Of simple types only, so that marshal can write it.
    """

    pages: tuple[int, ...]
    """Numbers of the pages that its code lies in."""
    code: bytes
    """The bytes of these pages, which the translations were made from."""
    numbers: bytes
    starts: tuple[Any, ...]
    shifts: tuple[Any, ...]
    scratch: tuple[Any, ...]
    """The fields of its blocks."""
    exits: bytes
    """Columns: index, app address, cache address (or ``EXIT_`` value), as in `CodeCache.exits`."""
    fallen: bytes
    syscalls: bytes
    """Columns: index, cache addresses as in `CodeCache.syscall_places` and `syscall_resumes`."""
    pads: bytes
    """Columns: app address, landing pad."""

    @property
    def bounds(self) -> Bounds:
        """The app addresses [low, high) of its pages."""
        return self.pages[0] << PAGE_SHIFT, self.pages[-1] + 1 << PAGE_SHIFT

    def blocks(self) -> Iterator[Fields]:
        """Return its blocks."""
        columns = _columns(self.numbers, NUMBERS)
        return zip(*columns, self.starts, self.shifts, self.scratch, strict=True)

    def used_size(self) -> int:
        """Bytes that its blocks take in the arena."""
        columns = _columns(self.numbers, NUMBERS)
        return sum(columns[4]) - sum(columns[3])


class Snapshot(NamedTuple):
    """The translations of an engine, all in one arena; of simple types, but for the layers."""

    address: int
    code_top: int
    data_top: int
    last_code: int
    next_exit: int
    exit_limit: int
    stub_base: int
    """The arena's; see there."""
    stub_chunks: tuple[int, ...]
    """Where the stubs of each chunk of exits are; 0 for chunks of other arenas."""
    state: tuple[bool, bool, bool, bool]
    """Which state was seen in use: x87, AVX-512, unusual flags, an FS base of the guest's own."""
    code: bytes
    data: bytes
    """The arena's two ends."""
    layers: tuple[Layer, ...]


def is_plain(engine: Engine) -> bool:
    """Whether blocks are made of the app's code alone: nothing is called back, nothing native."""
    instruments, cache = engine.instruments, engine.cache
    return not (
        instruments.active
        or instruments.transfers
        or engine.sharing.active
        or engine.broker.functions
        or engine.broker.pages
        or cache.record_count
        or cache.call_blocks
        or engine.options != Options.NO_OPT
        or engine.translator.code_check is not CodeCheck.WRITABLE
    )


def restore(engine: Engine, snapshot: Snapshot, low: int, high: int) -> bool:
    """Fill the arena of an engine that has translated nothing yet; no layer is live then.

    Args:
        low, high: the app addresses near which the arena lies.

    Returns:
        Whether the arena lies where it was; if not, it stays empty.
    """
    cache = engine.cache
    arena = cache.arena_for(low, low, high)
    for guest in engine.guests:
        guest.set_cache_ranges(cache.ranges())
    if arena.address != snapshot.address:
        return False
    try:
        arena.write(arena.address, snapshot.code)
        arena.write(snapshot.data_top, snapshot.data)
        arena.code_top, arena.data_top = snapshot.code_top, snapshot.data_top
        arena.last_code = snapshot.last_code
        arena.next_exit, arena.exit_limit = snapshot.next_exit, snapshot.exit_limit
        arena.stub_base = snapshot.stub_base
        cache.stub_chunks[1:] = snapshot.stub_chunks[1:]
        cache.exits += [(0, 0)] * (STUBS_AT_ONCE * len(snapshot.stub_chunks) - len(cache.exits))
        for guest in engine.guests:
            uses = (guest.need_x87, guest.need_avx512, guest.need_full_flags, guest.need_fs_swap)
            for in_use, need in zip(snapshot.state, uses, strict=True):
                if in_use:
                    need()
    except BaseException:
        engine.invalidation.distrust()
        raise
    return True


def activate(engine: Engine, layer: Layer) -> bool:
    """Make a layer live; its area's code is as it was.

    Returns:
        Whether that was possible: no block is live yet where one of its blocks begins.
    """
    cache, lookup = engine.cache, engine.lookup
    blocks = list(layer.blocks())
    entries = {fields[0]: fields[2] for fields in blocks}
    if not cache.entries.keys().isdisjoint(entries):
        return False
    indices, targets, sites = _columns(layer.exits, 3)
    exits = list(zip(targets, sites, strict=True))
    for first, last in _consecutive(indices):
        start = indices[first]
        cache.exits[start : start + last - first] = exits[first:last]
    cache.fallen.update(words_of(layer.fallen))
    indices, places, resumes = _columns(layer.syscalls, 3)
    cache.syscall_places.update(zip(indices, places, strict=True))
    cache.syscall_resumes.update(zip(indices, resumes, strict=True))
    cache.blocks += blocks
    lookup.enter_all(list(zip(*_columns(layer.pads, 2), strict=True)))
    cache.entries.update(entries)
    engine.stats.note_restored(len(blocks), sum(map(len, layer.starts)))
    return True


def _consecutive(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Return the places [first, last) between which ascending numbers have no gaps."""
    first = 0
    count = len(numbers)
    while first < count:
        # Where there are no gaps, numbers grow with their places.
        offset = numbers[first] - first
        last = bisect_right(range(count), offset, key=lambda place: numbers[place] - place)
        yield first, last
        first = last


def words_of(packed: bytes) -> list[int]:
    return memoryview(packed).cast("Q").tolist()


def _columns(packed: bytes, count: int) -> list[list[int]]:
    """Return the *count* columns, equally long, of words."""
    words = words_of(packed)
    size = len(words) // count
    return [words[place : place + size] for place in range(0, count * size, size or 1)] or [
        [] for _ in range(count)
    ]
