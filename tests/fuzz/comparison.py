"""One case under an engine, and what is not as on the processor."""

from __future__ import annotations

import ctypes
import importlib
import signal
from pathlib import Path
from typing import Any

from pydbi.errors import DecodeError, GuestFault, UnsupportedInstruction
from tests.exec import machine_state
from tests.exec.machine_state import State
from tests.exec.native_runner import vector_level
from tests.fuzz import layout
from tests.fuzz.cases import Case, make_start
from tests.fuzz.explained import (
    REFUSED,
    is_branch_to_nowhere,
    is_locked_move,
    is_too_long,
    is_undefined_at_the_end,
)
from tests.fuzz.layout import AREA_SIZE, DATA, PAGE, SLOT_COUNT, STACK, slot_address
from tests.fuzz.native import LONGEST, NOWHERE, NativeProcess, Outcome
from tests.lockstep.tracer import SignalInfo, TraceeDiedError

MODES = ("plain", "callbacks", "recorded")
"""Without callbacks; with one before and one behind each instruction; with recorded accesses."""
FAR = "far"
"""As plain, in a process in which no memory is free in reach of the code."""
_NESTED_TASK = 0x4000
_END = layout.CHANGING + layout.CHANGING_SIZE


def _new_vm(engine: Any, mode: str) -> Any:
    vm = engine.VM()
    vm.options = engine.Options.OPT_ENABLE_FS_GS
    vm.addInstrumentedRange(layout.CODE, _END)
    go_on = engine.VMAction.CONTINUE
    if mode == "callbacks":
        for position in (engine.InstPosition.PREINST, engine.InstPosition.POSTINST):
            vm.addCodeCB(position, lambda *_: go_on, None)
    if mode == "recorded":
        vm.recordMemoryAccess(engine.MemoryAccessType.MEMORY_READ_WRITE)
        vm.addVMEventCB(engine.VMEvent.SEQUENCE_EXIT, _read_records, go_on)
    return vm


def _read_records(vm: Any, _event: Any, _gpr: Any, _fpr: Any, go_on: Any) -> Any:
    vm.getBBMemoryAccess()
    return go_on


