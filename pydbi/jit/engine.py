"""The engine of one VM: its parts, and what must happen together."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from pydbi.errors import CacheError, PydbiError
from pydbi.jit.app_memory import AppMemory
from pydbi.jit.block_events import end_of_block
from pydbi.jit.broker import Broker, broker
from pydbi.jit.cache import ARENA_SIZE, Block, CacheFull, CodeCache
from pydbi.jit.context import SLOT
from pydbi.jit.dispatcher import Dispatcher
from pydbi.jit.dispositions import Dispositions, library_dispositions
from pydbi.jit.guest import Guest, release_guest
from pydbi.jit.guest_signals import GuestSignals
from pydbi.jit.inspector import Inspector
from pydbi.jit.instrumentation import InstrumentedRanges
from pydbi.jit.instruments import Instruments
from pydbi.jit.library_calls import library_calls
from pydbi.jit.linker import Linker
from pydbi.jit.lookup import LookupTable, SecondLevel
from pydbi.jit.registrar import Registrar
from pydbi.jit.sharing import Sharing
from pydbi.jit.signals import install_handlers
from pydbi.jit.syscalls import SystemCalls
from pydbi.jit.translator import Translator
from pydbi.jit.vectors import CallbackVectors, release_vectors
from pydbi.types import CodeCheck, Options

MOST_DEAD_BLOCKS = 1000
"""Blocks that were forgotten take room until the whole cache is emptied; more of them, and more
than there are live ones, are not put up with."""
_COUNTERS = {
    "blocks": "blocks translated, those forgotten since included",
    "restored_blocks": "blocks that were not translated, but taken from the disk cache",
    "instructions": "instructions translated, in all these blocks",
    "links": "exits linked to a block that was there already; new blocks are linked when made",
    "direct_exits": "times the cache was left through an exit that was not linked yet",
    "lookup_misses": "times an indirect branch went to an address without a landing pad",
    "lookup_collisions": "times the second-level table had to be asked",
    "native_calls": "functions that ran natively",
    "system_calls": "system calls that Python handled",
    "faults": "guest faults",
    "stale_blocks": "blocks found to be of code that has changed since",
    "resets": "times the whole cache was emptied, by request or because it was full",
    "cache_bytes": "bytes of generated code, stubs and constants now",
}


class Stats:
    """Counters of what the engine did; every slow path has one.

    Attributes:
    """

    blocks = restored_blocks = instructions = links = direct_exits = 0
    lookup_misses = lookup_collisions = 0
    native_calls = system_calls = faults = stale_blocks = resets = cache_bytes = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return {name: getattr(self, name) for name in _COUNTERS}

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.as_dict().items())
        return f"Stats({values})"


assert Stats.__doc__
Stats.__doc__ += "".join(f"        {name}: {text}.\n" for name, text in _COUNTERS.items())


class Engine:
    """Everything behind a VM.

    Args:
        vm: what callbacks are given; it is not kept alive.
        arena_size: bytes of code that an arena of the cache can hold.
        memory: the guest's memory as far as it is code; by default that of this process.
        system_calls: makes what handles the guest's; by default it is a library's.
        dispositions: of signals; by default those of libraries.
        native: knows what is not translated; by default that is what Python stands on.
    """

    def __init__(
        self,
        vm: object,
        arena_size: int = ARENA_SIZE,
        memory: AppMemory | None = None,
        system_calls: Callable[[Engine], SystemCalls] = library_calls,
        dispositions: Dispositions | None = None,
        native: Broker | None = None,
    ) -> None:
        install_handlers()
        self.vm: Callable[[], Any] = weakref.ref(vm)
        self.stats = Stats()
        self.guest = Guest()
        self.memory = memory or AppMemory()
        self.signals = GuestSignals(self, dispositions or library_dispositions())
        self.system_calls = system_calls(self)
        self.ranges = InstrumentedRanges()
        self.registrar = Registrar(self)
        self.instruments = Instruments(self)
        self.instrumentation = self.instruments.callbacks
        self.broker = native or broker()
        self.cache = CodeCache(arena_size)
        self.guests = guests = [self.guest]
        self.lookup = LookupTable(guests)
        self.linker = Linker(self.cache, self.lookup)
        self.translator = Translator(
            self.cache,
            self.linker,
            self.lookup,
            guests,
            self.memory,
            self.ranges,
            self.instruments,
            self.broker,
            self.registrar.add_event_vector,
            self.registrar.returning,
        )
        self.dispatcher = Dispatcher(self, self.guest)
        self.instruction_outside: int | None = None
        """App address of the instruction whose callbacks are called from Python, not by a gate; 0
        if they belong to none."""
        self.vectors = CallbackVectors(self.guest)
        self.sharing = Sharing(self)
        self.on_attach: Callable[[Guest, Dispatcher], None] = lambda guest, dispatcher: None
        self.inspector = Inspector(self)
        self.options = Options.NO_OPT
        self.cache_limit = 0
        """Bytes of generated code, stubs and constants with which the cache is emptied; 0: it may
        fill its arenas."""
        self._dead_blocks = 0
        self._reset_due = False
        self._restored = (0, 0)
        """How many of the blocks, and of their instructions, were not translated here."""
        self.guest.words[SLOT["GATE_RECORDS"] >> 3] = self.cache.records_address
        # Of what the finalizer holds nothing may lead back to the VM, or it would never run.
        weakref.finalize(
            vm,
            _close,
            self.guest.address,
            self.guest.thunk,
            self.cache,
            self.lookup.second_level,
            self.vectors.address,
        )

    # Translation.

    def translate(self, app: int, origin: int = 0, pad: bool = False) -> int:
        """Translate the block at *app*; make room for it first if there is none.

        To be called where nothing in the cache is under way: from the dispatcher.
        """
        if self._make_room():
            origin = 0
        try:
            return self.translator.translate(app, origin, pad)
        except CacheFull:
            self.reset()
        try:
            return self.translator.translate(app, 0, pad)
        except CacheFull:
            raise CacheError(
                f"the block at {app:#x} with all its callbacks does not fit into an empty cache of "
                f"{self.cache.arena_size:#x} bytes: use fewer callbacks, or a larger cache",
                app_address=app,
            ) from None

    def _make_room(self) -> bool:
        """Empty the cache if that is due, or if its limit is passed; return whether it was."""
        if self._reset_due or (self.cache_limit and self.cache.used_size() > self.cache_limit):
            self.reset()
            return True
        return False

    def precache(self, app: int) -> bool:
        """Translate the block at *app* ahead of its execution; False if it is there already."""
        if any(app - block.app in block.starts for block in self.cache.blocks_in(app, app + 1)):
            return False
        try:
            if self.dispatcher.running:
                self.translator.translate(app)
            else:
                self.translate(app)
            self.translator.fresh = None
        except CacheFull:
            raise CacheError(
                f"the cache of {self.cache.arena_size:#x} bytes is full, and cannot be emptied "
                "while a callback runs",
                app_address=app,
            ) from None
        except BaseException as error:
            if not isinstance(error, PydbiError):
                self.distrust()
            raise
        return True

    def add_call(self, app: int, frame_size: int, return_address: int) -> Callable[[], int]:
        """Return what calls the function at *app*: it enters the cache, and returns the REASON.

        It is remembered in `cache.calls`. The guest itself pushes the return address, so that a bad
        stack is its own fault and not Python's.
        """
        self._make_room()
        try:
            entry = self.translator.translate_call(app, frame_size, return_address)
        except CacheFull:
            self.reset()
            entry = self.translator.translate_call(app, frame_size, return_address)
        return self.cache.add_call(app, self.guest.address, entry)

    def run(self, app: int, stop: int) -> bool:
        """Run from *app* until just before *stop*, or on if that is -1; see `Dispatcher.run`."""
        self.dispatcher.check_not_running()
        try:
            if self.lookup.get(stop) is not None:
                # It may be that of `add_call`, which does not stop at `stop`.
                self.cache.calls.clear()
                self.lookup.remove(stop)
            if stop >= 0:
                self.forget_blocks(stop, stop + 1)
            self.translator.stop = stop
        except BaseException:
            self.distrust()
            raise
        try:
            return self.dispatcher.run(app, stop)
        finally:
            if stop and (self.instruments.events.mask or self.instruments.rules):
                self._forget_cut_blocks(stop)

    def set_options(self, options: Options) -> None:
        """Put other options in force; everything is translated anew.

        Raises:
            ReentryError: the guest is running.
        """
        self.dispatcher.check_not_running()
        self.options = options
        self.guest.backs_up_errno = not options & Options.OPT_DISABLE_ERRNO_BACKUP
        self.guest.saves_fpr = not options & Options.OPT_DISABLE_FPR
        self.guest.select_switch()
        self.dispatcher.forget_thread()
        if options & Options.OPT_ENABLE_FS_GS:
            self.guest.need_fs_swap()
        self.forget_all()

    def set_code_check(self, check: CodeCheck) -> None:
        """Have other code checked for changes; translate everything anew.

        Raises:
            ReentryError: the guest is running.
        """
        self.dispatcher.check_not_running()
        self.translator.code_check = check
        self.forget_all()

    def map_twice(self, twice: bool) -> None:
        """Have no page of the cache writable and executable at once, or all; empty it.

        Raises:
            ReentryError: the guest is running.
            OSError: the kernel refused.
        """
        self.dispatcher.check_not_running()
        if twice != self.cache.mapped_twice:
            self.distrust()  # should it fail halfway
            self.cache.map_arenas(twice)
            self.reset()

    # What is instrumented.

    def add_range(self, low: int, high: int) -> None:
        """Let callbacks apply in [*low*, *high*)."""
        self.ranges.add(low, high)
        self._ranges_changed(low, high)

    def remove_range(self, low: int, high: int) -> None:
        """Let callbacks no longer apply in [*low*, *high*)."""
        self.ranges.remove(low, high)
        self._ranges_changed(low, high)

    def _ranges_changed(self, low: int, high: int) -> None:
        self.translator.forget_span()
        self.cache.calls.clear()
        if self.instruments.active or self.instruments.transfers:
            self.forget_blocks(low, high)

    # Forgetting.

    def forget(self, low: int, high: int) -> None:
        """Remove all blocks that overlap [*low*, *high*); their code is read anew.

        A block that is executing just now goes on to its end.
        """
        self.memory.forget(low, high)
        self.inspector.forget()
        self.forget_blocks(low, high)

    def drop_stale(self, app: int) -> None:
        """Forget the blocks that contain *app*, as code from there on is found to have changed."""
        self.stats.stale_blocks += 1
        self.memory.forget(app, app + 1)
        self.inspector.forget()
        self.forget_blocks(app, app + 1)

    def _forget_cut_blocks(self, stop: int) -> None:
        """Remove the blocks that end at *stop* only because a run stopped there."""
        for block in self.cache.blocks_in(stop - 1, stop):
            if block.code in self.cache.cut_blocks:
                self._forget_block(block)
                whole_end = end_of_block(self.memory, self.ranges, stop)
                self.instruments.rules.forget(stop, whole_end)

    def forget_blocks(self, low: int, high: int) -> None:
        """Remove the blocks that overlap [*low*, *high*)."""
        try:
            for block in self.cache.blocks_in(low, high):
                self._forget_block(block)
        except BaseException:  # Ctrl-C between the two
            self.distrust()
            raise

    def _forget_block(self, block: Block) -> None:
        self.linker.drop(block)
        self.cache.remove(block)
        self.instruments.rules.forget(block.app, block.end)
        self._dead_blocks += 1
        if self._dead_blocks > max(MOST_DEAD_BLOCKS, len(self.cache.entries)):
            self._reset_due = True

    def forget_all(self) -> None:
        """Remove all blocks; at once if none is executing, else as soon as the cache is left.

        All code is read anew.
        """
        self.memory.forget_all()
        self.inspector.forget()
        self.instruments.rules.release()
        self.cache.seen.clear()
        self.cache.seen_borders.clear()
        self.forget_translations()

    def forget_translations(self) -> None:
        """Remove all blocks; what is known of the app's code stays."""
        if not self.dispatcher.running:
            if self.cache.blocks or self._reset_due:
                self.reset()
            return
        self._reset_due = True
        for fields in self.cache.blocks:
            block = Block._make(fields)
            if self.cache.is_live(block):
                self.linker.drop(block)
                self.cache.remove(block)

    def distrust(self) -> None:
        """Forget everything before anything else is executed: what is there may be half made."""
        self._reset_due = True
        self.cache.entries.clear()
        self.cache.calls.clear()
        self.memory.forget_all()
        self.guest.select_switch()

    def reset(self) -> None:
        """Empty the cache. Nothing in it may be under way, but other threads may be."""
        if self.sharing.active:
            self.sharing.stop_others()
        self._add_blocks_to(self.stats)
        self.stats.resets += 1
        self.cache.reset()
        self.linker.reset()
        self.registrar.release()
        self.inspector.by_gate.clear()
        self._dead_blocks = 0
        self._reset_due = False
        self._restored = (0, 0)
        if self.sharing.active:
            self.sharing.let_go()

    def empty(self) -> bool:
        """Empty the cache if that is due; return whether it is empty."""
        self._make_room()
        return not self.cache.blocks

    def after_run(self) -> None:
        """Let go of what machine code can no longer use."""
        if not any(thread.dispatcher.running for thread in self.sharing.threads):
            self.vectors.settle()

    # Threads of the guest, beside the one that `run` runs; see `Sharing`.

    def add_guest(self, guest: Guest) -> None:
        """Let another thread use the cache."""
        self.guests.append(guest)
        guest.set_cache_ranges(self.cache.ranges())
        self.lookup.attach(guest)

    def remove_guest(self, guest: Guest) -> None:
        """Forget a thread that is over."""
        self.guests.remove(guest)
        self.vectors.detach(guest)
        release_guest(guest.address, guest.thunk)

    def attach(self, guest: Guest, dispatcher: Dispatcher) -> None:
        """Have the thread with this context be the one that is in Python."""
        self.guest = guest
        self.dispatcher = dispatcher
        self.on_attach(guest, dispatcher)

    # Counting.

    @property
    def is_reset_due(self) -> bool:
        """Whether the cache is to be emptied before anything else is translated."""
        return self._reset_due

    @property
    def fresh_blocks(self) -> int:
        """How many of the blocks in the cache were translated here."""
        return len(self.cache.blocks) - self._restored[0]

    def note_restored(self, blocks: int, instructions: int) -> None:
        """Take notice of blocks in the cache that were not translated here."""
        self.stats.restored_blocks += blocks
        self._restored = self._restored[0] + blocks, self._restored[1] + instructions

    def _add_blocks_to(self, stats: Stats) -> None:
        stats.blocks += self.fresh_blocks
        stats.instructions += sum(len(f[7]) for f in self.cache.blocks) - self._restored[1]

    def snapshot(self) -> Stats:
        """Return the counters as they stand."""
        words = self.guest.words
        result = Stats()
        vars(result).update(self.stats.as_dict())
        self._add_blocks_to(result)
        result.lookup_collisions = words[SLOT["COUNT_L2_HITS"] >> 3]
        result.native_calls = words[SLOT["COUNT_NATIVE_CALLS"] >> 3]
        result.cache_bytes = self.cache.used_size()
        return result


def _close(context: int, thunk: int, cache: CodeCache, table: SecondLevel, vectors: int) -> None:
    release_guest(context, thunk)
    release_vectors(vectors)
    cache.close()
    table.close()
