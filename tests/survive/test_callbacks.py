"""Callbacks that raise, return nonsense, run the VM again, or change what is instrumented."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

import pydbi
from tests.compat.harness import BASE, Guest
from tests.survive.fates import check_fate

LOOP = "a: inc rbx; add rdx, rbx; mov [rip + data], rdx; call f; dec rcx; jnz a; jmp end; f: ret"
ROUNDS = 50


class OwnError(BaseException):
    """An exception of one's own, below BaseException."""


EXCEPTIONS = (
    ValueError, KeyError, MemoryError, RecursionError, AssertionError, StopIteration,
    GeneratorExit, KeyboardInterrupt, SystemExit, OwnError, asyncio.CancelledError, OSError,
    pydbi.CacheError, pydbi.ReentryError, TimeoutError,
)  # fmt: skip

Callback = Callable[..., Any]
# How a callback is registered: each is called at least twice in a round of the loop.
KINDS: dict[str, Callable[[Any, Guest, Callback], Any]] = {
    "before": lambda qbdi, g, act: g.vm.addCodeCB(qbdi.PREINST, act, None),
    "after": lambda qbdi, g, act: g.vm.addCodeCB(qbdi.POSTINST, act, None),
    "address": lambda qbdi, g, act: g.vm.addCodeAddrCB(g["a"], qbdi.PREINST, act, None),
    "mnemonic": lambda qbdi, g, act: g.vm.addMnemonicCB("RET*", qbdi.PREINST, act, None),
    "block entry": lambda qbdi, g, act: g.vm.addVMEventCB(qbdi.BASIC_BLOCK_ENTRY, act, None),
    "block exit": lambda qbdi, g, act: g.vm.addVMEventCB(qbdi.BASIC_BLOCK_EXIT, act, None),
    "new block": lambda qbdi, g, act: g.vm.addVMEventCB(qbdi.BASIC_BLOCK_NEW, act, None),
    "access": lambda qbdi, g, act: g.vm.addMemAccessCB(qbdi.MEMORY_WRITE, act, None),
    "access range": lambda qbdi, g, act: g.vm.addMemRangeCB(
        g.data, g.data + 8, qbdi.MEMORY_READ_WRITE, act, None
    ),
    "rule": lambda qbdi, g, act: g.vm.addInstrRule(act, qbdi.ANALYSIS_INSTRUCTION, None),
}


def looping(qbdi: Any, at: int = BASE) -> Guest:
    """A guest that sums up in rdx, in ROUNDS rounds."""
    g = Guest(qbdi, LOOP, at=at)
    g.set(rbx=0, rdx=0, rcx=ROUNDS)
    return g


def check_sum(g: Guest) -> None:
    """The loop has done what it is for, no more and no less."""
    assert g.get("rbx") == ROUNDS
    assert g.get("rdx") == ROUNDS * (ROUNDS + 1) // 2
    assert g.get("rcx") == 0
    assert g.get("rsp") == g.stack_top


@pytest.mark.parametrize("kind", KINDS)
def test_exceptions(kind: str) -> None:
    """What is raised comes out of run, the very object; run(rip) goes on to the right end."""
    for number, error_class in enumerate(EXCEPTIONS):
        g = looping(pydbi, BASE - (number + 1 << 32))
        error = error_class("from the callback")
        calls = 0

        def act(*_: object, error: BaseException = error) -> Any:
            nonlocal calls
            calls += 1
            if calls % 3 == 2:
                raise error
            return [] if kind == "rule" else pydbi.CONTINUE

        KINDS[kind](pydbi, g, act)
        start, raised, others = g["start"], 0, 0
        while raised < 12:
            try:
                assert g.vm.run(start, g["end"])
                break
            except error_class as caught:
                assert caught is error  # noqa: PT017
                raised += 1
                start = g.get("rip")
                assert not g.vm._dispatcher.running
        assert not others
        assert raised or kind == "new block"
        g.vm.deleteAllInstrumentations()
        if g.get("rip") != g["end"]:
            assert g.vm.run(g.get("rip"), g["end"])
        check_sum(g)


