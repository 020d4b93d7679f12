"""The engine of one VM: its parts, and what must happen together."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from pydbi.errors import CacheError, PydbiError
from pydbi.jit.app_memory import LONGEST_INSTRUCTION, AppMemory
from pydbi.jit.broker import broker
from pydbi.jit.cache import ARENA_SIZE, Block, CacheFull, CodeCache
from pydbi.jit.context import SLOT
from pydbi.jit.dispatcher import Dispatcher
from pydbi.jit.guest import Guest, release_guest
from pydbi.jit.instrumentation import (
    FOREVER,
    Instrumentation,
    InstrumentedRanges,
    Registration,
)
from pydbi.jit.linker import Linker
from pydbi.jit.lookup import LookupTable, SecondLevel
from pydbi.jit.signals import install_fault_handler
from pydbi.jit.translator import Translator
from pydbi.jit.vectors import CallbackVectors
from pydbi.types import AnalysisType, InstPosition
from pydbi.x86.analysis import InstAnalysis, add_symbol, analyse

_COUNTERS = {
    "blocks": "blocks translated, those forgotten since included",
    "instructions": "instructions translated, in all these blocks",
    "links": "exits linked to a block that was there already; new blocks are linked when made",
    "direct_exits": "times the cache was left through an exit that was not linked yet",
    "lookup_misses": "times an indirect branch went to an address without a landing pad",
    "lookup_collisions": "times the second-level table had to be asked",
    "native_calls": "functions that ran natively",
    "system_calls": "system calls that Python handled",
    "faults": "guest faults",
    "resets": "times the whole cache was emptied, by request or because it was full",
    "cache_bytes": "bytes of generated code, stubs and constants now",
}


class Stats:
    """Counters of what the engine did; every slow path has one.

    Attributes:
    """

    blocks = instructions = links = direct_exits = lookup_misses = lookup_collisions = 0
    native_calls = system_calls = faults = resets = cache_bytes = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return {name: getattr(self, name) for name in _COUNTERS}

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.as_dict().items())
        return f"Stats({values})"


assert Stats.__doc__
Stats.__doc__ += "".join(f"        {name}: {text}.\n" for name, text in _COUNTERS.items())


class Engine:
    """Everything behind a VM."""

    def __init__(self, vm: object, arena_size: int = ARENA_SIZE) -> None:
        install_fault_handler()
        self.vm: Callable[[], Any] = weakref.ref(vm)
        self.stats = Stats()
        self.guest = Guest()
        self.memory = AppMemory()
        self.ranges = InstrumentedRanges()
        self.instrumentation = Instrumentation()
        self.broker = broker()
        self.cache = CodeCache(arena_size)
        guests = [self.guest]
        self.lookup = LookupTable(guests)
        self.linker = Linker(self.cache, self.lookup)
        self.translator = Translator(
            self.cache,
            self.linker,
            self.lookup,
            guests,
            self.memory,
            self.ranges,
            self.instrumentation,
            self.broker,
        )
        self.dispatcher = Dispatcher(self)
        self.instruction_outside: int | None = None
        """App address of the instruction whose callbacks are called from Python, not by a gate."""
        self.analyses: dict[tuple[int, int], InstAnalysis] = {}
        self.vectors = CallbackVectors(self.guest)
        self._reset_due = False
        self.guest.words[SLOT["GATE_RECORDS"] >> 3] = self.cache.records_address
        # Of what the finalizer holds nothing may lead back to the VM, or it would never run.
        weakref.finalize(
            vm, _close, self.guest.address, self.guest.thunk, self.cache, self.lookup.second_level
        )

    # Translation.

    def translate(self, app: int, origin: int = 0, pad: bool = False) -> int:
        """Translate the block at *app*; make room for it first if there is none.

        To be called where nothing in the cache is under way: from the dispatcher.
        """
        if self._reset_due:
            self._reset()
            origin = 0
        try:
            return self.translator.translate(app, origin, pad)
        except CacheFull:
            self._reset()
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
        if app in self.cache.entries:
            return False
        try:
            if self.dispatcher.running:
                self.translator.translate(app)
            else:
                self.translate(app)
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
        if self._reset_due:
            self._reset()
        try:
            entry = self.translator.translate_call(app, frame_size, return_address)
        except CacheFull:
            self._reset()
            entry = self.translator.translate_call(app, frame_size, return_address)
        return self.cache.add_call(app, self.guest.address, entry)

    def run(self, app: int, stop: int) -> None:
        """Run from *app* until just before *stop*; see `Dispatcher.run`."""
        self.dispatcher.check_not_running()
        try:
            if self.lookup.get(stop) is not None:
                # It may be that of `add_call`, which does not stop at `stop`.
                self.cache.calls.clear()
                self.lookup.remove(stop)
            self._forget_blocks(stop, stop + 1)
            self.translator.stop = stop
        except BaseException:
            self.distrust()
            raise
        self.dispatcher.run(app, stop)

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
        if self.instrumentation.active:
            self._forget_blocks(low, high)

    # Forgetting.

    def forget(self, low: int, high: int) -> None:
        """Remove all blocks that overlap [*low*, *high*); their code is read anew.

        A block that is executing just now goes on to its end.
        """
        self.memory.forget(low, high)
        self.analyses.clear()
        self._forget_blocks(low, high)

    def _forget_blocks(self, low: int, high: int) -> None:
        try:
            for block in self.cache.blocks_in(low, high):
                self.linker.drop(block)
                self.cache.remove(block)
        except BaseException:  # Ctrl-C between the two
            self.distrust()
            raise

    def forget_all(self) -> None:
        """Remove all blocks; at once if none is executing, else as soon as the cache is left.

        All code is read anew.
        """
        self.memory.forget_all()
        self.analyses.clear()
        if not self.dispatcher.running:
            self._reset()
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

    def _reset(self) -> None:
        self._count_blocks()
        self.stats.resets += 1
        self.cache.reset()
        self.linker.reset()
        self._reset_due = False

    # Callbacks.

    def register(
        self,
        position: InstPosition,
        callback: Callable[..., Any],
        data: Any,
        priority: int,
        low: int = 0,
        high: int = FOREVER,
        single: bool = False,
    ) -> int:
        """Enter a callback for instructions in [*low*, *high*), or for the one at *low*."""
        vector = self.vectors.add(callback, self.vm(), data)
        identity = self.instrumentation.next_identity()
        registration = Registration(identity, position, priority, low, high, callback, data, vector)
        if single:
            self.instrumentation.add_at(registration)
        else:
            self.instrumentation.add(registration)
        self._forget_instrumented(low, high)
        return identity

    def unregister(self, identity: int) -> bool:
        """Take a callback out; return whether there was one."""
        registration = self.instrumentation.remove(identity)
        if registration is None:
            return False
        self._forget_instrumented(registration.low, registration.high)
        self._retire(registration)
        return True

    def unregister_all(self) -> None:
        """Take all callbacks out."""
        removed = self.instrumentation.remove_all()
        if removed:
            self.forget_all()
        for registration in removed:
            self._retire(registration)

    def _forget_instrumented(self, low: int, high: int) -> None:
        if high == FOREVER and self.cache.blocks:
            self.forget_all()
        else:
            self._forget_blocks(low, high)

    def _retire(self, registration: Registration) -> None:
        self.vectors.retire(registration.vector)
        if not self.dispatcher.running:
            self.vectors.settle()

    def after_run(self) -> None:
        """Let go of what machine code can no longer use."""
        self.vectors.settle()

    def current_instruction(self) -> int:
        """Return the app address of the instruction whose callback is running.

        Raises:
            RuntimeError: none is.
        """
        if not self.dispatcher.running:
            raise RuntimeError("no callback is running: there is no current instruction")
        if self.instruction_outside is not None:
            return self.instruction_outside
        gate = self.guest.words[SLOT["GATE_INDEX"] >> 3] & 0xFFFFFFFF
        return self.cache.record_word(gate, 3)

    def analysis(self, app: int, kind: int) -> InstAnalysis:
        """Return what is known about the instruction at *app*; remembered until it is forgotten.

        Args:
            kind: an `AnalysisType`.

        Raises:
            DecodeError: there is no instruction.
        """
        key = (app, kind)
        known = self.analyses.get(key)
        if known is None:
            known = analyse(self.memory.read_data(app, LONGEST_INSTRUCTION) or b"", app)
            if kind & AnalysisType.ANALYSIS_SYMBOL:
                add_symbol(known)
            self.analyses[key] = known
        return known

    # Counting.

    def _count_blocks(self) -> None:
        self.stats.blocks += len(self.cache.blocks)
        self.stats.instructions += sum(len(fields[7]) for fields in self.cache.blocks)

    def snapshot(self) -> Stats:
        """Return the counters as they stand."""
        words = self.guest.words
        result = Stats()
        vars(result).update(self.stats.as_dict())
        result.blocks += len(self.cache.blocks)
        result.instructions += sum(len(fields[7]) for fields in self.cache.blocks)
        result.lookup_collisions = words[SLOT["COUNT_L2_HITS"] >> 3]
        result.native_calls = words[SLOT["COUNT_NATIVE_CALLS"] >> 3]
        result.cache_bytes = self.cache.used_size()
        return result


def _close(context: int, thunk: int, cache: CodeCache, table: SecondLevel) -> None:
    release_guest(context, thunk)
    cache.close()
    table.close()
