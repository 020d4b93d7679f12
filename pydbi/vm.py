"""class VM: PyQBDI's surface, each method a few lines over the engine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from operator import index
from typing import Any

from pydbi.host.maps import Mapping, read_mappings
from pydbi.jit.context import (
    FPR_OFFSET,
    GPR_OFFSET,
    REASON_NO_STACK,
    REASON_OTHER_THREAD,
    REASON_RETURNED,
    SLOT,
)
from pydbi.jit.engine import Engine, Stats
from pydbi.jit.stack import ARGUMENT_REGISTERS, FRAME_SIZE, allocateVirtualStack, simulateCall
from pydbi.jit.states import FPRState, GPRState
from pydbi.types import AnalysisType, InstPosition, Options, Permission, Range, VMError
from pydbi.x86.analysis import InstAnalysis

__all__ = ["VM", "FPRState", "GPRState", "Stats", "allocateVirtualStack", "simulateCall"]

InstCallback = Callable[["VM", GPRState, FPRState, Any], Any]

RETURN_ADDRESS = 42
"""Where a function started by `VM.call` returns to, as in PyQBDI: nothing is there."""

_RAX, _RSP = GPR_OFFSET["rax"] >> 3, GPR_OFFSET["rsp"] >> 3
_CALL_RSP = SLOT["CALL_RSP"] >> 3
_ARGUMENTS = tuple(GPR_OFFSET[name] >> 3 for name in ARGUMENT_REGISTERS)
_WORD = (1 << 64) - 1
USER_SPACE_END = 1 << 47


class VM:
    """A guest, and the engine that runs it under instrumentation.

    Args:
        cpu, mattrs: accepted for PyQBDI's sake; pydbi translates for the processor it runs on.
        options: see `Options`.
    """

    def __init__(
        self, cpu: str = "", mattrs: Sequence[str] = (), options: Options = Options.NO_OPT
    ) -> None:
        self._engine = engine = Engine(self)
        self._options = options
        self._guest = engine.guest
        self._words = engine.guest.words
        self._dispatcher = engine.dispatcher
        self._calls = engine.cache.calls

    # The guest's state.

    def getGPRState(self) -> GPRState:
        """Return the general registers: the VM's own, so that writes take effect."""
        return self._guest.gpr

    def setGPRState(self, gprState: GPRState) -> None:
        """Copy *gprState* into the guest."""
        if not isinstance(gprState, GPRState):
            raise TypeError(f"a GPRState is due, not {gprState!r}")
        ctypes.memmove(self._guest.address, bytes(gprState), ctypes.sizeof(GPRState))

    def getFPRState(self) -> FPRState:
        """Return the x87, SSE, AVX and AVX-512 registers: the VM's own, writes take effect."""
        return self._guest.fpr

    def setFPRState(self, fprState: FPRState) -> None:
        """Copy *fprState* into the guest."""
        if not isinstance(fprState, FPRState):
            raise TypeError(f"an FPRState is due, not {fprState!r}")
        ctypes.memmove(self._guest.address + FPR_OFFSET, bytes(fprState), ctypes.sizeof(FPRState))
        self._guest.notice_state()

    # Running.

    def run(self, start: int, stop: int) -> bool:
        """Run from *start* until *stop* is about to be executed.

        Returns:
            False if *start* is in no instrumented range: nothing was executed then. After an
            exception the guest can go on from rip all the same, wherever that is.

        Raises:
            GuestFault, DecodeError, UnsupportedInstruction: the guest cannot go on; its state is
                that before the instruction.
            ReentryError: this VM is running already.
            BaseException: what a callback raised.
        """
        start, stop = _address(start), _address(stop)
        if start not in self._engine.ranges and start != self._dispatcher.interrupted_at:
            return False
        self._engine.run(start, stop)
        return True

    def call(self, function: int, args: Sequence[int]) -> tuple[bool, int]:
        """Call a function with integer arguments and return (True, rax).

        The stack that rsp points to is used; rsp has the same value afterwards.

        Returns:
            (False, 0) if rsp is 0 or *function* is in no instrumented range.

        Raises:
            As `run` does.
        """
        try:
            enter = self._calls[function]
        except KeyError:
            return self._call_slowly(function, args)
        words = self._words
        if args:
            if len(args) > len(_ARGUMENTS):
                return self._call_slowly(function, args)
            try:
                for place, value in zip(_ARGUMENTS, args, strict=False):
                    words[place] = value
            except ValueError:
                raise _not_a_word(value, "argument") from None
        elif args is None:
            raise TypeError("arguments are a sequence of integers, not None")
        try:
            reason = enter()
        except BaseException:
            self._dispatcher.settle()
            raise
        if reason != REASON_RETURNED:
            if reason == REASON_NO_STACK:
                return False, 0
            if reason == REASON_OTHER_THREAD:
                self._dispatcher.prepare()
                return self.call(function, args)
            self._dispatcher.go_on(reason, RETURN_ADDRESS)
            words[_RSP] = words[_CALL_RSP]
        return True, words[_RAX]

    def _call_slowly(self, function: int, args: Sequence[int]) -> tuple[bool, int]:
        """`call` with a new function, many arguments, or reasons not to."""
        function = _address(function)
        gpr = self._guest.gpr
        self._dispatcher.check_not_running()
        if not gpr.rsp or function not in self._engine.ranges:
            return False, 0
        if len(args) <= len(_ARGUMENTS):
            self._engine.add_call(function, FRAME_SIZE, RETURN_ADDRESS)
            self._dispatcher.prepare()
            return self.call(function, args)
        rsp = gpr.rsp
        simulateCall(gpr, RETURN_ADDRESS, args)
        self._engine.run(function, RETURN_ADDRESS)
        gpr.rsp = rsp
        return True, gpr.rax

    def precacheBasicBlock(self, pc: int) -> bool:
        """Translate the block at *pc* now; False if it is there already or not instrumented."""
        pc = _address(pc)
        return pc in self._engine.ranges and self._engine.precache(pc)

    # What is instrumented.

    def addInstrumentedRange(self, start: int, end: int) -> None:
        """Instrument the instructions that lie wholly in [*start*, *end*)."""
        self._engine.add_range(_address(start), _address(end))

    def removeInstrumentedRange(self, start: int, end: int) -> None:
        """Stop instrumenting [*start*, *end*); it is translated all the same."""
        self._engine.remove_range(_address(start), _address(end))

    def removeAllInstrumentedRanges(self) -> None:
        """Stop instrumenting anything."""
        self._engine.remove_range(0, 1 << 64)

    def addInstrumentedModule(self, name: str) -> bool:
        """Instrument the executable maps of the file *name*; False if there are none."""
        return self._add(_maps_named(name))

    def addInstrumentedModuleFromAddr(self, addr: int) -> bool:
        """Instrument the executable maps of the file around *addr*; False if there are none."""
        return self._add(_maps_around(_address(addr)))

    def instrumentAllExecutableMaps(self) -> bool:
        """Instrument every executable map that may be translated; False if there is none.

        The host's own libraries stay native, and so does the vsyscall page, which no 32-bit
        displacement reaches.
        """
        return self._add([Range(m.start, m.end) for m in _executable_maps()])

    def removeInstrumentedModule(self, name: str) -> bool:
        """Stop instrumenting the file *name*; False if it is not mapped."""
        return self._remove(_maps_named(name))

    def removeInstrumentedModuleFromAddr(self, addr: int) -> bool:
        """Stop instrumenting the file around *addr*; False if there is none."""
        return self._remove(_maps_around(_address(addr)))

    def _add(self, maps: list[Range]) -> bool:
        for part in maps:
            self._engine.add_range(part.start, part.end)
        return bool(maps)

    def _remove(self, maps: list[Range]) -> bool:
        for part in maps:
            self._engine.remove_range(part.start, part.end)
        return bool(maps)

    # Callbacks.

    def addCodeCB(self, pos: InstPosition, cbk: InstCallback, data: Any, priority: int = 0) -> int:
        """Call *cbk* before or after every instruction in the instrumented ranges.

        Args:
            pos: `PREINST` or `POSTINST`.
            cbk: called as ``cbk(vm, gpr, fpr, data)``; returns a `VMAction`. What it raises comes
                out of `run`.
            data: anything; handed to *cbk*.
            priority: of several callbacks the one with the highest runs first.

        Returns:
            The callback's id, for `deleteInstrumentation`.
        """
        return self._engine.register(_position(pos), _callable(cbk), data, _priority(priority))

    def addCodeAddrCB(
        self, address: int, pos: InstPosition, cbk: InstCallback, data: Any, priority: int = 0
    ) -> int:
        """Call *cbk* before or after the instruction at *address*; see `addCodeCB`."""
        address = _address(address)
        return self._engine.register(
            _position(pos), _callable(cbk), data, _priority(priority), address, address + 1, True
        )

    def addCodeRangeCB(
        self,
        start: int,
        end: int,
        pos: InstPosition,
        cbk: InstCallback,
        data: Any,
        priority: int = 0,
    ) -> int:
        """Call *cbk* at instructions that lie wholly in [*start*, *end*); see `addCodeCB`.

        Returns:
            INVALID_EVENTID if the range is empty.
        """
        start, end = _address(start), _address(end)
        if start >= end:
            return VMError.INVALID_EVENTID
        return self._engine.register(
            _position(pos), _callable(cbk), data, _priority(priority), start, end
        )

    def deleteInstrumentation(self, id: int) -> bool:
        """Take the callback with this id out; False if there is none."""
        return self._engine.unregister(_identity(id))

    def deleteAllInstrumentations(self) -> None:
        """Take all callbacks out; ids count from 0 again."""
        self._engine.unregister_all()

    # Analysis.

    def getInstAnalysis(
        self,
        type: AnalysisType = AnalysisType.ANALYSIS_INSTRUCTION | AnalysisType.ANALYSIS_DISASSEMBLY,
    ) -> InstAnalysis:
        """Return the analysis of the instruction whose callback is running.

        Raises:
            RuntimeError: no callback is running.
        """
        engine = self._engine
        return engine.analysis(engine.current_instruction(), type)

    # The cache.

    def clearCache(self, start: int, end: int) -> None:
        """Forget translations of [*start*, *end*); the code there is read anew."""
        self._engine.forget(_address(start), _address(end))

    def clearAllCache(self) -> None:
        """Forget all translations.

        From a callback too: what is executing just now goes on to its block's end.
        """
        self._engine.forget_all()

    @property
    def stats(self) -> Stats:
        """Counters of what the engine did so far."""
        return self._engine.snapshot()