@pytest.mark.parametrize("result", ["None", "0", "True", "'CONTINUE'", "1.5", "[]", "object()"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "rule"])
def test_wrong_results(kind: str, result: str) -> None:
    """What is no VMAction is a TypeError that names it; the guest can go on."""
    g = looping(pydbi)
    value = eval(result)
    KINDS[kind](pydbi, g, lambda *_: value)
    with pytest.raises(TypeError):
        g.run()
    g.vm.deleteAllInstrumentations()
    assert g.vm.run(g.get("rip"), g["end"])
    check_sum(g)


FATES: dict[str, tuple[Callable[[Any, Guest], Any], str]] = {
    # name: (what the callback does, what becomes of PyQBDI)
    "raises ValueError": (lambda qbdi, g: int("x"), "exit 1"),
    "raises SystemExit": (lambda qbdi, g: exec("raise SystemExit(7)"), "exit 1"),
    "raises KeyboardInterrupt": (lambda qbdi, g: exec("raise KeyboardInterrupt"), "exit 1"),
    "returns None": (lambda qbdi, g: None, "exit 1"),
    "returns text": (lambda qbdi, g: "CONTINUE", "exit 1"),
    "runs the VM": (lambda qbdi, g: g.vm.run(g["start"], g["end"]) and qbdi.CONTINUE, "SIGABRT"),
    "calls with the VM": (lambda qbdi, g: g.vm.call(g["f"], []) and qbdi.CONTINUE, "SIGABRT"),
    "sets options": (lambda qbdi, g: setattr(g.vm, "options", qbdi.OPT_DISABLE_FPR), "SIGABRT"),
}
RIGHT = {
    "raises ValueError": "raises ValueError",
    "raises SystemExit": "raises SystemExit",
    "raises KeyboardInterrupt": "raises KeyboardInterrupt",
    "returns None": "raises TypeError",
    "returns text": "raises TypeError",
    "runs the VM": "raises ReentryError",
    "calls with the VM": "raises ReentryError",
    "sets options": "raises ReentryError",
}


@pytest.mark.parametrize("name", FATES)
def test_fates(qbdi: Any, name: str) -> None:
    """What ends PyQBDI's process is an exception out of run."""
    act, pyqbdi = FATES[name]

    def run() -> None:
        g = looping(qbdi)
        g.vm.addCodeAddrCB(g["a"], qbdi.PREINST, lambda *_: act(qbdi, g), None)
        g.run()

    check_fate(qbdi, run, pyqbdi=pyqbdi, right=RIGHT[name], reason="it ends the process")


def test_what_is_no_callback(qbdi: Any) -> None:
    """None instead of a callback is refused at once, not when it is due."""

    def run() -> None:
        g = looping(qbdi)
        g.vm.addCodeCB(qbdi.PREINST, None, None)
        g.run()

    check_fate(qbdi, run, pyqbdi="exit 1", right="raises TypeError", reason="it is called")


def test_reentry_leaves_the_run_alone() -> None:
    """A callback that catches its ReentryError goes on, and so does its guest."""
    g = looping(pydbi)
    refused = []

    def act(vm: pydbi.VM, *_: object) -> pydbi.VMAction:
        for again in (
            lambda: vm.run(g["start"], g["end"]),
            lambda: vm.run(g["start"], g["end"], timeout=1),
            lambda: vm.call(g["f"], []),
            lambda: vm.call(g["f"], [], timeout=1),
            lambda: setattr(vm, "options", pydbi.OPT_DISABLE_FPR),
        ):
            with pytest.raises(pydbi.ReentryError):
                again()
            refused.append(1)
        return pydbi.CONTINUE

    for kind in ("before", "after", "block entry", "access"):
        KINDS[kind](pydbi, g, act)
        g.set(rbx=0, rdx=0, rcx=ROUNDS)
        assert g.run()
        check_sum(g)
        g.vm.deleteAllInstrumentations()
    assert len(refused) > 5 * 4 * ROUNDS


