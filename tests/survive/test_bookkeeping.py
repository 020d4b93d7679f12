"""No leaks over many cycles, nothing translated more often than it must be."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

import pydbi
from tests.compat.harness import BASE, Guest, wrong
from tests.exec.resident import resident_size

LOOP = "a: inc rbx; add rdx, rbx; mov [rip + data], rdx; dec rcx; jnz a"


def _go_on(*_: object) -> Any:
    return pydbi.CONTINUE


def grows(cycle: Callable[[], object], first: int, count: int) -> int:
    """Bytes by which the process grows over *count* cycles, after *first* of them.

    They are run twice, and the smaller number counts: a leak goes on, while a table or a heap that
    has just become larger does so once.
    """
    for _ in range(first):
        cycle()
    growths = []
    for _ in range(2):
        before = resident_size()
        for _ in range(count):
            cycle()
        growths.append(resident_size() - before)
    return min(growths)


CYCLES: dict[str, Callable[[Guest], Any]] = {
    "addresses": lambda g: g.vm.addCodeAddrCB(g["a"], pydbi.PREINST, _go_on, None),
    "ranges": lambda g: g.vm.addCodeRangeCB(g["start"], g["end"], pydbi.PREINST, _go_on, None),
    "everything": lambda g: g.vm.addCodeCB(pydbi.POSTINST, _go_on, None),
    "mnemonics": lambda g: g.vm.addMnemonicCB("ADD*", pydbi.PREINST, _go_on, None),
    "events": lambda g: g.vm.addVMEventCB(pydbi.BASIC_BLOCK_ENTRY, _go_on, None),
    "accesses": lambda g: g.vm.addMemAccessCB(pydbi.MEMORY_WRITE, _go_on, None),
    "watches": lambda g: g.vm.addMemAddrCB(g.data, pydbi.MEMORY_WRITE, _go_on, None),
    "rules": lambda g: g.vm.addInstrRule(
        lambda *_: [pydbi.InstrRuleDataCBK(_go_on, None, pydbi.PREINST)],
        pydbi.ANALYSIS_INSTRUCTION,
        None,
    ),
}
FORGOTTEN = 1100
"""Translations that are forgotten one by one take room until there are a thousand of them."""
FIRST = {"addresses": FORGOTTEN, "ranges": FORGOTTEN}
COUNT = 500
"""Cycles: what grows by a quarter of a KiB in each is found, and by 20 bytes in the long test."""


@pytest.mark.parametrize("kind", CYCLES)
def test_adding_running_and_deleting(kind: str) -> None:
    """Add, run, delete, again and again: the process stays as large as it is."""
    g = Guest(pydbi, LOOP)

    def cycle() -> None:
        number = CYCLES[kind](g)
        g.set(rcx=2)
        assert g.run()
        assert g.vm.deleteInstrumentation(number) is None

    assert grows(cycle, FIRST.get(kind, 200), COUNT) < 128 << 10
    g.vm.deleteAllInstrumentations()
    g.set(rbx=0, rdx=0, rcx=10)
    assert g.run()
    assert g.get("rdx") == 55


@pytest.mark.takes(600)
@pytest.mark.skipif("PYDBI_LONG" not in os.environ, reason="takes minutes: set PYDBI_LONG")
@pytest.mark.parametrize("kind", CYCLES)
def test_a_hundred_thousand_cycles(kind: str) -> None:
    """The same, for as long as it takes."""
    g = Guest(pydbi, LOOP)

    def cycle() -> None:
        number = CYCLES[kind](g)
        g.set(rcx=2)
        assert g.run()
        g.vm.deleteInstrumentation(number)

    assert grows(cycle, 1000, 100_000) < 2 << 20


def test_runs_of_code_that_changes() -> None:
    """Runs with other stops, cleared caches, and code written anew leave nothing behind."""
    g = Guest(pydbi, LOOP + "\nb: nop; nop; nop; nop; nop; nop; nop; nop")
    turn = 0

    def cycle() -> None:
        nonlocal turn
        turn += 1
        g.set(rcx=2)
        assert g.vm.run(g["start"], g["b"] + turn % 9)
        if turn % 3 == 0:
            g.vm.clearCache(g["start"], g["end"])

    assert grows(cycle, FORGOTTEN, 400) < 128 << 10


def test_exceptions_leave_nothing() -> None:
    """Exceptions out of callbacks, faults, timeouts: thousands of each."""
    g = Guest(pydbi, "nop; f: mov rax, [rdi]; ret; b: .byte 6; a: inc rbx; jmp a")
    error = ValueError("from a callback")

    def throw(*_: object) -> Any:
        raise error

    g.vm.addCodeAddrCB(g["start"], pydbi.PREINST, throw, None)

    def cycle() -> None:
        for start, timeout in (("start", None), ("f", None), ("b", None), ("a", 0.0)):
            g.set(rdi=8)
            with pytest.raises((ValueError, pydbi.GuestFault, pydbi.GuestTimeout)):
                g.vm.run(g[start], g["end"], timeout=timeout)
            error.__traceback__ = None

    assert grows(cycle, 50, 100) < 128 << 10


def test_vms_that_come_and_go() -> None:
    """VMs are released with their caches and tables, and mapped memory with them."""

    def mapped() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    g = Guest(pydbi, LOOP)

    def cycle() -> None:
        vm = pydbi.VM()
        vm.addInstrumentedRange(g["start"], g["end"])
        vm.addCodeCB(pydbi.PREINST, _go_on, vm)
        gpr = vm.getGPRState()
        gpr.rsp, gpr.rcx = g.stack_top, 3
        assert vm.run(g["start"], g["end"])
        del vm, gpr
        gc.collect()

    cycle()
    before = mapped()
    assert grows(cycle, 20, 40) < 256 << 10
    assert mapped() - before < 64 << 20


def test_callbacks_one_by_one() -> None:
    """Ten thousand callbacks at single addresses, added one by one while the code is in use: each
    costs what its own block costs, not what all of them do."""
    count = 10_000
    g = Guest(pydbi, "a: " + "inc rbx; jmp 1f; 1: " * 2000 + "nop")
    addresses = [g["a"] + 5 * number + 3 * half for number in range(2000) for half in (0, 1)]
    assert g.run()
    size = g.vm.stats.instructions
    begin = time.process_time()
    for number in range(count):
        g.vm.addCodeAddrCB(addresses[number % len(addresses)], pydbi.PREINST, _go_on, None)
        if number % 500 == 499:
            g.set(rbx=0)
            assert g.run()
            assert g.get("rbx") == 2000
    taken = time.process_time() - begin
    # Each registration has at most its block translated anew, once.
    assert g.vm.stats.instructions < size + 4 * count
    assert taken < 20
    for number in range(count):
        g.vm.deleteInstrumentation(number)
    g.set(rbx=0)
    assert g.run()
    assert g.get("rbx") == 2000


def test_callbacks_elsewhere_leave_blocks_alone() -> None:
    """A callback at code that is not translated yet costs no translation of what is."""
    g = Guest(pydbi, LOOP + "\njmp end\nf: " + "nop; " * 64)
    g.set(rcx=5)
    assert g.run()
    before = g.vm.stats
    for offset in range(64):
        g.vm.addCodeAddrCB(g["f"] + offset, pydbi.PREINST, _go_on, None)
    g.set(rcx=5)
    assert g.run()
    after = g.vm.stats
    assert after.instructions - before.instructions <= 2
    assert after.resets == before.resets


def test_blocks_are_counted_after_clearing(qbdi: Any) -> None:
    """getNbExecBlock is 0 again when the cache is cleared; PyQBDI goes on counting wrongly."""
    g = Guest(qbdi, LOOP, at=BASE)
    g.set(rcx=2)
    assert g.vm.getNbExecBlock() == 0
    assert g.run()
    assert g.vm.getNbExecBlock() == 1
    g.vm.clearAllCache()
    assert g.vm.getNbExecBlock() == (1 if wrong(qbdi, "a block remains") else 0)
