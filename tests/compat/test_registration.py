"""Ids, deletion, and what cannot be registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import Guest, either, fate, wrong

Make = Callable[..., Guest]


THREE = "a: mov rax, 1\nb: mov rbx, 2\nc: nop"


def names(g: Guest) -> str:
    return "".join(str(name) for name, _ in g.log)


def test_ids_count_from_zero(guest: Make) -> None:
    """All kinds of callbacks share one count."""
    g = guest("nop")
    pre, note = g.qbdi.PREINST, g.noting("x")
    found = [
        g.vm.addCodeCB(pre, note, None),
        g.vm.addCodeCB(g.qbdi.POSTINST, note, None),
        g.vm.addCodeAddrCB(g.base, pre, note, None),
        g.vm.addCodeRangeCB(g.base, g["end"], pre, note, None),
        g.vm.addMnemonicCB("*", pre, note, None),
    ]
    assert found == [0, 1, 2, 3, 4]
    assert {type(number) for number in found} == {int}


def test_deleted_ids_are_not_used_again(guest: Make) -> None:
    """Deleting the last callback does not turn the count back."""
    g = guest("nop")
    assert (g.on("PRE", "a"), g.on("PRE", "b")) == (0, 1)
    g.vm.deleteInstrumentation(1)
    assert g.on("PRE", "c") == 2


def test_deleting_everything_restarts_the_count(guest: Make) -> None:
    """After deleteAllInstrumentations nothing is called, and ids count from 0 again."""
    g = guest("nop")
    for name in "abc":
        g.on("PRE", name)
    assert g.vm.deleteAllInstrumentations() is None
    assert g.on("PRE", "d") == 0
    assert g.run()
    assert names(g) == "d"


def test_nothing_is_called_after_deleting_everything(guest: Make) -> None:
    """After deleteAllInstrumentations code runs as if never instrumented."""
    g = guest("nop")
    for position in ("PRE", "POST"):
        g.on(position, "x")
    assert g.run()
    assert names(g) == "xx"
    g.vm.deleteAllInstrumentations()
    assert g.run()
    assert names(g) == "xx"


def test_ids_after_a_run(guest: Make, qbdi: Any) -> None:
    """The next id is the one after the last."""
    g = guest("nop")
    assert g.on("PRE", "a") == 0
    assert g.run()
    reason = "a run takes an id for its stop address"
    assert g.on("PRE", "b") == either(qbdi, pyqbdi=2, right=1, reason=reason)


@pytest.mark.parametrize("gone", range(3))
def test_deleting_one(guest: Make, gone: int) -> None:
    """A deleted callback is not called again; the others are."""
    g = guest("nop")
    numbers = [g.on("PRE", name) for name in "abc"]
    assert g.run()
    assert names(g) == "abc"
    g.log.clear()
    assert g.vm.deleteInstrumentation(numbers[gone]) is None
    assert g.run()
    assert names(g) == "abc".replace("abc"[gone], "")


@pytest.mark.parametrize("number", [0, 5, 0x3FFFFFFF, 1 << 30, 1 << 31, 0xFFFFFFFF])
def test_deleting_nothing(guest: Make, number: int) -> None:
    """An id without a callback is ignored."""
    g = guest("nop")
    g.vm.deleteInstrumentation(g.on("PRE", "gone"))
    g.on("PRE", "x")
    assert g.vm.deleteInstrumentation(number) is None
    assert g.run()
    assert names(g) == "x"


@pytest.mark.parametrize("number", [-1, 1 << 32, 1.5, "x", None])
def test_deleting_what_is_no_id(guest: Make, number: Any) -> None:
    """An id is an unsigned 32-bit integer; else TypeError."""
    g = guest("nop")
    g.on("PRE", "x")
    with pytest.raises(TypeError):
        g.vm.deleteInstrumentation(number)


def test_callback_added_between_runs(guest: Make) -> None:
    """A callback counts from the next run on, in code that ran before too."""
    g = guest(THREE)
    assert g.run()
    g.on("PRE", "x", at="b")
    assert g.run()
    g.on("POST", "y", at="b")
    assert g.run()
    assert g.log == [("x", "b"), ("x", "b"), ("y", "c")]


def test_the_same_callback_twice(guest: Make) -> None:
    """One callable can be registered several times, and is called as often."""
    g = guest("nop")
    note = g.noting("x")
    numbers = [g.vm.addCodeCB(g.qbdi.PREINST, note, None) for _ in range(3)]
    assert numbers == [0, 1, 2]
    assert g.run()
    assert names(g) == "xxx"


# Wrong registrations.


def test_parameters_by_name(guest: Make) -> None:
    """The parameters are address, start, end, pos, cbk, data and priority; id for deletion."""
    g = guest("nop")
    pre, note = g.qbdi.PREINST, g.noting("x")
    g.vm.addCodeCB(pos=pre, cbk=note, data=1, priority=3)
    g.vm.addCodeAddrCB(address=g.base, pos=pre, cbk=note, data=1, priority=3)
    g.vm.addCodeRangeCB(start=g.base, end=g["end"], pos=pre, cbk=note, data=1, priority=3)
    g.vm.addMnemonicCB(mnemonic="*", pos=pre, cbk=note, data=1, priority=3)
    assert g.run()
    assert names(g) == "xxxx"
    g.vm.deleteInstrumentation(id=0)


METHODS = {
    "addCodeCB": (),
    "addCodeAddrCB": (0x1000,),
    "addCodeRangeCB": (0x1000, 0x2000),
    "addMnemonicCB": ("ADD*",),
}


@pytest.mark.parametrize("method", METHODS)
def test_wrong_registrations(guest: Make, method: str) -> None:
    """A position that is none, no callable, no data or a wrong priority raise TypeError."""
    g = guest("nop")
    add, first = getattr(g.vm, method), METHODS[method]
    pre, note = g.qbdi.PREINST, g.noting("x")
    for rest in (
        (0, note, None), (g.qbdi.CONTINUE, note, None), ("PRE", note, None), (None, note, None),
        (pre, 5, None), (pre, "x", None), (pre, note), (pre,), (),
        (pre, note, None, 1.5), (pre, note, None, 1 << 31), (pre, note, None, -(1 << 31) - 1),
        (pre, note, None, None), (pre, note, None, "1"), (pre, note, None, 1, 2),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            add(*first, *rest)
    assert g.on("PRE", "x") == 0


@pytest.mark.parametrize("method", METHODS)
def test_none_as_callback(guest: Make, method: str) -> None:
    """None cannot be called."""
    g = guest("add rax, 1")
    first = (g.base,) if method == "addCodeAddrCB" else METHODS[method]
    first = (g.base, g["end"]) if method == "addCodeRangeCB" else first
    if wrong(qbdi := g.qbdi, "it is accepted, and ends the process when it is called"):
        assert getattr(g.vm, method)(*first, qbdi.PREINST, None, None) == 0
        assert fate(g.run) == "exit 1"
    else:
        with pytest.raises(TypeError):
            getattr(g.vm, method)(*first, qbdi.PREINST, None, None)


@pytest.mark.parametrize("address", [-1, 1 << 64, 1.5, None, "x"])
def test_addresses_of_callbacks(guest: Make, address: Any) -> None:
    """Addresses are unsigned 64-bit integers; else TypeError."""
    g = guest("nop")
    rest = (g.qbdi.PREINST, g.noting("x"), None)
    for method, first in (
        ("addCodeAddrCB", (address,)),
        ("addCodeRangeCB", (address, 10)),
        ("addCodeRangeCB", (0, address)),
    ):
        with pytest.raises(TypeError):
            getattr(g.vm, method)(*first, *rest)


def test_unknown_position(guest: Make, qbdi: Any) -> None:
    """A position without a name is refused."""
    g = guest("nop")
    position = qbdi.InstPosition(7)
    if wrong(qbdi, "it is accepted, and aborts the process at the next run"):
        assert g.vm.addCodeCB(position, g.noting("x"), None) == 0
        assert fate(g.run) == "SIGABRT"
    else:
        with pytest.raises((TypeError, ValueError)):
            g.vm.addCodeCB(position, g.noting("x"), None)
