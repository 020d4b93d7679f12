"""What instruction callbacks return, and what they do to rip."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import Guest, fate, wrong

Make = Callable[..., Guest]

THREE = "a: mov eax, 1\nb: mov eax, 2\nc: mov ebx, 3"
ACTIONS = {
    # action, position of the callback that returns it: the log, rax, rbx, where it ends
    ("SKIP_INST", "PRE"): ("1@b 2@b 4@c 5@c", 1, 3, "end"),
    ("SKIP_INST", "POST"): ("4@b 1@c 2@c 3@c 5@c", 2, 3, "end"),
    ("SKIP_PATCH", "PRE"): ("1@b 2@b 5@c", 1, 3, "end"),
    ("SKIP_PATCH", "POST"): ("4@b 1@c 2@c 5@c", 2, 3, "end"),
    ("BREAK_TO_VM", "PRE"): ("1@b 2@b 1@b 2@b 3@b 4@c 5@c", 2, 3, "end"),
    ("BREAK_TO_VM", "POST"): ("4@b 1@c 2@c 5@c", 2, 3, "end"),
    ("STOP", "PRE"): ("1@b 2@b", 1, 0, "b"),
    ("STOP", "POST"): ("4@b 1@c 2@c", 2, 0, "c"),
    ("CONTINUE", "PRE"): ("1@b 2@b 3@b 4@c 5@c", 2, 3, "end"),
    ("CONTINUE", "POST"): ("4@b 1@c 2@c 3@c 5@c", 2, 3, "end"),
}


def text(g: Guest) -> str:
    return " ".join(f"{name}@{place}" for name, place in g.log)


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """pydbi warns where PyQBDI writes a line to stderr; what it does is tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(("action", "position"), ACTIONS)
def test_actions(guest: Make, action: str, position: str) -> None:
    """The second of three callbacks at b returns the action once; 4 is on b's other side."""
    log, rax, rbx, end = ACTIONS[action, position]
    g = guest(THREE)
    g.set(rax=0, rbx=0)
    g.on(position, "1", at="b")
    g.on(position, "2", action, at="b")
    g.on(position, "3", at="b")
    g.on("POST" if position == "PRE" else "PRE", "4", at="b")
    g.on("PRE", "5", at="c")
    assert g.run() is True
    assert text(g) == log
    assert (g.get("rax"), g.get("rbx"), g.where(g.get("rip"))) == (rax, rbx, end)


@pytest.mark.parametrize(("action", "position"), ACTIONS)
def test_actions_count_once(guest: Make, action: str, position: str) -> None:
    """In the next run the same code is executed as it is."""
    g = guest(THREE)
    g.on(position, "2", action, at="b")
    g.run()
    g.set(rax=0, rbx=0)
    g.log.clear()
    assert g.run() is True
    assert (g.get("rax"), g.get("rbx")) == (2, 3)
    assert len(g.log) == 1


def test_stop_and_go_on(guest: Make) -> None:
    """After STOP a run from rip goes on; callbacks at b are called again."""
    g = guest(THREE)
    g.on("PRE", "x", "STOP", at="b")
    g.set(rax=0, rbx=0)
    assert g.run() is True
    assert (g.get("rax"), g.where(g.get("rip"))) == (1, "b")
    assert g.run("b", "end") is True
    assert (g.get("rax"), g.get("rbx")) == (2, 3)
    assert text(g) == "x@b x@b"


@pytest.mark.parametrize(("position", "at", "end"), [("PRE", "a", "a"), ("POST", "c", "end")])
def test_stop_at_the_ends(guest: Make, position: str, at: str, end: str) -> None:
    """STOP before the first and after the last instruction is a run that did something, too."""
    g = guest(THREE)
    g.on(position, "x", "STOP", at=at)
    assert g.run() is True
    assert g.where(g.get("rip")) == end


def test_stop_in_a_call(guest: Make) -> None:
    """A call that is stopped returns True, with rax as it is."""
    g = guest("mov eax, 7\nb: mov eax, 8; ret")
    g.on("PRE", "x", "STOP", at="b")
    assert g.vm.call(g.base, []) == (True, 7)
    assert g.where(g.get("rip")) == "b"


def test_stop_in_a_loop(guest: Make) -> None:
    """STOP in the tenth turn of a loop leaves the registers of the tenth turn."""
    g = guest("mov ecx, 100\nagain: inc rax; dec ecx; jnz again")
    g.on("PRE", "x", *["CONTINUE"] * 9, "STOP", at="again")
    g.set(rax=0)
    assert g.run() is True
    assert (g.get("rax"), g.get("rcx"), len(g.log)) == (9, 91, 10)


PLAIN = {
    "mov": "mov eax, 9", "push": "push rax", "pop": "pop rcx", "rep": "rep stosb",
    "store": "mov [rip + data], rdi", "vector": "pcmpeqd xmm0, xmm0", "x87": "fld1",
    "syscall": "syscall", "rip": "lea rax, [rip]", "ud2": "ud2", "fault": "mov rax, [0]",
}  # fmt: skip


