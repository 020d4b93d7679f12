"""Timers of 2 kHz leave what is counted and recorded of the benchmarks' kernels as it is."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from copy import copy
from typing import Any

import pytest

import pydbi
from tests.survive.test_timers import KERNELS, Timer, kernel, machine

_UNITS = 6
"""Of work: some 300,000 instructions."""
Tally = dict[str, int]


def count_instructions(vm: Any, tally: Tally) -> None:
    """Count before and behind each instruction."""

    def before(vm: Any, gpr: Any, fpr: Any, data: object) -> pydbi.VMAction:
        tally["before"] += 1
        return pydbi.CONTINUE

    def behind(vm: Any, gpr: Any, fpr: Any, data: object) -> pydbi.VMAction:
        tally["behind"] += 1
        return pydbi.CONTINUE

    vm.addCodeCB(pydbi.PREINST, before, None)
    vm.addCodeCB(pydbi.POSTINST, behind, None)


def check_path(vm: Any, tally: Tally) -> None:
    """Make a checksum of all addresses, with the flags and some registers there."""

    def note(vm: Any, gpr: Any, fpr: Any, data: object) -> pydbi.VMAction:
        state = (gpr.rip, gpr.rax, gpr.rcx, gpr.rdx, gpr.rbx, gpr.eflags)
        tally["before"] += 1
        tally["sum"] = zlib.crc32(repr(state).encode(), tally["sum"])
        return pydbi.CONTINUE

    vm.addCodeCB(pydbi.PREINST, note, None)


def count_accesses(vm: Any, tally: Tally) -> None:
    """Count the sequences, and make a checksum of what they access."""

    def note(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> pydbi.VMAction:
        tally["behind"] += 1
        for access in vm.getBBMemoryAccess():
            tally["before"] += 1
            text = f"{access.instAddress} {access.accessAddress} {access.value} {access.size}"
            tally["sum"] = zlib.crc32(text.encode(), tally["sum"])
        return pydbi.CONTINUE

    vm.recordMemoryAccess(pydbi.MEMORY_READ_WRITE)
    vm.addVMEventCB(pydbi.SEQUENCE_EXIT, note, None)


@pytest.mark.parametrize("watch", [count_instructions, check_path, count_accesses])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels(name: str, watch: Callable[[Any, Tally], None]) -> None:
    """Counts, checksums, results and the final registers are those of an undisturbed run."""
    function, address = kernel(name)
    vm = machine(address)
    tally: Tally = {"before": 0, "behind": 0, "sum": 0}
    watch(vm, tally)
    expected = function(_UNITS)
    start = copy(vm.getGPRState())

    def run() -> tuple[Any, ...]:
        tally.update(before=0, behind=0, sum=0)
        vm.setGPRState(start)
        result = vm.call(address, [_UNITS])
        gpr = vm.getGPRState()
        registers = [gpr[number] for number in range(18)]
        return result, registers, dict(tally)

    undisturbed = run()
    assert undisturbed == run()
    assert undisturbed[0] == (True, expected)
    assert tally["before"] > 1000
    timer = Timer()
    with timer.running():
        for _ in range(2):
            assert run() == undisturbed
    assert timer.ticks > 20
