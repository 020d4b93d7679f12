"""Event callbacks that are added and deleted on the way, that fail, and what they are given."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compat.harness import either, fate, wrong
from tests.compat.test_events import LOOP, PIECES, TURNS, EventGuest
from tests.compat.test_events_actions import log_of


def test_registered_in_an_instruction_callback(qbdi: Any) -> None:
    """It gets the exit of the block that is being executed."""
    g = EventGuest(qbdi, LOOP)

    def register(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        if not g.log:
            g.log.append("registered")
            g.watch()
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g["turn"], qbdi.PREINST, register, None)
    assert g.events() == either(
        qbdi,
        pyqbdi=["registered", *TURNS[1:]],
        right=["registered", "5 turn-after turn", *TURNS[3:]],
        reason="pydbi's blocks have the gates they were made with: from the next block on",
    )


def test_registered_in_an_event_callback(qbdi: Any) -> None:
    """It takes effect from the next event on."""
    g = EventGuest(qbdi, LOOP)
    g.watch(name="old ", then=lambda gpr: len(g.log) == 1 and g.watch(name="new "))
    events = g.events()
    assert [words for words in events if words.startswith("old")] == log_of(TURNS, "old ")
    assert [words for words in events if words.startswith("new")] == either(
        qbdi,
        pyqbdi=log_of(TURNS[1:], "new "),
        right=log_of(["5 turn-after turn", *TURNS[3:]], "new "),
        reason="pydbi's blocks have the gates they were made with: from the next block on",
    )


def test_deleting_itself(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    first = g.watch(name="a ", then=lambda gpr: g.vm.deleteInstrumentation(first))
    g.watch(name="b ")
    assert g.events() == ["a " + TURNS[0], *log_of(TURNS, "b ")]


def test_deleting_another(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.watch(name="a ", then=lambda gpr: g.vm.deleteInstrumentation(other))
    other = g.watch(name="b ")
    if not wrong(qbdi, "it walks over a list that changes under it, and may crash"):
        assert g.events() == log_of(TURNS, "a ")


def test_deleting_all_between_runs(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.watch()
    assert g.events() == TURNS
    g.vm.deleteAllInstrumentations()
    assert g.events() == []
    assert g.get("rax") == 6


def test_exception(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)

    def fail(gpr: Any) -> None:
        raise KeyError("mine")

    g.watch("BASIC_BLOCK_EXIT", then=fail)
    if wrong(qbdi, "an exception in a callback ends the process"):
        assert fate(g.run) == "exit 1"
    else:
        with pytest.raises(KeyError, match="mine"):
            g.run()
        assert g.get("rip") == g["turn"]
        assert g.get("rax") == 1


@pytest.mark.parametrize("answer", [None, 0, "CONTINUE"])
def test_wrong_answer(qbdi: Any, answer: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.vm.addVMEventCB(qbdi.BASIC_BLOCK_ENTRY, lambda *_: answer, None)
    if wrong(qbdi, "a wrong answer ends the process"):
        assert fate(g.run) == "exit 1"
    else:
        with pytest.raises(TypeError):
            g.run()


def test_data_and_vm_are_the_same_objects(qbdi: Any) -> None:
    g = EventGuest(qbdi, PIECES)
    mine, seen = object(), []

    def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append((vm is g.vm, data is mine, type(state), type(gpr), type(fpr)))
        return qbdi.CONTINUE

    g.vm.addVMEventCB(qbdi.BASIC_BLOCK_NEW, callback, mine)
    g.run()
    assert seen == [(True, True, qbdi.VMState, qbdi.GPRState, qbdi.FPRState)]


def test_state_cannot_be_written_or_made(qbdi: Any) -> None:
    g = EventGuest(qbdi, PIECES)
    errors = []

    def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        for name in ("event", "basicBlockStart", "basicBlockEnd", "sequenceStart", "sequenceEnd"):
            try:
                setattr(state, name, getattr(state, name))
            except AttributeError:
                errors.append(name)
        return qbdi.CONTINUE

    g.vm.addVMEventCB(qbdi.BASIC_BLOCK_NEW, callback, None)
    g.run()
    assert len(errors) == 5
    with pytest.raises(TypeError):
        qbdi.VMState()


def test_kept_state(qbdi: Any) -> None:
    g = EventGuest(qbdi, PIECES)
    kept = []

    def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        kept.append(state)
        return qbdi.CONTINUE

    g.vm.addVMEventCB(qbdi.BASIC_BLOCK_NEW, callback, None)
    g.run()
    assert type(kept[0]) is qbdi.VMState
    if not wrong(qbdi, "after the callback it refers to freed memory"):
        assert g.words(kept[0], g.vm.getGPRState()) == "21 start-end end"


@pytest.mark.parametrize(
    ("event", "instruction"), [("BASIC_BLOCK_ENTRY", "turn"), ("BASIC_BLOCK_EXIT", "branch")]
)
def test_instruction_of_an_event(qbdi: Any, event: str, instruction: str) -> None:
    """getInstAnalysis: the block's first one at an entry, its last one at an exit."""
    g = EventGuest(qbdi, LOOP.replace("jnz turn", "branch: jnz turn"))

    def note(gpr: Any) -> None:
        g.log.append(g.where(g.vm.getInstAnalysis().address))

    g.watch(event, then=note)
    assert g.events("turn", rcx=1)[1] == instruction
