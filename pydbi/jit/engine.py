"""The engine of one VM: its parts, and what must happen together."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from pydbi.errors import CacheError, PydbiError
from pydbi.jit.app_memory import AppMemory
from pydbi.jit.arena import ARENA_SIZE, CacheFull
from pydbi.jit.broker import Broker, broker
from pydbi.jit.cache import CodeCache
from pydbi.jit.context import SLOT
from pydbi.jit.dispatcher import Dispatcher
from pydbi.jit.dispositions import Dispositions, library_dispositions
from pydbi.jit.guest import Guest, release_guest
from pydbi.jit.guest_signals import GuestSignals
from pydbi.jit.inspector import Inspector
from pydbi.jit.instrumentation import InstrumentedRanges
from pydbi.jit.instruments import Instruments
from pydbi.jit.invalidation import Invalidation
from pydbi.jit.library_calls import library_calls
from pydbi.jit.linker import Linker
from pydbi.jit.lookup import LookupTable, SecondLevel
from pydbi.jit.registrar import Registrar
from pydbi.jit.sharing import Sharing
from pydbi.jit.signals import install_handlers
from pydbi.jit.stats import Counters, Stats
from pydbi.jit.syscalls import SystemCalls
from pydbi.jit.translator import Translator
from pydbi.jit.vectors import CallbackVectors, release_vectors
from pydbi.types import CodeCheck, Options


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
        self.stats = Counters(self.cache.blocks)
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
        self.invalidation = Invalidation(self)
        self._make_room = self.invalidation.make_room
        self.guest.words[SLOT["GATE_RECORDS"] >> 3] = self.cache.records_address
        # Of what the finalizer holds nothing may lead back to the VM, or it would never run.
        closing = weakref.finalize(
            vm,
            _close,
            self.guest.address,
            self.guest.thunk,
            self.cache,
            self.lookup.second_level,
            self.vectors.address,
        )
        closing.atexit = False  # what lives until then may still use it

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
            self.invalidation.reset()
        try:
            return self.translator.translate(app, 0, pad)
        except CacheFull:
            raise CacheError(
                f"the block at {app:#x} with all its callbacks does not fit into an empty cache of "
                f"{self.cache.arena_size:#x} bytes: use fewer callbacks, or a larger cache",
                app_address=app,
            ) from None

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
                self.invalidation.distrust()
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
            self.invalidation.reset()
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
                self.invalidation.forget_blocks(stop, stop + 1)
            self.translator.stop = stop
        except BaseException:
            self.invalidation.distrust()
            raise
        try:
            return self.dispatcher.run(app, stop)
        finally:
            if stop and (self.instruments.events.mask or self.instruments.rules):
                self.invalidation.forget_cut_blocks(stop)

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
        self.invalidation.forget_all()

    def set_code_check(self, check: CodeCheck) -> None:
        """Have other code checked for changes; translate everything anew.

        Raises:
            ReentryError: the guest is running.
        """
        self.dispatcher.check_not_running()
        self.translator.code_check = check
        self.invalidation.forget_all()

    def map_twice(self, twice: bool) -> None:
        """Have no page of the cache writable and executable at once, or all; empty it.

        Raises:
            ReentryError: the guest is running.
            OSError: the kernel refused.
        """
        self.dispatcher.check_not_running()
        if twice != self.cache.mapped_twice:
            self.invalidation.distrust()  # should it fail halfway
            self.cache.map_arenas(twice)
            self.invalidation.reset()

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
            self.invalidation.forget_blocks(low, high)

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

    def snapshot(self) -> Stats:
        """Return the counters as they stand."""
        words = self.guest.words
        result = self.stats.snapshot()
        result.lookup_collisions = words[SLOT["COUNT_L2_HITS"] >> 3]
        result.native_calls = words[SLOT["COUNT_NATIVE_CALLS"] >> 3]
        result.cache_bytes = self.cache.used_size()
        return result


def _close(context: int, thunk: int, cache: CodeCache, table: SecondLevel, vectors: int) -> None:
    release_guest(context, thunk)
    release_vectors(vectors)
    cache.close()
    table.close()
