"""What callbacks of events can do: actions, registers, rip, registering and deleting."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compat.harness import either, fate, wrong
from tests.compat.test_events import LOOP, PIECES, TURNS, EventGuest

OUTWARD = ["SKIP_INST", "SKIP_PATCH", "BREAK_TO_VM"]


def log_of(events: list[str], name: str) -> list[str]:
    """The events with *name* in front."""
    return [name + words for words in events]


def test_stop_at_the_first_entry_is_false(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.watch("BASIC_BLOCK_ENTRY", actions=("STOP",))
    assert g.events() == TURNS[:1]
    assert g.result is False
    assert g.get("rip") == g.base
    assert g.get("rcx") == 0


def test_stop_at_a_later_entry_is_true(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.watch(actions=("CONTINUE", "CONTINUE", "STOP"))
    assert g.events() == TURNS[:3]
    assert g.result is True
    assert g.get("rip") == g["turn"]
    assert g.get("rax") == 1


def test_stop_at_an_exit_is_true(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.watch("BASIC_BLOCK_EXIT", actions=("STOP",))
    assert g.events() == [TURNS[1]]
    assert g.result is True
    assert g.get("rip") == g["turn"]


def test_stopped_run_goes_on(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.watch(actions=("CONTINUE", "STOP"))
    g.events()
    assert g.events("turn") == TURNS[2:]
    assert g.get("rax") == 3


@pytest.mark.parametrize("action", OUTWARD)
def test_other_actions_at_an_entry_enter_again(qbdi: Any, action: str) -> None:
    g = EventGuest(qbdi, LOOP)
    g.watch(actions=(action,))
    g.on("PRE", "pre", at="start")
    assert g.events()[:4] == [TURNS[0], "5 start-after start", ("pre", "start"), TURNS[1]]
    assert g.get("rax") == 3


@pytest.mark.parametrize("action", OUTWARD)
def test_other_actions_at_an_exit_continue(qbdi: Any, action: str) -> None:
    g = EventGuest(qbdi, LOOP)
    g.watch(actions=("CONTINUE", action, "CONTINUE", action))
    assert g.events() == TURNS


@pytest.mark.parametrize(
    ("actions", "stops"),
    [
        (("STOP", "CONTINUE"), True),
        (("CONTINUE", "STOP"), True),
        (("BREAK_TO_VM", "STOP"), True),
        (("STOP", "SKIP_INST"), True),
        (("SKIP_INST", "BREAK_TO_VM"), False),
    ],
)
def test_strongest_action_wins_and_all_are_called(qbdi: Any, actions: Any, stops: bool) -> None:
    g = EventGuest(qbdi, LOOP)
    for number, action in enumerate(actions):
        g.watch("BASIC_BLOCK_EXIT", name=f"{number} ", actions=(action,))
    events = g.events()
    assert events[:2] == ["0 " + TURNS[1], "1 " + TURNS[1]]
    assert len(events) == (2 if stops else 8)
    assert g.result is True


def test_break_to_vm_wins_over_continue_at_an_entry(qbdi: Any) -> None:
    g = EventGuest(qbdi, PIECES)
    g.watch("BASIC_BLOCK_ENTRY", name="0 ", actions=("BREAK_TO_VM",))
    g.watch("BASIC_BLOCK_ENTRY", name="1 ")
    assert g.events() == [
        "0 21 start-end start",
        "1 21 start-end start",
        "0 5 start-end start",
        "1 5 start-end start",
    ]


@pytest.mark.parametrize("event", ["BASIC_BLOCK_ENTRY", "BASIC_BLOCK_EXIT"])
def test_written_registers_take_effect(qbdi: Any, event: str) -> None:
    g = EventGuest(qbdi, "inc rax\nmov rbx, rax\njmp next\nnext: add rbx, rax")

    def write(gpr: Any) -> None:
        gpr.rax = 10

    g.watch(event, then=write)
    g.run()
    assert g.get("rbx") == {"BASIC_BLOCK_ENTRY": 21, "BASIC_BLOCK_EXIT": 11}[event]
    assert g.get("rax") == 10


@pytest.mark.parametrize("action", ["CONTINUE", *OUTWARD])
def test_rip_written_at_an_exit_counts(qbdi: Any, action: str) -> None:
    g = EventGuest(qbdi, LOOP)

    def move(gpr: Any) -> None:
        if gpr.rip == g["turn"]:
            gpr.rip = g["after"]

    g.watch("BASIC_BLOCK_EXIT", actions=(action,), then=move)
    g.watch("BASIC_BLOCK_ENTRY")
    assert g.events() == [TURNS[0], TURNS[1], TURNS[6], TURNS[7]]
    assert g.get("rax") == 1


def test_rip_written_at_an_exit_may_be_the_stop(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)

    def end(gpr: Any) -> None:
        gpr.rip = g["end"]

    g.watch("BASIC_BLOCK_EXIT", then=end)
    assert g.events() == TURNS[1:2]
    assert g.result is True
    assert g.get("rip") == g["end"]
    assert g.get("rax") == 1


def test_rip_written_at_an_exit_with_stop_stays(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)

    def move(gpr: Any) -> None:
        gpr.rip = g["after"]

    g.watch("BASIC_BLOCK_EXIT", actions=("STOP",), then=move)
    assert g.events() == TURNS[1:2]
    assert g.get("rip") == g["after"]


def test_later_callbacks_see_the_written_rip(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)

    def move(gpr: Any) -> None:
        gpr.rip = g["after"]

    g.watch("BASIC_BLOCK_EXIT", name="a ", actions=("STOP",), then=move)
    g.watch("BASIC_BLOCK_EXIT", name="b ")
    assert g.events() == ["a 10 start-after turn", "b 10 start-after after"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rip_written_at_an_entry_is_ignored_with_continue(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)

    def move(gpr: Any) -> None:
        gpr.rip = g["after"]

    g.watch("BASIC_BLOCK_NEW", then=move)
    assert g.events() == [TURNS[0], TURNS[6]]
    assert g.get("rax") == 3


@pytest.mark.parametrize("action", OUTWARD)
def test_rip_written_at_an_entry_counts_otherwise(qbdi: Any, action: str) -> None:
    g = EventGuest(qbdi, LOOP)

    def move(gpr: Any) -> None:
        gpr.rip = g["after"]

    g.watch("BASIC_BLOCK_NEW", actions=(action,), then=move)
    assert g.events() == [TURNS[0], TURNS[6]]
    assert g.get("rax") == 0
    assert g.get("rcx") == 0


def test_rip_written_at_an_inner_border_counts(qbdi: Any) -> None:
    g = EventGuest(qbdi, PIECES + "last: inc rdx\njmp end")
    g.run("second")
    moved = []

    def move(gpr: Any) -> None:
        if not moved:
            moved.append(gpr.rip)
            gpr.rip = g["last"]

    g.watch("SEQUENCE_EXIT", name="out ", then=move)
    g.watch("BASIC_BLOCK_ENTRY", "SEQUENCE_ENTRY")
    assert g.events() == [
        "21 start-last/start-second start",
        "out 2 start-last/start-second second",
        either(
            qbdi,
            pyqbdi="17 start-end/last-end last",
            right="21 last-end last",
            reason="the new block is taken for the rest of the old one",
        ),
        either(
            qbdi,
            pyqbdi="out 2 start-end/last-end end",
            right="out 10 last-end end",
            reason="likewise",
        ),
    ]
    assert (g.get("rax"), g.get("rbx"), g.get("rdx")) == (1, 1, 1)


@pytest.mark.parametrize("action", OUTWARD)
def test_actions_at_an_inner_entry(qbdi: Any, action: str) -> None:
    g = EventGuest(qbdi, PIECES)
    g.run("second")
    g.watch(actions=("CONTINUE", "CONTINUE", action))
    assert g.events() == [
        "21 start-end/start-second start",
        "2 start-end/start-second second",
        "1 start-end/second-end second",
        "5 second-end second",
        "10 second-end end",
    ]


def test_stop_at_an_inner_border(qbdi: Any) -> None:
    g = EventGuest(qbdi, PIECES)
    g.run("second")
    g.watch("SEQUENCE_EXIT", actions=("STOP",))
    assert g.events() == ["2 start-end/start-second second"]
    assert g.result is True
    assert g.get("rip") == g["second"]


@pytest.mark.parametrize(("position", "rip"), [("PRE", "turn"), ("POST", "middle")])
def test_no_exit_when_an_instruction_callback_stops(qbdi: Any, position: str, rip: str) -> None:
    g = EventGuest(qbdi, LOOP.replace("dec ecx", "middle: dec ecx"))
    g.watch()
    g.on(position, "code", "STOP", at="turn")
    assert g.events() == [TURNS[0], ("code", rip)]
    assert g.get("rip") == g[rip]


@pytest.mark.parametrize(("position", "rip"), [("PRE", "turn"), ("POST", "middle")])
def test_break_to_vm_of_an_instruction_callback_enters_without_exit(
    qbdi: Any, position: str, rip: str
) -> None:
    g = EventGuest(qbdi, LOOP.replace("dec ecx", "middle: dec ecx"))
    g.watch()
    g.on(position, "code", "BREAK_TO_VM", at="turn")
    assert g.events()[:3] == [TURNS[0], ("code", rip), f"5 {rip}-after {rip}"]


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
