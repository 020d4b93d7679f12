"""The callbacks that rules give: their order, their actions, where they apply, and their ends."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compat.harness import wrong
from tests.compat.ruled_guest import SECOND, RuledGuest


def test_order_among_callbacks(qbdi: Any) -> None:
    """By priority of the callback, then of its rule, then by registration, then as listed.

    addCodeCB makes a rule of its callback's priority; addInstrRule makes one of priority 0.
    """
    g = RuledGuest(qbdi, "here: inc rax\nnext: jmp end")
    g.on("PRE", "a", at="here")
    g.on("PRE", "a5", at="here", priority=5)
    listed = [("r1", 0), ("r5", 5), ("r2", 0), ("r-1", -1)]
    g.rule(answer=g.at("here", *[g.due("PRE", name, priority=value) for name, value in listed]))
    g.on("PRE", "b", at="here")
    g.on("PRE", "b5", at="here", priority=5)
    g.on("PRE", "c-1", at="here", priority=-1)
    names = [name for name, _ in g.called()]
    assert names == ["a5", "b5", "r5", "a", "r1", "r2", "b", "r-1", "c-1"]


def test_order_after_instructions(qbdi: Any) -> None:
    g = RuledGuest(qbdi, "here: inc rax\nnext: jmp end")
    g.on("POST", "a", at="here")
    g.rule(answer=g.at("here", g.due("POST", "r"), g.due("POST", "r5", priority=5)))
    g.on("POST", "b", at="here")
    names = [name for name, _ in g.called()]
    assert names == ["r5", "a", "r", "b"]


@pytest.mark.parametrize(
    ("position", "action", "names", "rip"),
    [
        ("PRE", "SKIP_INST", ["x", "post"], "end"),
        ("PRE", "SKIP_PATCH", ["x"], "end"),
        ("PRE", "BREAK_TO_VM", ["x", "x", "post"], "end"),
        ("PRE", "STOP", ["x"], "store"),
        ("POST", "SKIP_PATCH", ["x"], "end"),
        ("POST", "BREAK_TO_VM", ["x"], "end"),
        ("POST", "STOP", ["x"], "last"),
    ],
)
def test_actions(qbdi: Any, position: str, action: str, names: list[str], rip: str) -> None:
    g = RuledGuest(qbdi)
    g.rule(answer=g.at("store", g.due(position, "x", action)))
    g.on("POST", "post", at="store")
    assert [name for name, _ in g.called()] == names
    assert g.get("rip") == g[rip]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ("turn", "branch", ["turn", "down"]),
        ("turn", "end", ["turn", "down", "branch", *SECOND]),
        ("start", "start", []),
        ("down", "turn", []),
    ],
)
def test_range(qbdi: Any, low: Any, high: Any, expected: Any) -> None:
    g = RuledGuest(qbdi)
    rule = g.noting_rule()
    assert g.vm.addInstrRuleRange(g[low], g[high], rule, g.instruction, None) == 0
    assert g.asked() == expected


def test_range_has_instructions_that_lie_wholly_in_it(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    rule = g.noting_rule()
    g.vm.addInstrRuleRange(g["turn"] + 1, g["store"] - 1, rule, g.instruction, None)
    assert g.asked() == ["down"]


def test_code_outside_the_instrumented_ranges(qbdi: Any) -> None:
    g = RuledGuest(qbdi, "call outside\nback: jmp end\noutside: inc rax\nret")
    g.vm.removeInstrumentedRange(g["outside"], g["end"])
    g.rule()
    assert g.events() == ["start", "back"]


def test_ids(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    rule = g.noting_rule()
    assert g.rule() == 0
    assert g.on("PRE", "x") == 1
    assert g.vm.addInstrRuleRange(g.base, g["end"], rule, g.instruction, None) == 2
    g.vm.deleteAllInstrumentations()
    assert g.rule() == 0


def test_deletion(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    first = g.rule("a ", lambda where: [g.due("PRE", "pre a")])
    second = g.rule("b ", lambda where: [g.due("PRE", "pre b")])
    assert g.events("last") == ["a last", "b last", ("pre a", "last"), ("pre b", "last")]
    g.vm.deleteInstrumentation(first)
    assert g.events("last") == ["b last", ("pre b", "last")]
    g.vm.deleteInstrumentation(second)
    assert g.events("last") == []


def test_callback_added_within_a_rule(qbdi: Any) -> None:
    """At the latest in the next run it is called."""
    g = RuledGuest(qbdi)
    added: list[int] = []

    def answer(where: str) -> Any:
        if not added:
            added.append(g.on("PRE", "new", at="last"))
        return []

    g.rule(answer=answer)
    if not wrong(qbdi, "its list of rules changes under it, and may crash"):
        g.run()
        assert ("new", "last") in g.events()


def test_written_registers_take_effect(qbdi: Any) -> None:
    g = RuledGuest(qbdi)

    def write(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        gpr.rax = 1000
        return qbdi.CONTINUE

    g.rule(answer=g.at("store", qbdi.InstrRuleDataCBK(write, None, qbdi.PREINST)))
    g.run()
    assert g.read(8, 8) == (1000).to_bytes(8, "little")


def test_datacbk_has_its_fields(qbdi: Any) -> None:
    mine, other = object(), object()
    callback = lambda *_: qbdi.CONTINUE  # noqa: E731
    due = qbdi.InstrRuleDataCBK(callback, mine, qbdi.POSTINST)
    assert (due.position, due.priority) == (qbdi.POSTINST, 0)
    assert due.data is mine
    assert callable(due.cbk)
    due.position, due.priority, due.data, due.cbk = qbdi.PREINST, 3, other, callback
    assert (due.position, due.priority) == (qbdi.PREINST, 3)
    assert due.data is other


def test_datacbk_takes_names(qbdi: Any) -> None:
    callback = lambda *_: qbdi.CONTINUE  # noqa: E731
    due = qbdi.InstrRuleDataCBK(cbk=callback, data=5, position=qbdi.PREINST, priority=-7)
    assert (due.data, due.position, due.priority) == (5, qbdi.PREINST, -7)


@pytest.mark.parametrize(
    "arguments",
    [
        lambda q: (),
        lambda q: (print,),
        lambda q: (print, None),
        lambda q: (print, None, 1),
        lambda q: (5, None, q.PREINST),
        lambda q: (print, None, q.PREINST, "x"),
        lambda q: (print, None, q.PREINST, 1 << 31),
        lambda q: (q.PREINST, print, None),
    ],
)
def test_datacbk_of_wrong_arguments_is_a_type_error(qbdi: Any, arguments: Any) -> None:
    with pytest.raises(TypeError):
        qbdi.InstrRuleDataCBK(*arguments(qbdi))


def test_datacbk_without_a_callback(qbdi: Any) -> None:
    if not wrong(qbdi, "None is accepted, and ends the process when it is called"):
        with pytest.raises(TypeError):
            qbdi.InstrRuleDataCBK(None, None, qbdi.PREINST)