@pytest.mark.parametrize("action", ["SKIP_INST", "SKIP_PATCH"])
@pytest.mark.parametrize("name", PLAIN)
def test_skipped_instructions_have_no_effect(guest: Make, name: str, action: str) -> None:
    """A skipped instruction changes no register and no memory; the next one is executed."""
    g = guest(f"b: {PLAIN[name]}\nc: inc rbx")
    g.set(rax=39, rbx=0, rcx=3, rdi=g.data)  # 39 is getpid
    g.on("PRE", "1", action, at="b")
    g.on("POST", "2", at="b")
    assert g.run() is True
    registers = [g.get(name) for name in ("rax", "rbx", "rcx", "rdi", "rsp")]
    assert registers == [39, 1, 3, g.data, g.stack_top]
    assert g.read(0, 8) == bytes(8)
    assert g.vm.getFPRState().xmm0 == bytes(16)
    assert text(g) == ("1@b 2@c" if action == "SKIP_INST" else "1@b")


BRANCHES = {
    "jmp": "b: jmp d", "call": "b: call d", "ret": "push rax\nb: ret", "taken": "b: jz d",
    "not taken": "b: jnz d", "indirect": "b: jmp rax", "call rax": "b: call rax",
    "loop": "b: loop d",
}  # fmt: skip


@pytest.mark.parametrize("action", ["SKIP_INST", "SKIP_PATCH"])
@pytest.mark.parametrize("name", BRANCHES)
def test_skipped_branches_fall_through(guest: Make, qbdi: Any, name: str, action: str) -> None:
    """A skipped branch goes on behind itself, and leaves the stack alone."""
    g = guest(f"{BRANCHES[name]}\nc: inc rbx; jmp end\nd: inc rdx")
    pushed = 8 if name == "ret" else 0
    g.set(rbx=0, rcx=9, rdx=0, rax=g["d"], eflags=0x246)
    g.on("PRE", "1", action, at="b")
    g.on("POST", "2", at="b")
    if wrong(qbdi, "the branch is tried again, for ever if the action stays the same"):
        assert g.run() is True
        after = "c" if name == "not taken" else "d"
        assert (
            text(g)
            == {
                "SKIP_INST": f"1@b 2@b 1@b 2@{after}",
                "SKIP_PATCH": f"1@b 1@b 2@{after}",
            }[action]
        )
    else:
        assert g.run() is True
        assert text(g) == ("1@b 2@c" if action == "SKIP_INST" else "1@b")
        assert (g.get("rbx"), g.get("rdx"), g.get("rcx")) == (1, 0, 9)
        assert g.stack_top - g.get("rsp") == pushed


MOVED = {
    # A callback at b sets rip to d: log, rax, rbx, rcx, where it ends
    ("CONTINUE", "PRE"): ("1@b 3@c 2@d", 2, 1, 1, "end"),
    ("CONTINUE", "POST"): ("1@c 3@c 2@d", 2, 1, 1, "end"),
    ("BREAK_TO_VM", "PRE"): ("1@b 2@d", 1, 0, 1, "end"),
    ("BREAK_TO_VM", "POST"): ("1@c 2@d", 2, 0, 1, "end"),
    ("SKIP_INST", "PRE"): ("1@b 3@c 2@d", 1, 1, 1, "end"),
    ("SKIP_INST", "POST"): ("1@c 3@c 2@d", 2, 1, 1, "end"),
    ("SKIP_PATCH", "PRE"): ("1@b 2@d", 1, 1, 1, "end"),
    ("SKIP_PATCH", "POST"): ("1@c 2@d", 2, 1, 1, "end"),
    ("STOP", "PRE"): ("1@b", 1, 0, 0, "d"),
    ("STOP", "POST"): ("1@c", 2, 0, 0, "d"),
}


@pytest.mark.parametrize(("action", "position"), MOVED)
def test_changed_instruction_pointer(guest: Make, action: str, position: str) -> None:
    """A changed rip counts with BREAK_TO_VM, and stays with STOP; else it is ignored."""
    log, rax, rbx, rcx, end = MOVED[action, position]
    g = guest("a: inc rax\nb: inc rax\nc: inc rbx\nd: inc rcx")
    g.set(rax=0, rbx=0, rcx=0)
    g.on(position, "1", action, at="b", move="d")
    g.on("PRE", "2", at="d")
    g.on("POST", "3", at="b")
    assert g.run() is True
    assert text(g) == log
    registers = (g.get("rax"), g.get("rbx"), g.get("rcx"))
    assert (registers, g.where(g.get("rip"))) == ((rax, rbx, rcx), end)


