"""What is called when: instruction callbacks, rules, events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydbi.jit.engine import Engine
from pydbi.jit.rules import Rule
from pydbi.jit.states import FPRState, GPRState
from pydbi.types import (
    AnalysisType,
    CallbackPriority,
    InstPosition,
    InstrRuleDataCBK,
    VMAction,
    VMError,
    VMEvent,
    VMState,
)
from pydbi.vm.arguments import (
    as_address,
    as_callable,
    as_identity,
    as_kind,
    as_position,
    as_priority,
)

if TYPE_CHECKING:
    from pydbi.vm import VM
    from pydbi.x86.analysis import InstAnalysis

InstCallback = Callable[["VM", GPRState, FPRState, Any], VMAction]
VMCallback = Callable[["VM", VMState, GPRState, FPRState, Any], VMAction]
InstrRuleCallback = Callable[["VM", "InstAnalysis", Any], Sequence[InstrRuleDataCBK]]

_PRIORITY = CallbackPriority.PRIORITY_DEFAULT


class Callbacks:
    """VM's methods that register what is to be called, and take it out again."""

    _engine: Engine

    def addCodeCB(
        self, pos: InstPosition, cbk: InstCallback, data: Any, priority: int = _PRIORITY
    ) -> int:
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
        pos = as_position(pos)
        return self._engine.registrar.register(pos, as_callable(cbk), data, as_priority(priority))

    def addCodeAddrCB(
        self,
        address: int,
        pos: InstPosition,
        cbk: InstCallback,
        data: Any,
        priority: int = _PRIORITY,
    ) -> int:
        """Call *cbk* before or after the instruction at *address*; see `addCodeCB`."""
        address, pos = as_address(address), as_position(pos)
        return self._engine.registrar.register(
            pos, as_callable(cbk), data, as_priority(priority), address, address + 1, single=True
        )

    def addCodeRangeCB(
        self,
        start: int,
        end: int,
        pos: InstPosition,
        cbk: InstCallback,
        data: Any,
        priority: int = _PRIORITY,
    ) -> int:
        """Call *cbk* at instructions that lie wholly in [*start*, *end*); see `addCodeCB`.

        Returns:
            INVALID_EVENTID if the range is empty.
        """
        start, end, pos = as_address(start), as_address(end), as_position(pos)
        as_callable(cbk)
        if start >= end:
            return VMError.INVALID_EVENTID
        return self._engine.registrar.register(pos, cbk, data, as_priority(priority), start, end)

    def addMnemonicCB(
        self,
        mnemonic: str,
        pos: InstPosition,
        cbk: InstCallback,
        data: Any,
        priority: int = _PRIORITY,
    ) -> int:
        """Call *cbk* at instructions with this LLVM opcode name; see `addCodeCB`.

        Args:
            mnemonic: ``"ADD"`` stands for ADD64rr, ADD32ri8 and so on, ``"ADD*"`` for ADDPSrr too;
                case does not matter. `InstAnalysis.mnemonic` shows an instruction's name.
        """
        from pydbi.jit.selectors import has_mnemonic

        selects = has_mnemonic(as_kind(mnemonic, str))
        return self._engine.registrar.register(
            as_position(pos),
            as_callable(cbk),
            data,
            as_priority(priority),
            selects=selects,
        )

    # Rules.

    def addInstrRule(self, cbk: InstrRuleCallback, type: AnalysisType, data: Any) -> int:
        """Ask *cbk*, when an instruction is translated, which callbacks it is to have.

        Args:
            cbk: called as ``cbk(vm, analysis, data)``; returns a list of `InstrRuleDataCBK`,
                empty for no callback.
            type: which fields of the `InstAnalysis` it wants to read.
            data: anything; handed to *cbk*.

        Returns:
            The rule's id, for `deleteInstrumentation`.
        """
        return self._add_rule(0, 1 << 64, cbk, type, data)

    def addInstrRuleRange(
        self, start: int, end: int, cbk: InstrRuleCallback, type: AnalysisType, data: Any
    ) -> int:
        """Ask *cbk* about instructions that lie wholly in [*start*, *end*); see `addInstrRule`."""
        return self._add_rule(as_address(start), as_address(end), cbk, type, data)

    def _add_rule(
        self, low: int, high: int, cbk: InstrRuleCallback, kind: AnalysisType, data: Any
    ) -> int:
        kind = as_kind(kind, AnalysisType)
        engine = self._engine
        identity = engine.instruments.next_identity()
        engine.instruments.rules.add(Rule(identity, low, high, as_callable(cbk), int(kind), data))
        engine.registrar.changed(low, high)
        return identity

    # Events.

    def addVMEventCB(self, mask: VMEvent, cbk: VMCallback, data: Any) -> int:
        """Call *cbk* when a basic block or a sequence begins or ends, or ranges are left.

        Args:
            mask: the events that *cbk* is called for; what it is told are all that coincide.
            cbk: called as ``cbk(vm, vmState, gpr, fpr, data)``; returns a `VMAction`.
            data: anything; handed to *cbk*.

        Returns:
            The callback's id, for `deleteInstrumentation`; INVALID_EVENTID if *mask* is empty.
        """
        mask = as_kind(mask, VMEvent)
        as_callable(cbk)
        if not mask:
            return VMError.INVALID_EVENTID
        identity = self._engine.instruments.events.add(int(mask), cbk, data)
        self._engine.registrar.events_changed()
        return identity

    # Taking out.

    def deleteInstrumentation(self, id: int) -> None:
        """Take out what was registered with this id; nothing happens if there is nothing."""
        self._engine.registrar.unregister(as_identity(id))

    def deleteAllInstrumentations(self) -> None:
        """Take all callbacks out; ids count from 0 again."""
        self._engine.registrar.unregister_all()
