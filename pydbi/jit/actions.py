"""What callbacks ask for, beyond going on: the actions SKIP_INST, SKIP_PATCH, BREAK_TO_VM, STOP.

CONTINUE never comes here: gates compare the result with it by address.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydbi.jit.app_memory import LONGEST_INSTRUCTION
from pydbi.jit.cache import GatePoint
from pydbi.jit.context import SLOT
from pydbi.jit.instrumentation import Registration
from pydbi.types import VMAction
from pydbi.x86.instruction import decode

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

_decref = ctypes.PYFUNCTYPE(None, ctypes.c_size_t)(("Py_DecRef", ctypes.pythonapi))

Next = tuple[int, int]


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
        if not isinstance(result, VMAction):
            vector = cache.record_word(gate, 0)
            registration = self._engine.instrumentation.by_vector.get(vector)
            callback = registration.callback if registration else "a callback that was deleted"
            raise _wrong_result(callback, result)
        point = cache.point_of(gate)
        actions = self._before if gate < point.first_after else self._after
        return actions[result](point, gate)

    def on_stop_address(self, stop: int) -> int:
        """Call what is due before the instruction at which a run ends; return where to go on.

        As in PyQBDI, the run's end is itself like a callback there, of priority 0 and registered
        last: those before it are called, and may send the guest elsewhere.
        """
        engine = self._engine
        if not engine.instrumentation.active or stop not in engine.ranges:
            return stop
        instruction = decode(engine.memory.read_data(stop, LONGEST_INSTRUCTION) or b"", 0)
        if isinstance(instruction, int):
            return stop
        due = engine.instrumentation.applicable(stop, instruction.length)
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
        if not isinstance(action, VMAction):
            raise _wrong_result(callback, action)
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
        due = engine.instrumentation.applicable(point.app, point.following - point.app)
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

    def _break(self, point: GatePoint, gate: int) -> Next:
        return self._engine.guest.gpr.rip, 0

    def _stop(self, point: GatePoint, gate: int) -> Next:
        raise StopRun


def _wrong_result(callback: object, result: object) -> TypeError:
    return TypeError(f"{callback!r} returned {result!r}: a callback returns a VMAction")