@pytest.mark.parametrize("action", ["CONTINUE", "SKIP_INST", "SKIP_PATCH"])
@pytest.mark.parametrize("position", ["PRE", "POST"])
def test_ignored_instruction_pointer_is_warned_about(
    guest: Make, qbdi: Any, action: str, position: str
) -> None:
    """pydbi says that a changed rip had no effect, as a RuntimeWarning."""
    g = guest("a: inc rax\nb: inc rax")
    g.set(rax=0)
    g.on(position, "1", action, at="a", move="end")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert g.run() is True
    kinds = {entry.category for entry in caught}
    if not wrong(qbdi, "it writes a line to stderr instead"):
        assert kinds == {RuntimeWarning}
    assert g.get("rax") == (1 if position == "PRE" and action != "CONTINUE" else 2)


def test_turning_back(guest: Make, qbdi: Any) -> None:
    """rip may be moved backwards: a loop made by a callback."""
    g = guest("a: inc rax\nb: inc rax\nc: inc rbx")
    g.set(rax=0, rbx=0)
    g.on("PRE", "x", *["BREAK_TO_VM"] * 3, at="c", move="a")
    assert g.run() is True
    assert (g.get("rax"), g.get("rbx"), text(g)) == (8, 1, "x@c x@c x@c x@c")


def test_moving_to_the_stop(guest: Make) -> None:
    """rip may be moved to where the run stops."""
    g = guest("a: inc rax\nb: inc rax\nc: inc rbx")
    g.set(rax=0, rbx=0)
    g.on("PRE", "x", "BREAK_TO_VM", at="b", move="end")
    assert g.run() is True
    assert (g.get("rax"), g.get("rbx"), g.where(g.get("rip"))) == (1, 0, "end")


def test_moving_into_another_function(guest: Make) -> None:
    """rip may be moved anywhere in the ranges, also to code never seen before."""
    g = guest("a: call f\nb: inc rax; jmp end\nf: int3\ng: mov eax, 5; ret")
    g.on("PRE", "x", "BREAK_TO_VM", at="f", move="g")
    assert g.run() is True
    assert g.get("rax") == 6


@pytest.mark.parametrize("action", ["SKIP_INST", "SKIP_PATCH", "STOP", "BREAK_TO_VM", "CONTINUE"])
def test_actions_at_the_stop(guest: Make, action: str) -> None:
    """Where the run stops, no action of a callback makes it go on."""
    g = guest("a: inc rax\nb: inc rax\nc: jmp b")
    g.set(rax=0)
    g.on("PRE", "x", action, at="b")
    assert g.run("start", "b") is True
    assert (g.get("rax"), g.where(g.get("rip")), text(g)) == (1, "b", "x@b")


def test_leaving_the_stop(guest: Make) -> None:
    """But a rip changed there with BREAK_TO_VM does; the run stops when it comes again."""
    g = guest("a: inc rax\nb: inc rax\nc: inc rbx; jmp b")
    g.set(rax=0, rbx=0)
    g.on("PRE", "x", "BREAK_TO_VM", at="b", move="c")
    assert g.run("start", "b") is True
    found = (g.get("rax"), g.get("rbx"), g.where(g.get("rip")), text(g))
    assert found == (1, 1, "b", "x@b")  # the second time it is reached by a branch


@pytest.mark.parametrize("first", ["SKIP_INST", "SKIP_PATCH", "STOP"])
@pytest.mark.parametrize("second", ["STOP", "SKIP_INST", "BREAK_TO_VM"])
def test_first_action_decides(guest: Make, first: str, second: str) -> None:
    """A callback that does not continue hides the later ones before the same instruction."""
    g = guest("a: inc rax\nb: nop")
    g.set(rax=0)
    g.on("PRE", "1", first, at="a")
    g.on("PRE", "2", second, at="a")
    assert g.run() is True
    assert (text(g), g.get("rax")) == ("1@a", 0)
    assert g.where(g.get("rip")) == ("a" if first == "STOP" else "end")


@pytest.mark.parametrize(("action", "value"), [("SKIP_INST", 0), ("BREAK_TO_VM", 1), ("STOP", 0)])
def test_action_of_the_last_callback(guest: Make, action: str, value: int) -> None:
    """The action of the last callback counts as that of the first."""
    g = guest("a: inc rax\nb: nop")
    g.set(rax=0)
    g.on("PRE", "1", at="a")
    g.on("PRE", "2", action, at="a")
    assert g.run() is True
    assert g.get("rax") == value


BAD = {
    "None": lambda qbdi: None,
    "integer": lambda qbdi: 0,
    "text": lambda qbdi: "CONTINUE",
    "event": lambda qbdi: qbdi.VMEvent(1),
    "position": lambda qbdi: qbdi.PREINST,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("position", ["PRE", "POST"])
def test_what_is_no_action(guest: Make, qbdi: Any, name: str, position: str) -> None:
    """A callback must return a VMAction."""
    g = guest("a: inc rax")
    where = getattr(qbdi, position + "INST")
    g.set(rax=0)
    g.vm.addCodeCB(where, lambda *_: BAD[name](qbdi), None)
    if wrong(qbdi, "it prints the error and ends the process"):
        assert fate(g.run) == "exit 1"
    else:
        with pytest.raises(TypeError):
            g.run()
        assert g.get("rax") == (0 if position == "PRE" else 1)
