"""What callbacks ask for, beyond going on: the actions SKIP_INST, SKIP_PATCH, BREAK_TO_VM, STOP.

CONTINUE comes here only if the callback has changed rip: gates compare the result with it by
address.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

from pydbi.jit.app_memory import LONGEST_INSTRUCTION
from pydbi.jit.block import GatePoint
from pydbi.jit.context import GPR_OFFSET, SLOT
from pydbi.jit.events import (
    BLOCK_EXIT,
    SEQUENCE_EXIT,
    TRANSFER_CALL,
    TRANSFER_RETURN,
    EventPoint,
    EventRegistration,
    Report,
    transfer_state,
)
from pydbi.jit.instrumentation import Registration
from pydbi.types import VMAction, VMState
from pydbi.x86.instruction import decode

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

_decref = ctypes.PYFUNCTYPE(None, ctypes.c_size_t)(("Py_DecRef", ctypes.pythonapi))

_RIP, _TARGET = GPR_OFFSET["rip"] >> 3, SLOT["TARGET"] >> 3
_INSIDE, _OUTSIDE = SLOT["INSIDE"] >> 3, SLOT["OUTSIDE"] >> 3
_ACTIONS = frozenset(
    (
        VMAction.CONTINUE,
        VMAction.SKIP_INST,
        VMAction.SKIP_PATCH,
        VMAction.BREAK_TO_VM,
        VMAction.STOP,
    )
)
_WITHOUT_RIP = (VMAction.CONTINUE, VMAction.SKIP_INST, VMAction.SKIP_PATCH)
"""At these a rip that an instruction callback has changed does not count."""
_LEAVING = BLOCK_EXIT | SEQUENCE_EXIT | TRANSFER_RETURN
"""At these a changed rip counts, whatever the callback returns."""

Next = tuple[int, int]
"""Where to go on: app address, and cache address if it is known."""


class StopRun(Exception):  # noqa: N818
    """A callback has asked to stop."""


class Actions:
    """Carries out the actions of instruction callbacks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before: dict[VMAction, Callable[[GatePoint, int], Next]] = {
            VMAction.SKIP_INST: self._skip_instruction,
            VMAction.SKIP_PATCH: self._skip_patch,
            VMAction.BREAK_TO_VM: self._break,
            VMAction.STOP: self._stop,
            VMAction.CONTINUE: self._go_on,
        }
        self._after = self._before | {VMAction.SKIP_INST: self._skip_too_late}

    def on_result(self) -> Next:
        """Carry out what the callback at GATE_INDEX has returned.

        Raises:
            TypeError: it is no `VMAction`.
            StopRun: the guest is to stop here.
        """
        cache, words = self._engine.cache, self._engine.guest.words
        gate = words[SLOT["GATE_INDEX"] >> 3] & 0xFFFFFFFF
        result = self._take_result()
        if not _is_action(result):
            vector = cache.record_word(gate, 0)
            raise wrong_result(self._engine.vectors.callback_of(vector), result)
        point = cache.point_of(gate)
        if point.event >= 0:
            return self._on_event(cache.event_points[point.event], gate, result)
        self._warn_of_rip(point, gate, result)
        actions = self._before if gate < point.first_after else self._after
        return actions[result](point, gate)

    # Events.

    def _on_event(self, point: EventPoint, gate: int, action: VMAction) -> Next:
        """Carry out what the event callback at *gate* returned, once the later ones have run."""
        engine = self._engine
        words = engine.guest.words
        shown = engine.cache.record_word(gate, 1) or words[_TARGET]
        last = point.first_gate + len(point.due) - 1
        later = point.due[gate + 1 - point.first_gate :]
        action = max(action, self._report(point.state, later), key=int)
        if action == VMAction.STOP:
            raise StopRun
        if point.state.event & _LEAVING:
            if words[_RIP] != shown:
                return words[_RIP], 0
        elif action != VMAction.CONTINUE:
            if point.state.event & TRANSFER_CALL:  # it is still to come
                words[_INSIDE], words[_OUTSIDE] = 1, 0
            return words[_RIP], 0
        return shown, engine.cache.record_word(last, 2)

    def _report(self, state: VMState, due: tuple[EventRegistration, ...]) -> VMAction:
        """Call event callbacks from here; return the strongest action they ask for."""
        engine = self._engine
        guest = engine.guest
        strongest = VMAction.CONTINUE
        for registration in due:
            if registration.identity not in engine.instruments.events:  # deleted by an earlier one
                continue
            callback = registration.callback
            action = callback(engine.vm(), state, guest.gpr, guest.fpr, registration.data)
            if not _is_action(action):
                raise wrong_result(callback, action)
            strongest = max(strongest, action, key=int)
        return strongest

    def on_entry(self, app: int, body: int, report: Report) -> Next:
        """Report from here that the block at *app* is entered; return where to go on.

        Args:
            body: cache address behind the gates that report its other entries.
        """
        engine = self._engine
        engine.instruction_outside = app
        try:
            action = self._report(*report)
        finally:
            engine.instruction_outside = None
        if action == VMAction.STOP:
            raise StopRun
        if action != VMAction.CONTINUE:
            return engine.guest.gpr.rip, 0
        return app, body

    def on_return(self) -> None:
        """Report from here that execution comes back into the ranges.

        Raises:
            StopRun: a callback wants to stop here.
        """
        engine = self._engine
        left_at = engine.guest.words[SLOT["TRANSFER_TARGET"] >> 3]
        due = engine.instruments.events.due(TRANSFER_RETURN)
        engine.instruction_outside = 0
        try:
            action = self._report(transfer_state(TRANSFER_RETURN, left_at), due)
        finally:
            engine.instruction_outside = None
        if action == VMAction.STOP:
            raise StopRun

    def on_stop_address(self, stop: int) -> int:
        """Call what is due before the instruction at which a run ends; return where to go on.

        As in PyQBDI, the run's end is itself like a callback there, of priority 0 and registered
        last: those before it are called, and may send the guest elsewhere.
        """
        engine = self._engine
        if not engine.instruments.active or stop not in engine.ranges:
            return stop
        instruction = decode(engine.memory.read_data(stop, LONGEST_INSTRUCTION) or b"", 0)
        if isinstance(instruction, int):
            return stop
        due = engine.instruments.applicable(stop, instruction.code)
        try:
            for vector in due.before:
                registration = engine.instrumentation.by_vector[vector]
                if registration.priority < 0:
                    break
                engine.instruction_outside = stop
                action = self._call(registration)
                if action in (VMAction.SKIP_INST, VMAction.SKIP_PATCH):
                    return stop + instruction.length
                if action == VMAction.BREAK_TO_VM:
                    return engine.guest.gpr.rip
        finally:
            engine.instruction_outside = None
        return stop

    def _call(self, registration: Registration) -> VMAction:
        """Call a callback from here, and not from a gate.

        Raises:
            TypeError: it returned no `VMAction`.
            StopRun: it returned STOP.
        """
        engine = self._engine
        callback = registration.callback
        action = callback(engine.vm(), engine.guest.gpr, engine.guest.fpr, registration.data)
        if not _is_action(action):
            raise wrong_result(callback, action)
        if action == VMAction.STOP:
            raise StopRun
        return action

    def _take_result(self) -> Any:
        """Return the object whose reference the gate left in slot RESULT."""
        guest = self._engine.guest
        result = ctypes.py_object.from_address(guest.address + SLOT["RESULT"]).value
        _decref(guest.words[SLOT["RESULT"] >> 3])
        return result

    def _skip_instruction(self, point: GatePoint, gate: int) -> Next:
        if point.behind:
            return point.following, point.behind
        # A branch: its callbacks lie on the ways it can go, none of which is taken.
        engine = self._engine
        gpr = engine.guest.gpr
        gpr.rip = point.following
        size = point.following - point.app
        code = engine.memory.read_data(point.app, size) or bytes(size)
        due = engine.instruments.applicable(point.app, code)
        engine.instruction_outside = point.app
        try:
            for vector in due.after:
                action = self._call(engine.instrumentation.by_vector[vector])
                if action == VMAction.BREAK_TO_VM:
                    return gpr.rip, 0
                if action == VMAction.SKIP_PATCH:
                    break
        finally:
            engine.instruction_outside = None
        return point.following, 0

    def _skip_patch(self, point: GatePoint, gate: int) -> Next:
        if not point.behind:
            after = gate >= point.first_after
            return (self._engine.guest.gpr.rip if after else point.following), 0
        cache = self._engine.cache
        last = cache.last_gate_of(point)
        if last < point.first_after:
            return point.following, point.behind
        return point.following, cache.record_word(last, 2)

    def _skip_too_late(self, point: GatePoint, gate: int) -> Next:
        warnings.warn(
            f"SKIP_INST after the instruction at {point.app:#x}: it has been executed already",
            RuntimeWarning,
            stacklevel=2,
        )
        return point.following, self._engine.cache.record_word(gate, 2)

    def _go_on(self, point: GatePoint, gate: int) -> Next:
        return point.following, self._engine.cache.record_word(gate, 2)

    def _warn_of_rip(self, point: GatePoint, gate: int, action: VMAction) -> None:
        """Warn if a callback has changed rip, and asks for something that does not go there."""
        words = self._engine.guest.words
        shown = self._engine.cache.record_word(gate, 1) or words[_TARGET]
        if words[_RIP] != shown and action in _WITHOUT_RIP:
            warnings.warn(
                f"a callback at {point.app:#x} changed rip to {words[_RIP]:#x} and returned "
                f"{action.name}: that has no effect; return BREAK_TO_VM to go there",
                RuntimeWarning,
                stacklevel=2,
            )
            words[_RIP] = shown

    def _break(self, point: GatePoint, gate: int) -> Next:
        return self._engine.guest.gpr.rip, 0

    def _stop(self, point: GatePoint, gate: int) -> Next:
        raise StopRun


def _is_action(result: object) -> TypeGuard[VMAction]:
    return isinstance(result, VMAction) and result in _ACTIONS


def wrong_result(callback: object, result: object) -> TypeError:
    """Return what is raised when *callback* returns something that is no `VMAction`."""
    return TypeError(f"{callback!r} returned {result!r}: a callback returns a VMAction")
