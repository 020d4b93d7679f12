"""VM.run: where it starts and stops, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import REGISTERS, Guest

Make = Callable[..., Guest]

STEPS = "inc rax\nsecond: inc rax\nthird: jmp fourth\nint3\nfourth: inc rax"


@pytest.mark.parametrize(
    ("start", "stop", "count"),
    [("start", "second", 1), ("start", "third", 2), ("second", "third", 1), ("start", "fourth", 2),
     ("start", "end", 3), ("third", "end", 1), ("third", "fourth", 0)],
)  # fmt: skip
def test_run_stops_before_stop_address(guest: Make, start: str, stop: str, count: int) -> None:
    """Everything up to the stop address is executed, and rip is there afterwards."""
    g = guest(STEPS)
    g.set(rax=0)
    assert g.run(start, stop) is True
    assert g.get("rax") == count
    assert g.where(g.get("rip")) == stop


def test_run_that_starts_at_its_stop(guest: Make) -> None:
    """run(a, a) returns True, executes nothing and sets rip."""
    g = guest(STEPS)
    g.set(rax=0, rip=77)
    assert g.run("second", "second") is True
    assert (g.get("rax"), g.where(g.get("rip"))) == (0, "second")


def test_run_goes_on_where_it_stopped(guest: Make) -> None:
    """Pieces of a program add up."""
    g = guest(STEPS)
    g.set(rax=0)
    for start, stop in (("start", "second"), ("second", "third"), ("third", "end")):
        assert g.run(start, stop) is True
    assert g.get("rax") == 3


def test_same_code_with_several_stops(guest: Make) -> None:
    """A stop of an earlier run does not stop a later one."""
    g = guest(STEPS)
    for stop, count in (("second", 1), ("end", 3), ("third", 2), ("end", 3), ("second", 1)):
        g.set(rax=0)
        assert g.run("start", stop) is True
        assert g.get("rax") == count


def test_run_can_stop_in_a_loop(guest: Make) -> None:
    """A stop inside a loop ends the run when it is reached first."""
    g = guest("mov ecx, 10\nagain: inc rax\nhere: dec ecx; jnz again")
    g.set(rax=0)
    assert g.run("start", "here") is True
    assert (g.get("rax"), g.get("rcx")) == (1, 10)
    assert g.run("here", "here") is True
    assert g.get("rcx") == 10
    assert g.run("here", "end") is True
    assert (g.get("rax"), g.get("rcx")) == (10, 0)


def test_stop_in_a_called_function(guest: Make) -> None:
    """The stop may be in a function; its return address is on the stack then."""
    g = guest("call function\nback: jmp end\nfunction: nop\ninside: ret")
    assert g.run("start", "inside") is True
    assert g.qbdi.readRword(g.get("rsp")) == g["back"]
    assert g.run("inside", "end") is True
    assert g.get("rsp") == g.stack_top


@pytest.mark.parametrize("start", [0, 0x1000, 1 << 47, (1 << 64) - 1])
def test_run_outside_the_ranges(guest: Make, start: int) -> None:
    """A start that is not instrumented gives False, and nothing is executed."""
    g = guest(STEPS)
    g.set(rax=5)
    assert g.vm.run(start, g["end"]) is False
    assert g.get("rax") == 5


def test_run_behind_the_range(guest: Make) -> None:
    """The end of a range is outside."""
    g = guest(STEPS)
    assert g.vm.run(g["end"], g["start"]) is False


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.5, None, "x"])
def test_run_with_what_is_no_address(guest: Make, value: Any) -> None:
    """Addresses are unsigned 64-bit integers; anything else raises TypeError."""
    g = guest(STEPS)
    for start, stop in ((value, g["end"]), (g["start"], value)):
        with pytest.raises(TypeError):
            g.vm.run(start, stop)


def test_run_by_name(guest: Make) -> None:
    """The parameters are start and stop, and both are due."""
    g = guest(STEPS)
    assert g.vm.run(start=g["start"], stop=g["end"]) is True
    with pytest.raises(TypeError):
        g.vm.run(g["start"])


def test_registers_go_in_and_come_out(guest: Make) -> None:
    """Registers set before a run are the guest's, and what it leaves can be read afterwards."""
    g = guest("\n".join(f"add {name}, {n}" for n, name in enumerate(REGISTERS)))
    g.set(**{name: 1000 * n for n, name in enumerate(REGISTERS)})
    assert g.run()
    assert [g.get(name) for name in REGISTERS] == [1001 * n for n in range(15)]


def test_stack_pointer_is_the_guests(guest: Make) -> None:
    """rsp is what was set, and moves as the guest moves it."""
    g = guest("push rax; push rbx; mov rcx, rsp")
    g.set(rax=11, rbx=22)
    assert g.run()
    assert g.get("rsp") == g.get("rcx") == g.stack_top - 16
    assert [g.qbdi.readRword(g.stack_top - n) for n in (8, 16)] == [11, 22]


@pytest.mark.parametrize(
    ("flags", "code", "value"),
    [(0x202, "setc al", 0), (0x203, "setc al", 1), (0x242, "setz al", 1), (0xA02, "seto al", 1),
     (0x282, "sets al", 1), (0x206, "setp al", 1), (0x202, "setp al", 0)],
)  # fmt: skip
def test_flags_go_in(guest: Make, flags: int, code: str, value: int) -> None:
    """eflags set before a run are the guest's."""
    g = guest(code)
    g.set(eflags=flags, rax=0)
    assert g.run()
    assert g.get("rax") == value


@pytest.mark.parametrize(
    ("code", "flags"),
    [("xor eax, eax", 0x246), ("mov al, 0x7f; inc al; ", 0xA92), ("stc", 0x203),
     ("std; clc", 0x602), ("mov al, 255; add al, 1", 0x257)],
)  # fmt: skip
def test_flags_come_out(guest: Make, code: str, flags: int) -> None:
    """eflags after a run are those that the guest left, with the interrupt flag set."""
    g = guest(code)
    g.set(eflags=0x202)
    assert g.run()
    assert g.get("eflags") == flags


def test_direction_flag_goes_in(guest: Make) -> None:
    """A direction flag that was set before the run is the guest's."""
    g = guest("lea rdi, [rip + data + 8]; mov al, 65; stosb; stosb")
    g.set(eflags=0x602)
    assert g.run()
    assert g.read(6, 4) == b"\0AA\0"


def test_memory_is_shared(guest: Make) -> None:
    """The guest reads what Python wrote, and the other way round."""
    g = guest("mov rax, [rip + data]; inc rax; mov [rip + data + 8], rax")
    g.write(0, (41).to_bytes(8, "little"))
    assert g.run()
    assert g.read(8, 8) == (42).to_bytes(8, "little")


def test_code_that_was_never_reached_may_be_bad(guest: Make) -> None:
    """What is not executed need not be executable: ud2 in a branch not taken."""
    g = guest("xor eax, eax; jz good; ud2\ngood: inc rax")
    assert g.run() is True
    assert g.get("rax") == 1


def test_runs_do_not_depend_on_instrumented_neighbours(guest: Make) -> None:
    """Two ranges with a hole: a branch from one to the other stays instrumented."""
    g = guest("inc rax; jmp there\n.zero 64\nthere: inc rax")
    g.vm.removeInstrumentedRange(g["there"] - 64, g["there"])
    g.on("PRE", "x")
    g.set(rax=0)
    assert g.run() is True
    assert g.get("rax") == 2
    assert [place for _, place in g.log][-1] == "there"
