"""Rules: callbacks at translation that say which callbacks an instruction gets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compat.harness import fate, wrong
from tests.compat.ruled_guest import FIRST, SECOND, RuledGuest


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
