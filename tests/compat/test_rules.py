"""Rules: callbacks at translation that say which callbacks an instruction gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import fate, wrong
from tests.compat.test_events import EventGuest

TEXT = """
    mov ecx, 2
turn:
    add rax, [rip + data]
down:
    dec ecx
branch:
    jnz turn
store:
    mov [rip + data + 8], rax
last:
    jmp end
"""
FIRST, SECOND = ["start", "turn", "down", "branch"], ["store", "last"]


class RuledGuest(EventGuest):
    """A guest with rules that note the instructions they are asked about."""

    def __init__(self, qbdi: Any, text: str = TEXT, **more: Any) -> None:
        super().__init__(qbdi, text, **more)
        self.instruction = qbdi.ANALYSIS_INSTRUCTION

    def rule(self, name: str = "", answer: Callable[[str], Any] | None = None) -> int:
        """Register a rule. *answer* gives its result for the label of an instruction."""
        callback = self.noting_rule(name, answer)
        return int(self.vm.addInstrRule(callback, self.instruction, None))

    def noting_rule(
        self, name: str = "", answer: Callable[[str], Any] | None = None
    ) -> Callable[..., Any]:
        """Return a rule that notes *name* and where the instruction is."""

        def callback(vm: Any, analysis: Any, data: object) -> Any:
            where = self.where(analysis.address)
            self.log.append(name + where)
            return answer(where) if answer else []

        return callback

    def asked(self, start: str = "start", stop: str = "end", **registers: int) -> list[str]:
        """Run, and return what rules were asked about, each but once.

        A part of a block that is entered later may be translated again, as a block of its own.
        """
        words = [entry for entry in self.events(start, stop, **registers) if isinstance(entry, str)]
        return list(dict.fromkeys(words))

    def called(self) -> list[Any]:
        """Run, and return which instruction callbacks were called."""
        return [entry for entry in self.events() if isinstance(entry, tuple)]

    def due(self, position: str, name: str, *actions: str, priority: int = 0) -> Any:
        """An InstrRuleDataCBK with a noting callback."""
        where = getattr(self.qbdi, position + "INST")
        return self.qbdi.InstrRuleDataCBK(self.noting(name, *actions), None, where, priority)

    def at(self, label: str, *results: Any) -> Callable[[str], list[Any]]:
        """The answer of a rule that gives *results* for one instruction only."""
        return lambda where: list(results) if where == label else []


def test_rule_is_asked_once_for_each_instruction_of_a_block(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule()
    assert g.events() == FIRST + SECOND
    assert g.events() == []


def test_rule_is_asked_before_the_block_is_entered(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule()
    g.watch("BASIC_BLOCK_ENTRY")
    assert g.events() == [
        *FIRST,
        "21 start-store start",
        "5 turn-store turn",
        *SECOND,
        "21 store-end store",
    ]


def test_rule_is_asked_again_after_the_cache_is_cleared(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule()
    g.run()
    g.vm.clearAllCache()
    assert g.asked() == FIRST + SECOND


def test_block_with_the_stop_inside_is_asked_about_in_each_run(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule()
    for _ in range(3):
        assert g.events("start", "down")[:2] == ["start", "turn"]


def test_rule_is_not_asked_about_the_middle_of_a_cached_block(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule()
    g.run()
    assert g.events("down", rcx=1) == []


def test_precache_asks_the_rules(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule()
    assert g.vm.precacheBasicBlock(g["store"])
    assert g.log == SECOND
    assert g.asked()[:4] == FIRST


def test_rule_added_later_is_asked_about_cached_blocks(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.run()
    g.rule()
    assert g.asked() == FIRST + SECOND


def test_several_rules_are_asked_in_order_of_registration(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule("a ")
    g.rule("b ")
    assert g.events("store") == ["a store", "b store", "a last", "b last"]


def test_arguments(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    mine, seen = object(), []

    def callback(vm: Any, analysis: Any, data: object) -> Any:
        seen.append((vm is g.vm, data is mine, type(analysis)))
        return []

    g.vm.addInstrRule(callback, qbdi.ANALYSIS_INSTRUCTION, mine)
    g.run("last")
    assert seen == [(True, True, qbdi.InstAnalysis)]


FIELDS = ("address", "mnemonic", "instSize", "disassembly", "numOperands")


@pytest.mark.parametrize(
    ("kind", "filled"),
    [
        ("INSTRUCTION", ["address", "mnemonic", "instSize"]),
        ("DISASSEMBLY", ["disassembly"]),
        ("OPERANDS", ["numOperands"]),
        ("SYMBOL", []),
        ("INSTRUCTION DISASSEMBLY", ["address", "mnemonic", "instSize", "disassembly"]),
        ("INSTRUCTION DISASSEMBLY OPERANDS SYMBOL", list(FIELDS)),
    ],
)
def test_analysis_has_what_is_asked_for(qbdi: Any, kind: Any, filled: list[str]) -> None:
    g = RuledGuest(qbdi)
    seen = []
    asked = qbdi.AnalysisType(0)
    for name in kind.split():
        asked |= getattr(qbdi, "ANALYSIS_" + name)

    def callback(vm: Any, analysis: Any, data: object) -> Any:
        seen.append([name for name in FIELDS if getattr(analysis, name) is not None])
        return []

    g.vm.addInstrRule(callback, asked, None)
    g.run("last")
    assert seen == [filled]


def test_analysis_values(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    seen = []

    def callback(vm: Any, analysis: Any, data: object) -> Any:
        seen.append(analysis)
        return []

    g.vm.addInstrRule(callback, qbdi.ANALYSIS_INSTRUCTION | qbdi.ANALYSIS_DISASSEMBLY, None)
    g.set(rcx=1)
    g.run("down", "store")
    assert [(a.mnemonic, a.instSize, a.disassembly) for a in seen] == [
        ("DEC32r", 2, "\tdec\tecx"),
        ("JCC_1", 2, "\tjne\t-0xb"),
    ]


def test_jit_analysis_is_not_there_yet(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    seen = []

    def callback(vm: Any, analysis: Any, data: object) -> Any:
        seen.append((analysis.mnemonic, analysis.patchAddress, analysis.patchSize))
        return []

    g.vm.addInstrRule(callback, qbdi.ANALYSIS_INSTRUCTION | qbdi.ANALYSIS_JIT, None)
    g.run("last")
    assert seen == [("JMP_1", None, None)]


def test_no_current_instruction_in_a_rule(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule(answer=lambda where: g.log.append(g.vm.getInstAnalysis()) or [])
    assert g.events("last") == ["last", None]


def test_callbacks_of_a_rule(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule(answer=g.at("down", g.due("PRE", "pre"), g.due("POST", "post")))
    assert g.called() == [("pre", "down"), ("post", "branch")] * 2


def test_data_of_a_rules_callback(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    mine, seen = object(), []

    def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append((vm is g.vm, data is mine, type(gpr), type(fpr)))
        return qbdi.CONTINUE

    due = qbdi.InstrRuleDataCBK(callback, mine, qbdi.PREINST)
    g.rule(answer=g.at("last", due))
    g.run()
    assert seen == [(True, True, qbdi.GPRState, qbdi.FPRState)]


@pytest.mark.parametrize("answer", [[], ()])
def test_empty_answers(qbdi: Any, answer: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule(answer=lambda where: answer)
    assert g.asked() == FIRST + SECOND


def test_tuple_as_answer(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule(answer=lambda where: tuple(g.at("last", g.due("PRE", "pre"))(where)))
    assert g.events("last") == ["last", ("pre", "last")]


@pytest.mark.parametrize("answer", [None, 1, True, "x", {}, [1], [None], iter([])], ids=repr)
def test_wrong_answers(qbdi: Any, answer: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule(answer=lambda where: answer)
    if wrong(qbdi, "a wrong answer ends the process"):
        assert fate(g.run) == "exit 1"
    else:
        with pytest.raises(TypeError):
            g.run()


def test_exception_in_a_rule(qbdi: Any) -> None:
    g = RuledGuest(qbdi)

    def fail(where: str) -> None:
        raise KeyError("mine")

    g.rule(answer=fail)
    if wrong(qbdi, "an exception in a rule ends the process"):
        assert fate(g.run) == "exit 1"
    else:
        with pytest.raises(KeyError, match="mine"):
            g.run()
        g.vm.deleteAllInstrumentations()
        assert g.events() == []
        assert g.result is True


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


@pytest.mark.parametrize(
    "arguments",
    [
        lambda q: (5, q.ANALYSIS_INSTRUCTION, None),
        lambda q: (print, 1, None),
        lambda q: (print, None, None),
        lambda q: (print,),
    ],
)
def test_wrong_arguments_are_a_type_error(qbdi: Any, arguments: Any) -> None:
    g = RuledGuest(qbdi)
    with pytest.raises(TypeError):
        g.vm.addInstrRule(*arguments(qbdi))
    with pytest.raises(TypeError):
        g.vm.addInstrRuleRange(0, 1, *arguments(qbdi))


@pytest.mark.parametrize("address", [-1, 1 << 64, "x", None])
def test_wrong_range_is_a_type_error(qbdi: Any, address: Any) -> None:
    g = RuledGuest(qbdi)
    with pytest.raises(TypeError):
        g.vm.addInstrRuleRange(address, 5, g.noting_rule(), g.instruction, None)
    with pytest.raises(TypeError):
        g.vm.addInstrRuleRange(5, address, g.noting_rule(), g.instruction, None)


def test_rule_of_no_analysis(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    asked = []

    def callback(vm: Any, analysis: Any, data: object) -> Any:
        asked.append(analysis.mnemonic)
        return []

    assert g.vm.addInstrRule(callback, qbdi.AnalysisType(0), None) == 0
    g.run("store")
    assert asked == [None, None]


def test_rule_of_another_vm_is_not_asked(qbdi: Any) -> None:
    g = RuledGuest(qbdi)
    g.rule()
    g.vm, mine = qbdi.VM(), g.vm
    g.vm.addInstrumentedRange(g.base, g["end"])
    assert g.asked() == []
    g.vm = mine
    assert g.asked() == FIRST + SECOND
