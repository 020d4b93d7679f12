"""The VM of a program: code is named by modules that may not be loaded yet."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from pydbi.jit.broker import Broker
from pydbi.jit.dispatcher import Dispatcher
from pydbi.jit.engine import Engine
from pydbi.jit.guest import Guest
from pydbi.types import Options
from pydbi.vm import VM
from pydbi.vm.arguments import as_address, as_kind

if TYPE_CHECKING:
    from pydbi.program.guest_process import GuestProcess
    from pydbi.program.program import Program

_EVERYTHING = 1 << 64


class NothingNative(Broker):
    """A program has a libc of its own: all its code is translated."""

    def __init__(self) -> None:
        self.pages = set()
        self.functions = set()


class ProgramVM(VM):
    """The VM of a `Program`, with the methods of every VM.

    Attributes:
        is_restricted: whether somebody has said what is to be instrumented. If not, all is.
    """

    def __init__(self, program: Program, process: GuestProcess, options: Options) -> None:
        self._program = weakref.ref(program)
        self._process = process
        self.is_restricted = False
        super().__init__(options=options)

    def _make_engine(self) -> Engine:
        engine = self._process.make_engine(self)
        machine = weakref.ref(self)

        def attach(guest: Guest, dispatcher: Dispatcher) -> None:
            vm = machine()
            if vm is not None:
                vm._attach(guest, dispatcher)

        engine.on_attach = attach
        return engine

    @property
    def program(self) -> Program | None:
        """The program that it runs; None if nobody holds it any more."""
        return self._program()

    def addInstrumentedRange(self, start: int, end: int) -> None:
        """Instrument the instructions that lie wholly in [*start*, *end*)."""
        self.is_restricted = True
        super().addInstrumentedRange(start, end)

    def addInstrumentedModule(self, name: str) -> bool:
        """Instrument the file of that base name, now or as soon as it is loaded; True.

        The soname does as well: ``libz.so.1`` for libz.so.1.2.13.
        """
        self.is_restricted = True
        self._process.modules.instrument(as_kind(name, str))
        return True

    def addInstrumentedModuleFromAddr(self, addr: int) -> bool:
        """Instrument the file around *addr*; False if there is none."""
        module = self._process.modules.around(as_address(addr))
        return module is not None and self.addInstrumentedModule(module.name)

    def instrumentAllExecutableMaps(self) -> bool:
        """Instrument all code of the program, what it loads and makes later included."""
        self.is_restricted = True
        self._engine.add_range(0, _EVERYTHING)
        return True

    def removeInstrumentedModule(self, name: str) -> bool:
        """Stop instrumenting the file *name*; False if it was not."""
        self._restrict()
        return self._process.modules.spare(as_kind(name, str))

    def removeInstrumentedModuleFromAddr(self, addr: int) -> bool:
        """Stop instrumenting the file around *addr*; False if there is none."""
        module = self._process.modules.around(as_address(addr))
        return module is not None and self.removeInstrumentedModule(module.name)

    def removeInstrumentedRange(self, start: int, end: int) -> None:
        """Stop instrumenting [*start*, *end*); it is translated all the same."""
        self._restrict()
        super().removeInstrumentedRange(start, end)

    def removeAllInstrumentedRanges(self) -> None:
        """Stop instrumenting anything."""
        self.is_restricted = True
        self._process.modules.spare_all()
        super().removeAllInstrumentedRanges()

    def _restrict(self) -> None:
        """Instrument all code, if nothing was said so far: something is to be taken out of it."""
        if not self.is_restricted:
            self.instrumentAllExecutableMaps()
