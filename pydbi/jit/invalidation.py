"""When blocks are forgotten: because the app's code, or what is due in it, is not what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydbi.jit.block import Block
from pydbi.jit.block_events import end_of_block

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

MOST_DEAD_BLOCKS = 1000
"""Blocks that were forgotten take room until the whole cache is emptied; more of them, and more
than there are live ones, are not put up with."""


class Invalidation:
    """Takes blocks of one engine out of its cache.

    Attributes:
        is_reset_due: whether the cache is to be emptied before anything else is translated.
        cache_limit: bytes of generated code, stubs and constants with which the cache is emptied;
            0: it may fill its arenas.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cache = engine.cache
        self._dead_blocks = 0
        self.is_reset_due = False
        self.cache_limit = 0

    def make_room(self) -> bool:
        """Empty the cache if that is due, or if its limit is passed; return whether it was."""
        if self.is_reset_due or (self.cache_limit and self._cache.used_size() > self.cache_limit):
            self.reset()
            return True
        return False

    def forget(self, low: int, high: int) -> None:
        """Remove all blocks that overlap [*low*, *high*); their code is read anew.

        A block that is executing just now goes on to its end.
        """
        self._engine.memory.forget(low, high)
        self._engine.inspector.forget()
        self.forget_blocks(low, high)

    def drop_stale(self, app: int) -> None:
        """Forget the blocks that contain *app*, as code from there on is found to have changed."""
        self._engine.stats.stale_blocks += 1
        self._engine.memory.forget(app, app + 1)
        self._engine.inspector.forget()
        self.forget_blocks(app, app + 1)

    def forget_cut_blocks(self, stop: int) -> None:
        """Remove the blocks that end at *stop* only because a run stopped there."""
        for block in self._cache.blocks_in(stop - 1, stop):
            if block.code in self._cache.cut_blocks:
                self._forget_block(block)
                whole_end = end_of_block(self._engine.memory, self._engine.ranges, stop)
                self._engine.instruments.rules.forget(stop, whole_end)

    def forget_blocks(self, low: int, high: int) -> None:
        """Remove the blocks that overlap [*low*, *high*)."""
        try:
            for block in self._cache.blocks_in(low, high):
                self._forget_block(block)
        except BaseException:  # Ctrl-C between the two
            self.distrust()
            raise

    def _forget_block(self, block: Block) -> None:
        self._engine.linker.drop(block)
        self._cache.remove(block)
        self._engine.instruments.rules.forget(block.app, block.end)
        self._dead_blocks += 1
        if self._dead_blocks > max(MOST_DEAD_BLOCKS, len(self._cache.entries)):
            self.is_reset_due = True

    def forget_all(self) -> None:
        """Remove all blocks; at once if none is executing, else as soon as the cache is left.

        All code is read anew.
        """
        self._engine.memory.forget_all()
        self._engine.inspector.forget()
        self._engine.instruments.rules.release()
        self._cache.seen.clear()
        self._cache.seen_borders.clear()
        self.forget_translations()

    def forget_translations(self) -> None:
        """Remove all blocks; what is known of the app's code stays."""
        if not self._engine.dispatcher.running:
            if self._cache.blocks or self.is_reset_due:
                self.reset()
            return
        self.is_reset_due = True
        for fields in self._cache.blocks:
            block = Block._make(fields)
            if self._cache.is_live(block):
                self._engine.linker.drop(block)
                self._cache.remove(block)

    def distrust(self) -> None:
        """Forget everything before anything else is executed: what is there may be half made."""
        self.is_reset_due = True
        self._cache.entries.clear()
        self._cache.calls.clear()
        self._engine.memory.forget_all()
        self._engine.guest.select_switch()

    def reset(self) -> None:
        """Empty the cache. Nothing in it may be under way, but other threads may be."""
        if self._engine.sharing.active:
            self._engine.sharing.stop_others()
        self._engine.stats.note_reset()
        self._cache.reset()
        self._engine.linker.reset()
        self._engine.registrar.release()
        self._engine.inspector.by_gate.clear()
        self._dead_blocks = 0
        self.is_reset_due = False
        if self._engine.sharing.active:
            self._engine.sharing.let_go()

    def empty(self) -> bool:
        """Empty the cache if that is due; return whether it is empty."""
        self.make_room()
        return not self._cache.blocks
