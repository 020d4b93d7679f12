"""Taking the translations out of an engine that has done its work; see `pydbi.jit.snapshot`."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING

from pydbi.jit.app_memory import PAGE_SHIFT, PAGE_SIZE
from pydbi.jit.arena import Arena
from pydbi.jit.block import Block
from pydbi.jit.cache import EXIT_DEAD
from pydbi.jit.context import SLOT
from pydbi.jit.snapshot import NUMBERS, Bounds, Fields, Layer, Snapshot

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

_FULL_FLAGS = SLOT["FULL_FLAGS"] >> 3
_CODE = Block._fields.index("code")


def take(
    engine: Engine, area_of: Callable[[int], Bounds | None], compared: dict[int, bytes]
) -> Snapshot | None:
    """Return the translations of an engine that will not run again.

    Args:
        area_of: returns the area [low, high) around an app address; None if its code is not to
            be kept.
        compared: bytes of pages that layers were found to be made of, by number.

    Returns:
        None if there are none.
    """
    areas = _part(engine, _sort(engine, area_of))
    if not areas:
        return None
    cache = engine.cache
    arena = cache.arena_at(next(iter(areas.values()))[0][_CODE])
    layers = []
    for blocks in areas.values():
        pages = _pages(blocks)
        code = _code(engine, pages, compared)
        if code is not None:
            layers.append(_layer(engine, pages, code, blocks, _exits(engine, blocks)))
    return _snapshot(engine, arena, tuple(layers))


def _snapshot(engine: Engine, arena: Arena, layers: tuple[Layer, ...]) -> Snapshot:
    guest = engine.guest
    memory, low, high = arena.memory, arena.address, arena.end
    return Snapshot(
        low,
        arena.code_top,
        arena.data_top,
        arena.last_code,
        arena.next_exit,
        arena.exit_limit,
        arena.stub_base,
        tuple(at if low <= at < high else 0 for at in engine.cache.stub_chunks),
        (guest.uses_x87, guest.uses_avx512, bool(guest.words[_FULL_FLAGS]), guest.swaps_fs),
        bytes(memory[: arena.code_top - low]),
        bytes(memory[arena.data_top - low : high - low]),
        layers,
    )


def _sort(engine: Engine, area_of: Callable[[int], Bounds | None]) -> dict[Bounds, list[Fields]]:
    """Return the live blocks of each area; drop those that are not to be kept."""
    cache = engine.cache
    areas: dict[Bounds, list[Fields]] = {}
    arena: Arena | None = None
    low = high = 0
    blocks: list[Fields] = []
    rejected = []
    for fields in cache.blocks:
        app, end, entry, code = fields[:4]
        if cache.entries.get(app) != entry:
            continue
        if not low <= app < high:
            area = area_of(app)
            if area is None:
                rejected.append(Block._make(fields))
                continue
            low, high = area
            blocks = areas.setdefault(area, [])
        arena = arena or cache.arena_at(code)
        if end > high or app in cache.checked or not arena.address <= code < arena.end:
            rejected.append(Block._make(fields))
        else:
            blocks.append(fields)
    _drop(engine, rejected)
    return {area: blocks for area, blocks in areas.items() if blocks}


def _drop(engine: Engine, blocks: Iterable[Block]) -> None:
    for block in blocks:
        engine.linker.drop(block)
        engine.cache.remove(block)


def _exits(engine: Engine, blocks: Iterable[Fields]) -> list[tuple[int, int, int]]:
    """Return the exits of blocks: (index, app address, cache address or ``EXIT_`` value)."""
    exits = engine.cache.exits
    found = []
    for app, end, _, code, code_end, first, last, *_ in blocks:
        for index in range(first, last):
            target, site = exits[index]
            # Others may be among them, whose chunk of stubs was begun meanwhile.
            if code <= site < code_end or (0 < site <= EXIT_DEAD and app < target <= end):
                found.append((index, target, site))
    return sorted(set(found))


def _part(engine: Engine, areas: dict[Bounds, list[Fields]]) -> dict[Bounds, list[Fields]]:
    """Undo links from area to area; drop the blocks that fall into one of another area."""
    cache = engine.cache
    parted = {}
    for (low, high), blocks in areas.items():
        leaving = {
            index
            for index, target, site in _exits(engine, blocks)
            if not low <= target < high and site > EXIT_DEAD
        }
        for index in leaving - cache.fallen:
            engine.linker.unlink(index)
        falling = leaving & cache.fallen
        sites = sorted(cache.exits[index][1] for index in falling)
        kept = []
        for fields in blocks:
            code, code_end = fields[_CODE : _CODE + 2]
            place = bisect_left(sites, code)
            if sites[place : place + 1] and sites[place] < code_end:
                _drop(engine, [Block._make(fields)])
            else:
                kept.append(fields)
        if kept:
            parted[low, high] = kept
    return parted


def _pages(blocks: Iterable[Fields]) -> tuple[int, ...]:
    """Return the numbers of the pages that blocks were made from."""
    pages = {fields[0] >> PAGE_SHIFT for fields in blocks}
    pages.update(fields[1] - 1 >> PAGE_SHIFT for fields in blocks)
    return tuple(sorted(pages))


def _code(engine: Engine, pages: Iterable[int], compared: dict[int, bytes]) -> bytes | None:
    """Return the bytes of pages that blocks were made from; None if that is not certain."""
    memory = engine.memory
    parts = []
    for number in pages:
        page = compared.get(number)
        app = number << PAGE_SHIFT
        if not memory.is_writable(app):  # it was read by this process
            read = memory.read_more(app, PAGE_SIZE)
            if page is not None and page != read:
                return None
            page = read
        if page is None or len(page) != PAGE_SIZE:
            return None
        parts.append(page)
    return b"".join(parts)


def _layer(
    engine: Engine,
    pages: tuple[int, ...],
    code: bytes,
    blocks: list[Fields],
    exits: list[tuple[int, int, int]],
) -> Layer:
    cache, lookup = engine.cache, engine.lookup
    columns = list(zip(*blocks, strict=True))
    resumes = cache.syscall_resumes
    syscalls = [(i, cache.syscall_places[i], resumes[i]) for i, _, _ in exits if i in resumes]
    pads = [(app, pad) for app in columns[0] if (pad := lookup.get(app)) is not None]
    return Layer(
        pages,
        code,
        _pack(chain(*columns[:NUMBERS])),
        columns[NUMBERS],
        columns[NUMBERS + 1],
        columns[NUMBERS + 2],
        _pack(chain(*zip(*exits, strict=True))),
        _pack(index for index, _, _ in exits if index in cache.fallen),
        _pack(chain(*zip(*syscalls, strict=True))),
        _pack(chain(*zip(*pads, strict=True))),
    )


def _pack(numbers: Iterable[int]) -> bytes:
    """Return numbers as 64-bit words."""
    words = tuple(numbers)
    return struct.pack(f"<{len(words)}Q", *words)
