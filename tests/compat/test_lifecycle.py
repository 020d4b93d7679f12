"""VMs that come and go, several of them, and what keeps what alive."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import BASE, Guest, either, fate, wrong

Make = Callable[..., Guest]


class Data:
    """An object that can be watched."""


def two(guest: Make) -> tuple[Guest, Guest]:
    return guest("inc rax"), guest("inc rbx", at=BASE + 0x100000)


def test_two_vms_have_their_own_registers(guest: Make) -> None:
    """Registers of one VM are not the other's."""
    g, h = two(guest)
    g.set(rax=1, rbx=1)
    h.set(rax=10, rbx=10)
    assert g.run() is h.run() is True
    assert (g.get("rax"), g.get("rbx")) == (2, 1)
    assert (h.get("rax"), h.get("rbx")) == (10, 11)


def test_two_vms_have_their_own_ranges(guest: Make) -> None:
    """Ranges of one VM are not the other's."""
    g, h = two(guest)
    assert h.vm.run(g["start"], g["end"]) is False
    assert g.vm.run(h["start"], h["end"]) is False


def test_two_vms_have_their_own_callbacks(guest: Make, qbdi: Any) -> None:
    """Callbacks of two VMs do not meet."""
    g, h = two(guest)
    g.on("PRE", "g")
    h.on("PRE", "h")
    if wrong(qbdi, "the second registration replaces the first one's, which has the same id"):
        assert fate(g.run) == "exit 1"
        assert fate(h.run) == "lives"
    else:
        assert g.run() is h.run() is True
        assert (g.log, h.log) == ([("g", "start")], [("h", "start")])


def test_deleting_callbacks_of_one_vm(guest: Make, qbdi: Any) -> None:
    """Deleting the callbacks of one VM leaves the other one's."""

    def delete() -> None:
        g, h = two(guest)
        g.on("PRE", "g")
        assert g.run()
        h.on("PRE", "h")
        assert h.run()
        g.vm.deleteAllInstrumentations()
        assert h.run()
        assert h.log == [("h", "start")] * 2

    assert fate(delete) == either(
        qbdi, pyqbdi="SIGSEGV", right="lives", reason="the other VM's data is freed"
    )


def test_two_vms_over_the_same_code(guest: Make, qbdi: Any) -> None:
    """Two VMs may instrument the same code, with callbacks in one of them."""
    g = guest("inc rax")
    g.on("PRE", "g")
    other = qbdi.VM()
    other.addInstrumentedRange(g["start"], g["end"])
    other.getGPRState().rax = 5
    assert other.run(g["start"], g["end"]) is True
    assert g.log == []
    assert other.getGPRState().rax == 6


def test_a_vm_in_a_callback_of_another(guest: Make, qbdi: Any) -> None:
    """A callback may run another VM."""
    g, h = two(guest)
    g.set(rax=0)
    h.set(rbx=0)

    def callback(*_: Any) -> Any:
        assert h.run() is True
        return qbdi.CONTINUE

    g.vm.addCodeCB(qbdi.PREINST, callback, None)
    assert g.run() is True
    assert (g.get("rax"), h.get("rbx")) == (1, 1)


def test_many_vms(qbdi: Any, guest: Make) -> None:
    """VMs can be made, used and dropped, one after the other."""
    g = guest("inc rax")
    for number in range(50):
        vm = qbdi.VM()
        vm.addInstrumentedRange(g["start"], g["end"])
        vm.getGPRState().rax = number
        assert vm.run(g["start"], g["end"]) is True
        assert vm.getGPRState().rax == number + 1


def test_states_keep_their_vm(qbdi: Any) -> None:
    """A state taken from a VM can be used after the VM is dropped."""
    vm = qbdi.VM()
    gpr, fpr = vm.getGPRState(), vm.getFPRState()
    gpr.rbx, fpr.xmm1 = 8, b"0123456789abcdef"
    del vm
    gc.collect()
    others = [qbdi.VM() for _ in range(3)]
    assert (gpr.rbx, fpr.xmm1) == (8, b"0123456789abcdef")
    gpr.rbx = 9
    assert {other.getGPRState().rbx for other in others} == {0}