class Comparison:
    """The traced process and a VM for each mode, in this process."""

    def __init__(self, engine_name: str, mode: str = "") -> None:
        self.vector = vector_level()
        layout.map_areas()
        self.native = NativeProcess(self.vector)
        engine = importlib.import_module(engine_name)
        if mode == FAR:
            layout.crowd()
        self._vms = {name: _new_vm(engine, name) for name in (*MODES, FAR)}
        self._changing = b""

    def load(self, cases: list[Case]) -> None:
        """Put the code of up to SLOT_COUNT cases in."""
        pages = [b"\xcc" * PAGE] * SLOT_COUNT
        for case in cases:
            pages[case.slot] = case.page
        fixed = SLOT_COUNT - layout.CHANGING_COUNT
        code, self._changing = b"".join(pages[:fixed]), b"".join(pages[fixed:])
        self.native.load(code, self._changing)
        layout.write_code(code, self._changing)
        for vm in self._vms.values():
            vm.clearCache(layout.CODE, _END)

    def run(self, case: Case, mode: str) -> list[str]:
        """Run one case that has been put in, and return the differences."""
        state, memory = make_start(case, self.vector)
        try:
            expected = self.native.run(case.slot, case.start, state, memory)
        except TraceeDiedError as end:
            return [f"the processor alone: {end}"]
        if expected.stop == case.start or _touches_the_host(expected):
            return []
        found = self._run_engine(case, mode, state, memory, expected)
        if found and _touches_the_host(expected):  # by now it may have mapped more
            return []
        return found

    def _run_engine(
        self, case: Case, mode: str, state: State, memory: tuple[bytes, bytes], expected: Outcome
    ) -> list[str]:
        vm = self._vms[mode]
        ctypes.memmove(DATA, memory[0], AREA_SIZE)
        ctypes.memmove(STACK, memory[1], AREA_SIZE)
        if slot_address(case.slot) >= layout.CHANGING:
            ctypes.memmove(layout.CHANGING, self._changing, layout.CHANGING_SIZE)
        machine_state.to_engine({k: v for k, v in state.items() if k not in ("fs", "gs")}, vm)
        gpr = vm.getGPRState()
        gpr.fs, gpr.gs = state["fs"], state["gs"]
        vm.setGPRState(gpr)
        stop = expected.stop or NOWHERE
        ended: SignalInfo | None = None
        at = 0
        try:
            vm.run(case.start, stop)
        except UnsupportedInstruction as refused:
            if refused.reason not in REFUSED:
                return [f"refused, which is not explained: {refused}"]
            place = refused.app_address or 0
            if expected.stop != place:
                expected = self.native.run(case.slot, case.start, state, memory, place)
            if expected.stop != place:
                return [f"never reached by the processor: {refused}"]
        except DecodeError as error:
            ended, at = SignalInfo(signal.SIGILL, 0, 0), error.app_address or 0
        except GuestFault as fault:
            ended = SignalInfo(int(fault.signal), fault.si_code, fault.fault_address)
            at = fault.app_address or 0
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        if expected.signal and ended:
            if is_branch_to_nowhere(expected.bare, expected.signal, ended, at):
                return []
            undefined = ended.code == 0 and expected.at == at
            prefix_count = LONGEST - len(expected.bare)
            if undefined and (
                is_undefined_at_the_end(expected.signal, at)
                or is_too_long(expected.signal, prefix_count)
                or is_locked_move(expected.signal, expected.bare)
            ):
                return []
        found = _compare_end(expected, ended, at)
        return found + self._compare_state(case, vm, expected)

    def _compare_state(self, case: Case, vm: Any, expected: Outcome) -> list[str]:
        actual = machine_state.from_engine(vm, expected.state)
        gpr = vm.getGPRState()
        actual.update(fs=gpr.fs, gs=gpr.gs)
        if "rip" in expected.state:
            actual["rip"] = gpr.rip
        found = machine_state.differences(expected.state, actual)
        if (expected.state["eflags"] ^ actual["eflags"]) & _NESTED_TASK:
            found.append("eflags: NT differs")
        places = (("data", DATA, AREA_SIZE), ("stack", STACK, AREA_SIZE))
        for (name, address, size), want in zip(
            (*places, ("code", slot_address(case.slot), PAGE)), expected.memory, strict=True
        ):
            got = ctypes.string_at(address, size)
            if got != want:
                where = next(n for n in range(size) if got[n] != want[n]) & -8
                shown = want[where : where + 16].hex(" "), got[where : where + 16].hex(" ")
                found.append(f"{name}+{where:#x}: expected {shown[0]}, got {shown[1]}")
        return found


def _compare_end(expected: Outcome, ended: SignalInfo | None, at: int) -> list[str]:
    """Compare how it ended; a decode error is SIGILL at that address."""
    want = expected.signal
    if want is None or ended is None:
        if want is ended:
            return []
        return [f"end: expected {want or expected.reason}, got {ended} at {at:#x}"]
    found = []
    if expected.at != at and expected.state.get("rip") != at:
        found.append(f"end: at {at:#x}, expected at {expected.at:#x} ({want})")
    if ended.code == 0 and ended.signal == want.signal == signal.SIGILL:
        return found  # a decode error
    if want != ended:
        found.append(f"end: expected {want}, got {ended}")
    return found


def _touches_the_host(outcome: Outcome) -> bool:
    """Whether the signal is about an address where this process has memory.

    Guest and host share one address space (transparency.md): the case would read Python's memory.
    """
    if outcome.signal is None or outcome.signal.signal not in (signal.SIGSEGV, signal.SIGBUS):
        return False
    address = outcome.signal.address
    if any(low <= address < low + size for low, size, _ in layout.AREAS) or not address:
        return False
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
        if low - 64 <= address < high:
            return True
    return False