def test_another_vm_from_each_kind() -> None:
    """A callback of any kind may run another VM, which has callbacks that run a third one."""
    others = [looping(pydbi, BASE - (number << 32)) for number in (1, 2)]

    def innermost(*_: object) -> Any:
        g = others[1]
        g.set(rbx=0, rdx=0, rcx=ROUNDS)
        assert g.run()
        check_sum(g)
        return pydbi.CONTINUE

    others[0].vm.addCodeAddrCB(others[0]["f"], pydbi.PREINST, innermost, None)
    for number, kind in enumerate(KINDS):
        g = looping(pydbi, BASE - (number + 3 << 32))
        turns = 0

        def act(*_: object, kind: str = kind) -> Any:
            nonlocal turns
            turns += 1
            if turns < 4:
                other = others[0]
                other.set(rbx=0, rdx=0, rcx=ROUNDS)
                assert other.run()
                check_sum(other)
            return [] if kind == "rule" else pydbi.CONTINUE

        KINDS[kind](pydbi, g, act)
        assert g.run()
        check_sum(g)
        assert turns


def changes(g: Guest, rng: random.Random) -> list[Callable[[], Any]]:
    """Everything that may be changed while a guest runs."""
    vm, low, high = g.vm, g["start"], g["end"]

    def nothing(*_: object) -> pydbi.VMAction:
        return pydbi.CONTINUE

    return [
        vm.clearAllCache,
        lambda: vm.clearCache(low, low + rng.randrange(1, 40)),
        lambda: vm.removeInstrumentedRange(low, low + rng.randrange(1, 40)),
        lambda: vm.addInstrumentedRange(low, high),
        lambda: vm.removeAllInstrumentedRanges(),
        lambda: vm.addInstrumentedRange(low, low + rng.randrange(1, 40)),
        lambda: vm.addCodeCB(rng.choice((pydbi.PREINST, pydbi.POSTINST)), nothing, None),
        lambda: vm.addCodeAddrCB(g["f"], pydbi.PREINST, nothing, None),
        lambda: vm.addCodeRangeCB(low, high, pydbi.POSTINST, nothing, None),
        lambda: vm.addMnemonicCB("ADD*", pydbi.PREINST, nothing, None),
        lambda: vm.addVMEventCB(pydbi.BASIC_BLOCK_EXIT | pydbi.SEQUENCE_ENTRY, nothing, None),
        lambda: vm.addVMEventCB(pydbi.EXEC_TRANSFER_CALL, nothing, None),
        lambda: vm.addMemAccessCB(pydbi.MEMORY_READ_WRITE, nothing, None),
        lambda: vm.addMemRangeCB(g.data, g.data + 64, pydbi.MEMORY_WRITE, nothing, None),
        lambda: vm.addInstrRule(lambda *_: [], pydbi.ANALYSIS_INSTRUCTION, None),
        lambda: vm.recordMemoryAccess(pydbi.MEMORY_READ_WRITE),
        lambda: vm.deleteInstrumentation(rng.randrange(30)),
        lambda: vm.deleteInstrumentation(1 << 30 | rng.randrange(10)),
        lambda: vm.deleteInstrumentation(1 << 31 | rng.randrange(10)),
        lambda: vm.precacheBasicBlock(g["f"]),
        lambda: vm.reduceCacheTo(0),
        lambda: vm.getInstAnalysis(),
        lambda: vm.getBBMemoryAccess(),
        lambda: vm.getInstMemoryAccess(),
        lambda: vm.getFPRState(),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_anything_may_change_at_any_point(seed: int) -> None:
    """Callbacks of random kinds do random things; the guest's sums are right all the same."""
    rng = random.Random(seed)
    for number in range(4):
        g = looping(pydbi, BASE - (number + 1 << 32))
        possible = changes(g, rng)
        kinds = rng.sample([kind for kind in KINDS if kind != "rule"], 3)
        done = 0

        def act(*_: object, possible: list[Callable[[], Any]] = possible) -> pydbi.VMAction:
            nonlocal done
            done += 1
            if done < 200 and rng.random() < 0.4:
                rng.choice(possible)()
            return pydbi.BREAK_TO_VM if rng.random() < 0.02 else pydbi.CONTINUE

        for kind in kinds:
            KINDS[kind](pydbi, g, act)
        assert g.run()
        check_sum(g)
        g.vm.deleteAllInstrumentations()
        g.vm.addInstrumentedRange(g["start"], g["end"])
        g.set(rbx=0, rdx=0, rcx=ROUNDS)
        assert g.run()
        check_sum(g)
        assert done