def test_callbacks_and_data_are_kept(guest: Make, qbdi: Any) -> None:
    """A VM keeps the callables and data it was given."""
    g = guest("nop")
    data = Data()
    watch = weakref.ref(data)
    seen = []

    def callback(vm: Any, gpr: Any, fpr: Any, given: Any) -> Any:
        seen.append(type(given))
        return qbdi.CONTINUE

    g.vm.addCodeCB(qbdi.PREINST, callback, data)
    del callback, data
    gc.collect()
    assert watch() is not None
    assert g.run()
    assert seen == [Data]


@pytest.mark.parametrize("how", ["deleteInstrumentation", "deleteAllInstrumentations"])
def test_deleted_callbacks_are_released(guest: Make, qbdi: Any, how: str) -> None:
    """Deleting a callback releases the callable and its data."""
    g = guest("nop")
    data, held = Data(), g.noting("x")
    before = sys.getrefcount(held)
    number = g.vm.addCodeCB(qbdi.PREINST, held, data)
    assert sys.getrefcount(held) > before
    assert g.run()
    watch = weakref.ref(data)
    del data
    getattr(g.vm, how)(*([number] if how == "deleteInstrumentation" else []))
    gc.collect()
    assert watch() is None
    assert sys.getrefcount(held) == before


def test_a_dropped_vm_releases_its_callbacks(guest: Make, qbdi: Any) -> None:
    """With the VM go its callbacks' data."""
    g = guest("nop")
    vm = qbdi.VM()
    vm.addInstrumentedRange(g["start"], g["end"])
    data = Data()
    watch = weakref.ref(data)
    vm.addCodeCB(qbdi.PREINST, lambda *_: qbdi.CONTINUE, data)
    assert vm.run(g["start"], g["end"]) is True
    del vm, data
    gc.collect()
    expected = either(qbdi, pyqbdi=True, right=False, reason="they are never released")
    assert (watch() is not None) is expected


def test_a_vm_dropped_before_it_ran(guest: Make, qbdi: Any) -> None:
    """A VM that was never used goes quietly."""
    vm = qbdi.VM()
    vm.addCodeCB(qbdi.PREINST, lambda *_: qbdi.CONTINUE, None)
    del vm
    gc.collect()
    g = guest("inc rax")
    g.set(rax=0)
    assert g.run()
    assert g.get("rax") == 1


def test_a_vm_that_its_callbacks_hold(guest: Make, qbdi: Any) -> None:
    """A cycle through a callback does not disturb the VM."""
    g = guest("inc rax")
    vm = g.vm
    vm.addCodeCB(qbdi.PREINST, lambda *_: (vm, qbdi.CONTINUE)[1], vm)
    gc.collect()
    assert g.run() is True


def test_runs_in_a_thread(guest: Make, qbdi: Any) -> None:
    """A VM made in a thread runs there."""
    import threading

    results: list[Any] = []

    def work() -> None:
        g = guest("inc rax")
        g.on("PRE", "x")
        g.set(rax=4)
        results.append((g.run(), g.get("rax"), g.log))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert results == [(True, 5, [("x", "start")])]


def test_cycles_of_adding_and_deleting(guest: Make, qbdi: Any) -> None:
    """Adding, running and deleting can be repeated."""
    g = guest("a: inc rax\nb: inc rax")
    g.set(rax=0)
    for turn in range(30):
        number = g.on("PRE", turn, at="b")
        assert g.run()
        g.vm.deleteInstrumentation(number)
        assert g.run()
    assert g.get("rax") == 120
    assert [name for name, _ in g.log] == list(range(30))
