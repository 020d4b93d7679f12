"""One way to run a function of a shared library: natively, or under an engine with PyQBDI's API."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.clock import now

NATIVE = "native"
STACK_SIZE = 1 << 20

#: Engine module -> the distribution that `pip` knows it by.
DISTRIBUTIONS = {"pydbi": "pydbi", "pyqbdi": "PyQBDI"}


class Timed(NamedTuple):
    """How long one call took, and what it returned."""

    nanoseconds: int
    result: int


class WrongResultError(RuntimeError):
    """An engine's guest computed something else than the CPU does natively."""


def module_name(engine: str) -> str:
    """The module that *engine* names.

    A suffix after # tells two uses of one engine apart: `pyqbdi#2` is PyQBDI once more, for a
    comparison of an engine with itself.
    """
    return engine.partition("#")[0]


def available(engine: str) -> bool:
    """Whether *engine* can be found here."""
    return importlib.util.find_spec(module_name(engine)) is not None


def version(engine: str) -> str:
    """The installed version of *engine*, or 'unknown' if it runs from a bare source tree."""
    module = module_name(engine)
    try:
        return importlib.metadata.version(DISTRIBUTIONS.get(module, module))
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


class Native:
    """A function of *library* called through ctypes."""

    def __init__(self, library: Path, symbol: str = "run") -> None:
        self.function: Any = ctypes.CDLL(str(library))[symbol]
        self.function.restype = ctypes.c_uint64

    @property
    def address(self) -> int:
        """Where the function starts."""
        return ctypes.cast(self.function, ctypes.c_void_p).value or 0

    def call(self, *arguments: int) -> Timed:
        """Call the function once."""
        function = self.function
        values = [ctypes.c_uint64(argument) for argument in arguments]
        start = now()
        result = function(*values)
        return Timed(now() - start, result)


class Guest:
    """The same function under *engine*, in a virtual machine of its own that covers the library.

    Every result is compared with the native one, so a wrong result never becomes a figure.
    """

    def __init__(
        self, engine: str, library: Path, symbol: str = "run", stack_size: int = STACK_SIZE
    ) -> None:
        self.engine: Any = importlib.import_module(module_name(engine))
        self.vm: Any = self.engine.VM()
        self._native = Native(library, symbol)
        self._expected: dict[tuple[int, ...], int] = {}
        state = self.vm.getGPRState()
        self._stack = self.engine.allocateVirtualStack(state, stack_size)
        self._stack_top = state.rsp
        self.vm.setGPRState(state)
        if not self.vm.addInstrumentedModuleFromAddr(self.address):
            raise RuntimeError(f"{engine} cannot instrument {library}")

    @property
    def address(self) -> int:
        """Where the function starts."""
        return self._native.address

    def close(self) -> None:
        """Give the stack back and drop the virtual machine."""
        self.vm = None
        self.engine.alignedFree(self._stack)

    def reset_stack(self) -> None:
        """Put rsp back to the top: PyQBDI leaves it one frame lower after every call."""
        state = self.vm.getGPRState()
        state.rsp = self._stack_top
        self.vm.setGPRState(state)

    def call(self, *arguments: int) -> Timed:
        """Call the function once.

        Raises:
            WrongResultError: the engine gave up, or its result is not the native one.
        """
        if arguments not in self._expected:
            self._expected[arguments] = self._native.call(*arguments).result
        self.reset_stack()
        call, address, values = self.vm.call, self.address, list(arguments)
        start = now()
        done, result = call(address, values)
        timed = Timed(now() - start, result)
        if not done:
            raise WrongResultError(f"call{arguments} returned False")
        if result != self._expected[arguments]:
            raise WrongResultError(
                f"call{arguments} gave {result:#x} instead of {self._expected[arguments]:#x}"
            )
        return timed

    def before_each(self, callback: Callable[..., Any], data: object = None) -> None:
        """Let *callback* run before every instruction."""
        self.vm.addCodeCB(self.engine.InstPosition.PREINST, callback, data)

    def at_each(self, event: Any, callback: Callable[..., Any], data: object = None) -> None:
        """Let *callback* run at every *event*."""
        self.vm.addVMEventCB(event, callback, data)

    def occurrences(self, event: Any, *arguments: int) -> int:
        """How often *event* happens in a call (one slow, untimed call)."""
        states: list[None] = []
        go_on = self.engine.VMAction.CONTINUE

        def count(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
            states.append(None)
            return go_on

        self.at_each(event, count)
        self.call(*arguments)
        self.vm.deleteAllInstrumentations()
        return len(states)

    def executed(self, *arguments: int) -> dict[int, int]:
        """How often a call executes the instruction at each address (one slow, untimed call)."""
        counts: dict[int, int] = {}
        go_on = self.engine.VMAction.CONTINUE

        def count(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
            counts[gpr.rip] = counts.get(gpr.rip, 0) + 1
            return go_on

        self.before_each(count)
        self.call(*arguments)
        self.vm.deleteAllInstrumentations()
        return counts
