"""Links between blocks.

A direct exit jumps to its stub, which leaves for the dispatcher; once its target is translated the
jump goes straight there, and Python is out of the way. What links make must be undone when a block
is removed.
"""

from __future__ import annotations

from pydbi.jit.arena import REACH
from pydbi.jit.block import Block
from pydbi.jit.cache import EXIT_DEAD, EXIT_STUB_SIZE, FIRST_INDEX, CodeCache
from pydbi.jit.lookup import LookupTable
from pydbi.jit.stubs import stubs

_JMP = 0xE9


class Linker:
    """Connects the blocks of one cache."""

    def __init__(self, cache: CodeCache, lookup: LookupTable) -> None:
        self._cache = cache
        self._lookup = lookup
        far_before, _ = stubs().template("far_jump").around("target", 8)
        self._far_opcode = far_before[:-4]
        self._incoming: dict[int, list[int]] = {}
        self._indexed = FIRST_INDEX
        self._unused: list[int] = []
        self.shared = False
        """Whether other threads may execute what is changed: then only whole displacements are."""

    def link(self, index: int, code: int) -> None:
        """Make exit *index* jump to the cache address *code* from now on."""
        site = self._cache.exits[index][1]
        arena = self._cache.arena_at(site)
        displacement = code - site - 4
        if -REACH <= displacement < REACH:
            offset = site - arena.address
            arena.memory[offset : offset + 4] = displacement.to_bytes(4, "little", signed=True)
        elif not self.shared:
            # Too far for a jump: the stub becomes one that can go anywhere.
            stub = self._cache.stub_of(index)
            arena.write(stub, self._far_jump(stub, code))

    def _far_jump(self, stub: int, code: int) -> bytes:
        """Return what jumps from *stub* to anywhere.

        The address that it reads is a multiple of 8, as the guest may have set AC. It is within the
        stub, which is a multiple of 4.
        """
        before = len(self._far_opcode) + 4
        gap = -(stub + before) & 7
        assert before + gap + 8 <= EXIT_STUB_SIZE
        return (
            self._far_opcode + gap.to_bytes(4, "little") + bytes(gap) + code.to_bytes(8, "little")
        )

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

    def add_pad(self, app: int, code: int) -> None:
        """Give the block at cache address *code* a landing pad, if it has none yet."""
        pad = self._lookup.get(app)
        if pad is not None:
            self._lookup.prefer(app, pad)
            return
        arena = self._cache.arena_at(code)
        body = self._lookup.landing_pad(app)
        displacement = code - arena.data_top
        place = arena.add_data(body + b"\xe9" + displacement.to_bytes(4, "little", signed=True))
        self._lookup.enter(app, place + self._lookup.pad_entry)

    def drop(self, block: Block) -> None:
        """Undo everything that leads to *block*, and from it."""
        self._retire_exits(block)
        self.unlink_target(block.app)
        self._lookup.remove(block.app)

    def reset(self) -> None:
        """Forget all links and lookups, together with the cache's own reset."""
        self._incoming.clear()
        self._indexed = FIRST_INDEX
        self._unused.clear()
        self._lookup.clear()