def _address(value: int) -> int:
    """Return *value* if it is an address; TypeError otherwise, as PyQBDI."""
    number = index(value)
    if not 0 <= number <= _WORD:
        raise _not_a_word(number, "address")
    return number


def _priority(value: int) -> int:
    """Return *value* if it is a priority, which PyQBDI holds in 32 bits; TypeError otherwise."""
    number = index(value)
    if not -(1 << 31) <= number < 1 << 31:
        raise TypeError(f"priority {number} is no signed 32-bit integer")
    return number


def _identity(value: int) -> int:
    """Return *value* if it can be a callback's id; TypeError otherwise."""
    number = index(value)
    if not 0 <= number < 1 << 32:
        raise TypeError(f"id {number} is no unsigned 32-bit integer")
    return number


def _not_a_word(value: int, what: str) -> TypeError:
    return TypeError(f"{what} {value} is no unsigned 64-bit integer")


def _position(pos: InstPosition) -> InstPosition:
    if not isinstance(pos, InstPosition):
        raise TypeError(f"PREINST or POSTINST is due, not {pos!r}")
    return pos


def _callable(cbk: InstCallback) -> InstCallback:
    if not callable(cbk):
        raise TypeError(f"a callback is called: {cbk!r} cannot be")
    return cbk


def _executable_maps() -> list[Mapping]:
    return [
        m for m in read_mappings() if m.permission & Permission.PF_EXEC and m.end <= USER_SPACE_END
    ]


def _maps_named(name: str) -> list[Range]:
    if not isinstance(name, str):
        raise TypeError(f"a file's name is due, not {name!r}")
    return [
        Range(m.start, m.end)
        for m in _executable_maps()
        if m.path and m.path.rpartition("/")[2] == name
    ]


def _maps_around(address: int) -> list[Range]:
    path = next((m.path for m in read_mappings() if m.start <= address < m.end), "")
    return [
        Range(m.start, m.end)
        for m in _executable_maps()
        if (m.path == path if path else m.start <= address < m.end)
    ]
