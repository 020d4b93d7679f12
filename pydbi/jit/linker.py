"""Links between blocks, and the tables in which indirect branches look up their targets.

A direct exit jumps to its stub, which leaves for the dispatcher; once its target is translated the
jump goes straight there, and Python is out of the way. An indirect branch jumps through a table
entry that its target's low 16 bits choose, to the landing pad of a block that may or may not be
the right one; the pad compares and goes on, or falls back to a second table (``lookup.S``).
"""

from __future__ import annotations

import ctypes

from pydbi.host import cpu
from pydbi.host.memory import map_memory, unmap_memory, view
from pydbi.jit.cache import EXIT_DEAD, FIRST_INDEX, REACH, Block, CodeCache
from pydbi.jit.context import SLOT, TABLE_OFFSET
from pydbi.jit.guest import Guest
from pydbi.jit.stubs import stubs

_JMP = 0xE9
_L2_ENTRIES = 1 << 14
_L2_GUARD = 1 << 12
"""Entries behind the last index: a probe never wraps around, and never runs off the end."""
_FAST_LOOP = ("AuthenticAMD", "HygonGenuine")
"""Makers of processors on which LOOP costs no more than another conditional jump."""
_HALF = (1 << 32) - 1


class Linker:
    """Connects the blocks of one cache for the guest threads that run in it."""

    def __init__(self, cache: CodeCache, guests: list[Guest]) -> None:
        self._cache = cache
        self._guests = guests
        self._by_loop = cpu.has_bmi2() and cpu.cpu().vendor in _FAST_LOOP
        self._pad = stubs().template(f"landing_pad_{'loop' if self._by_loop else 'jrcxz'}")
        self._pad_low, self._pad_high = self._pad.holes["low"], self._pad.holes["high"]
        self.pad_entry = self._pad.holes["entry"]
        """Where in a landing pad it is entered, in bytes from its start."""
        self.restore_size = len(self._pad.code) - self._pad.holes["restore"]
        """How many bytes at a landing pad's end give the guest its rcx back."""
        self._far_before, _ = stubs().template("far_jump").around("target", 8)
        self._lookup_miss = stubs().find("lookup_miss")
        self._lookup_absent = stubs().find("lookup_absent")
        self._incoming: dict[int, list[int]] = {}
        self._indexed = FIRST_INDEX
        self._unused: list[int] = []
        self._pads: dict[int, int] = {}
        self._l2_address = 0
        self._l2_entries = _L2_ENTRIES
        self._make_l2()

    # Direct links.

    def link(self, index: int, code: int) -> None:
        """Make exit *index* jump to the cache address *code* from now on."""
        site = self._cache.exits[index][1]
        arena = self._cache.arena_at(site)
        displacement = code - site - 4
        if -REACH <= displacement < REACH:
            offset = site - arena.address
            arena.memory[offset : offset + 4] = displacement.to_bytes(4, "little", signed=True)
        else:
            # Too far for a jump: the stub becomes one that can go anywhere.
            stub = self._cache.stub_of(index)
            arena.write(stub, self._far_before + code.to_bytes(8, "little"))

    def relink(self, index: int) -> None:
        """Let exit *index*, whose jump has a new place, lead where it should."""
        cache = self._cache
        target, site = cache.exits[index]
        stub = cache.stub_of(index)
        arena = cache.arena_at(site)
        arena.write(site, (stub - site - 4).to_bytes(4, "little", signed=True))
        code = cache.entries.get(target)
        if code is not None:
            self.link(index, code)

    def unlink(self, index: int) -> None:
        """Send exit *index* back to the dispatcher, if it is still in use."""
        cache = self._cache
        site = cache.exits[index][1]
        if site <= EXIT_DEAD:
            return
        arena = cache.arena_at(site)
        stub = cache.stub_of(index)
        cache.rewrite_stub(index)
        if index in cache.fallen:
            # There is no jump to change: overwrite the target's first instructions, now dead.
            arena.write(site - 1, bytes((_JMP,)))
        arena.write(site, (stub - site - 4).to_bytes(4, "little", signed=True))

    def unlink_target(self, app: int) -> None:
        """Undo every direct link to the block at *app*."""
        self._index_exits()
        for index in self._incoming.get(app, ()):
            self.unlink(index)

    def _retire_exits(self, block: Block) -> None:
        """Send a removed block's exits to the dispatcher for good: it may be executing still.

        Afterwards the block's first bytes are free to be overwritten. An exit that falls into the
        next block stays, for as long as that block does.
        """
        exits, fallen = self._cache.exits, self._cache.fallen
        for index in range(block.first_exit, block.last_exit):
            target, site = exits[index]
            if block.code <= site < block.code_end and index not in fallen:
                self.unlink(index)
                exits[index] = (target, EXIT_DEAD)

    def _index_exits(self) -> None:
        # Translation does not keep this up: what is new is entered when somebody asks. Indices
        # whose stubs wait to be used are asked again next time.
        exits = self._cache.exits
        candidates = [*self._unused, *range(self._indexed, len(exits))]
        self._unused = [index for index in candidates if not exits[index][1]]
        for index in candidates:
            target, site = exits[index]
            if site > EXIT_DEAD:
                self._incoming.setdefault(target, []).append(index)
        self._indexed = len(exits)

    # Indirect branches.

    def landing_pad(self, app: int) -> bytearray:
        """Return the code of the landing pad for *app*; it goes on right behind itself."""
        code = bytearray(self._pad.code)
        low = -app & _HALF
        if self._by_loop:
            signed = low - (low >> 31 << 32)  # as LEA reads it
            high = 1 - (app + signed >> 32) & _HALF
        else:
            high = -(app >> 32) & _HALF
        code[self._pad_low : self._pad_low + 4] = low.to_bytes(4, "little")
        code[self._pad_high : self._pad_high + 4] = high.to_bytes(4, "little")
        return code

    def enter_pad(self, app: int, pad: int) -> None:
        """Let indirect branches to *app* enter the landing pad at cache address *pad*."""
        self._pads[app] = pad
        self._enter_l1(app, pad)
        if len(self._pads) * 2 > self._l2_entries:
            self._grow_l2()
        else:
            self._enter_l2(app, pad)

    def has_pad(self, app: int) -> bool:
        """Whether indirect branches to *app* are known."""
        return app in self._pads

    def add_pad(self, app: int, code: int) -> None:
        """Give the block at cache address *code* a landing pad, if it has none yet."""
        pad = self._pads.get(app)
        if pad is None:
            arena = self._cache.arena_at(code)
            body = self.landing_pad(app)
            pad = arena.data_top - len(body) - 5
            displacement = code - arena.data_top
            arena.add_data(body + b"\xe9" + displacement.to_bytes(4, "little", signed=True))
            self.enter_pad(app, pad + self.pad_entry)
        else:
            self._enter_l1(app, pad)

    def remove_pad(self, app: int) -> None:
        """Make indirect branches to *app* leave for the dispatcher again."""
        pad = self._pads.pop(app, None)
        if pad is None:
            return
        for guest in self._guests:
            place = self._l1_place(app)
            if guest.words[place] == pad:
                guest.words[place] = self._lookup_miss
        place = self._l2_place(app)
        self._l2[place + 1] = self._lookup_absent  # the key stays: probes go on behind it

    def _enter_l1(self, app: int, pad: int) -> None:
        place = self._l1_place(app)
        for guest in self._guests:
            guest.words[place] = pad

    @staticmethod
    def _l1_place(app: int) -> int:
        return (TABLE_OFFSET >> 3) + (app & 0xFFFF)

    def _l2_place(self, app: int) -> int:
        """Return the index, in words, of the entry of *app*, or of the free one it would get."""
        table = self._l2
        place = ((app >> 15 ^ app) & (self._l2_entries - 1)) * 2
        while table[place] and table[place] != app:
            place += 2
        return place

    def _enter_l2(self, app: int, pad: int) -> None:
        place = self._l2_place(app)
        if place >= (self._l2_entries + _L2_GUARD - 1) * 2:
            self._grow_l2()
            return
        self._l2[place + 1] = pad
        self._l2[place] = app

    def _make_l2(self) -> None:
        size = (self._l2_entries + _L2_GUARD) * 16
        self._l2_address = map_memory(size)
        self._l2_size = size
        self._l2 = view(self._l2_address, size).cast("Q")
        for guest in self._guests:
            self.attach(guest)

    def _grow_l2(self) -> None:
        old_address, old_size = self._l2_address, self._l2_size
        self._l2_entries *= 2
        self._make_l2()
        for app, pad in self._pads.items():
            self._enter_l2(app, pad)
        unmap_memory(old_address, old_size)

    def attach(self, guest: Guest) -> None:
        """Let *guest* look into the second-level table."""
        guest.words[SLOT["L2_TABLE"] >> 3] = self._l2_address
        guest.words[SLOT["L2_MASK"] >> 3] = self._l2_entries - 1

    # Forgetting.

    def drop(self, block: Block) -> None:
        """Undo everything that leads to *block*, and from it."""
        self._retire_exits(block)
        self.unlink_target(block.app)
        self.remove_pad(block.app)

    def reset(self) -> None:
        """Forget all links and lookups, together with the cache's own reset."""
        self._incoming.clear()
        self._indexed = FIRST_INDEX
        self._unused.clear()
        self._pads.clear()
        ctypes.memset(self._l2_address, 0, self._l2_size)
        for guest in self._guests:
            guest.clear_table()

    def close(self) -> None:
        """Give the memory back."""
        unmap_memory(self._l2_address, self._l2_size)
