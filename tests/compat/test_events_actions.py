"""What callbacks of events can do: actions, registers, rip, registering and deleting."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compat.harness import either
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
