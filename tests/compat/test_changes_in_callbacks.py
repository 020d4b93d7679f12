"""Callbacks that change what is instrumented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.compat.harness import Guest

Make = Callable[..., Guest]


def places(g: Guest) -> str:
    return "".join(place for _, place in g.log)


def test_adding_in_a_callback(guest: Make, qbdi: Any) -> None:
    """A callback added in a callback is called from the next block that is entered on."""
    g = guest("a: nop\nb: jmp c\nc: nop\nd: nop")

    def callback(vm: Any, gpr: Any, fpr: Any, data: Any) -> Any:
        g.on("PRE", "x")
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g["a"], qbdi.PREINST, callback, None)
    assert g.run()
    assert places(g) == "cd"


def test_adding_with_break_to_vm(guest: Make, qbdi: Any) -> None:
    """With BREAK_TO_VM it is called at once: also at the instruction itself."""
    g = guest("a: nop\nb: nop\nc: nop")
    done = []

    def callback(vm: Any, gpr: Any, fpr: Any, data: Any) -> Any:
        if done:
            return qbdi.CONTINUE
        done.append(g.on("PRE", "x"))
        return qbdi.BREAK_TO_VM

    g.vm.addCodeAddrCB(g["b"], qbdi.PREINST, callback, None)
    assert g.run()
    assert places(g) == "bc"


def test_deleting_in_a_callback(guest: Make, qbdi: Any) -> None:
    """With BREAK_TO_VM a callback deleted in a callback is not called any more."""
    g = guest("a: nop\nb: nop\nc: nop")
    number = g.on("PRE", "x")

    def callback(vm: Any, gpr: Any, fpr: Any, data: Any) -> Any:
        vm.deleteInstrumentation(number)
        return qbdi.BREAK_TO_VM

    g.vm.addCodeAddrCB(g["b"], qbdi.POSTINST, callback, None)
    assert g.run()
    assert places(g) == "ab"


def test_a_callback_deletes_itself(guest: Make, qbdi: Any) -> None:
    """A callback can delete itself, and is not called in a later run."""
    g = guest("a: nop\nb: jmp a2\na2: nop")
    numbers: list[int] = []
    calls = []

    def callback(vm: Any, gpr: Any, fpr: Any, data: Any) -> Any:
        calls.append(g.where(gpr.rip))
        vm.deleteInstrumentation(numbers[0])
        return qbdi.BREAK_TO_VM

    numbers.append(g.vm.addCodeAddrCB(g["a"], qbdi.PREINST, callback, None))
    assert g.run()
    assert g.run()
    assert calls == ["a"]


def test_clearing_the_cache_in_a_callback(guest: Make, qbdi: Any) -> None:
    """Clearing the cache in a callback does not disturb the run."""
    g = guest("a: inc rax\nb: jmp c\nc: inc rax\nd: dec rcx; jnz a")

    def callback(vm: Any, gpr: Any, fpr: Any, data: Any) -> Any:
        vm.clearAllCache()
        g.log.append(("x", g.where(gpr.rip)))
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g["c"], qbdi.PREINST, callback, None)
    g.set(rax=0, rcx=3)
    assert g.run()
    assert g.get("rax") == 6
    assert places(g) == "ccc"


def test_ranges_in_a_callback(guest: Make, qbdi: Any) -> None:
    """A range removed in a callback is left out from the next block on."""
    g = guest("a: call f\nb: call f\nc: jmp end\n.balign 64\nf: inc rbx; ret")
    g.on("PRE", "x", at="f")

    def callback(vm: Any, gpr: Any, fpr: Any, data: Any) -> Any:
        vm.removeInstrumentedRange(g["f"], g["end"])
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g["b"], qbdi.PREINST, callback, None)
    g.set(rbx=0)
    assert g.run()
    assert g.get("rbx") == 2
    assert places(g) == "f"
