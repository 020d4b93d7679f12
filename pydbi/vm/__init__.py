"""class VM: PyQBDI's surface, each method a few lines over the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from pydbi.jit.dispatcher import Dispatcher
from pydbi.jit.engine import Engine
from pydbi.jit.guest import Guest
from pydbi.jit.stack import allocateVirtualStack, simulateCall
from pydbi.jit.states import FPRState, GPRState
from pydbi.jit.stats import Stats
from pydbi.types import Options
from pydbi.vm.arguments import as_kind
from pydbi.vm.callbacks import Callbacks
from pydbi.vm.inspection import Inspection
from pydbi.vm.memory import MemoryAccesses
from pydbi.vm.native_calls import NativeCalls
from pydbi.vm.ranges import InstrumentedCode
from pydbi.vm.running import Running
from pydbi.vm.settings import Settings

__all__ = ["VM", "FPRState", "GPRState", "Stats", "allocateVirtualStack", "simulateCall"]


class VM(Running, NativeCalls, InstrumentedCode, Callbacks, MemoryAccesses, Inspection, Settings):
    """A guest, and the engine that runs it under instrumentation.

    Args:
        cpu, mattrs: accepted for PyQBDI's sake; pydbi translates for the processor it runs on.
        options: see `Options`.
    """

    def __init__(
        self, cpu: str = "", mattrs: Sequence[str] = (), options: Options = Options.NO_OPT
    ) -> None:
        as_kind(cpu, str)
        if isinstance(mattrs, str) or not all(isinstance(name, str) for name in mattrs):
            raise TypeError(f"attributes are a sequence of names, not {mattrs!r}")
        self._engine = engine = self._make_engine()
        self._attach(engine.guest, engine.dispatcher)
        self._calls = engine.cache.calls
        self._by_gate = engine.inspector.by_gate
        self._views = engine.cache.gate_records
        self._instruction_readers = engine.cache.instruction_readers
        self._sequence_readers = engine.cache.sequence_readers
        if as_kind(options, Options):
            engine.set_options(options)

    def _attach(self, guest: Guest, dispatcher: Dispatcher) -> None:
        """Have the methods be about this thread of the guest."""
        self._guest = guest
        self._words = guest.words
        self._dispatcher = dispatcher

    def _make_engine(self) -> Engine:
        return Engine(self)

    def __copy__(self) -> NoReturn:
        raise TypeError("a VM cannot be copied: it is bound to memory and code of its own")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VM cannot be pickled: it is bound to memory and code of its own")
