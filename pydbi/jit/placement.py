"""Where in its arena a block lies, and the jump that leads to it.

It is best placed where the jump to it would be: then there is no jump.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydbi.jit.arena import Arena
from pydbi.jit.draft import Draft
from pydbi.jit.linker import Linker
from pydbi.jit.lookup import LookupTable
from pydbi.jit.patch_branches import STORE_RCX

_JUMP = b"\xe9"
_JUMP_SIZE = 5


def place_behind(exits: Sequence[tuple[int, int]], origin: int, arena: Arena, top: int) -> int:
    """Return where a block that exit *origin* wants should begin; nothing is changed yet."""
    site = exits[origin][1]
    if site + 4 == top and site - 1 - arena.last_code >= _JUMP_SIZE:
        return site - 1  # in the place of the jump at the end
    if site + 4 + _JUMP_SIZE == top and arena.last_code < site:
        offset = site - arena.address
        is_jcc = arena.memory[offset - 2] == 0x0F and arena.memory[offset - 1] >> 4 == 8
        if is_jcc and exits[origin + 1][1] == site + 4 + 1:
            return site + 4  # behind the jcc, whose condition is turned round
    return top


def place(
    draft: Draft, lookup: LookupTable, app: int, end: int, entry: int, start: int, starts: list[int]
) -> None:
    """Copy *draft* into its arena and enter the block in the maps.

    Args:
        app: its app address.
        end: how many of the app's bytes it translates.
        entry: where direct jumps enter it.
        start: where its code begins, behind its landing pad.
        starts: offset of each instruction from *app*.
    """
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
    draft.cache.blocks.append(
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
        lookup.enter(app, base + lookup.pad_entry)


def connect(draft: Draft, linker: Linker, origin: int, app: int, start: int, top: int) -> None:
    """Let exit *origin* lead to the block that was placed at *start*."""
    exits = draft.exits
    site = exits[origin][1]
    if draft.shared:
        linker.link(origin, start)
    elif start == site - 1 and start < top:
        exits[origin] = (app, site)
        draft.cache.fallen.add(origin)
    elif start == site + 4 and start < top:
        # jcc A; jmp B; with A wanted first becomes jncc B; A follows.
        arena = draft.arena
        arena.memory[site - 1 - arena.address] ^= 1
        other, _ = exits[origin + 1]
        exits[origin + 1] = (other, site)
        exits[origin] = (app, start + 1)
        draft.cache.fallen.add(origin)
        linker.relink(origin + 1)
    else:
        linker.link(origin, start)


def add_direct_entry(arena: Arena, start: int) -> int:
    """Return where direct jumps enter a block that believes rcx to rest in its slot."""
    jump_end = arena.data_top
    distance = (start - jump_end).to_bytes(4, "little", signed=True)
    return arena.add_data(STORE_RCX + _JUMP + distance)
