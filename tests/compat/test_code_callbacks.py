"""addCodeCB, addCodeAddrCB, addCodeRangeCB: where they are called, in what order, and with what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import Guest

Make = Callable[..., Guest]

POSITIONS = pytest.mark.parametrize("position", ["PRE", "POST"])
THREE = "a: mov rax, 1\nb: mov rbx, 2\nc: nop"
"""Instructions of 7, 7 and 1 bytes."""


def names(g: Guest) -> str:
    return "".join(str(name) for name, _ in g.log)


def places(g: Guest) -> str:
    return "".join(place for _, place in g.log)


@POSITIONS
def test_every_instruction_is_reported(guest: Make, position: str) -> None:
    """Before an instruction rip is its address, after it the next one's."""
    g = guest(THREE)
    g.on(position, "x")
    assert g.run()
    assert [place for _, place in g.log] == (
        ["a", "b", "c"] if position == "PRE" else ["b", "c", "end"]
    )


def test_before_and_after_alternate(guest: Make) -> None:
    """An instruction's own callbacks come before those of the next one."""
    g = guest("a: nop\nb: nop")
    g.on("POST", "after")
    g.on("PRE", "before")
    assert g.run()
    assert g.log == [("before", "a"), ("after", "b"), ("before", "b"), ("after", "end")]


@POSITIONS
def test_higher_priority_is_called_first(guest: Make, position: str) -> None:
    """Equal priorities are called in the order of registration, whatever the kind of callback."""
    g = guest("a: inc rax")
    where = getattr(g.qbdi, position + "INST")
    for name, priority in {"a": 3, "b": 10, "c": -5, "d": 10, "e": 3, "f": 1000, "h": 0}.items():
        g.on(position, name, priority=priority)
    g.on(position, "g", at="a", priority=7)
    g.vm.addCodeRangeCB(g["a"], g["end"], where, g.noting("r"), None, 7)
    assert g.run()
    assert names(g) == "fbdgraehc"


@pytest.mark.parametrize("priority", [-(1 << 31), -1, 0, 1 << 24, (1 << 31) - 1])
def test_priorities(guest: Make, priority: int) -> None:
    """A priority is any signed 32-bit integer; callbacks of the extremes are called too."""
    g = guest("nop")
    g.on("PRE", "x", priority=priority)
    assert g.run()
    assert names(g) == "x"


def test_named_priorities(guest: Make) -> None:
    """Members of CallbackPriority are priorities."""
    g = guest("nop")
    g.on("PRE", "b", priority=g.qbdi.PRIORITY_DEFAULT)
    g.on("PRE", "a", priority=g.qbdi.PRIORITY_MEMACCESS_LIMIT)
    g.on("PRE", "c")
    assert g.run()
    assert names(g) == "abc"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 7, "a"), (0, 6, ""), (0, 8, "a"), (1, 14, "b"), (0, 14, "ab"), (7, 14, "b"), (6, 15, "bc"),
     (7, 13, ""), (0, 100, "abc"), (14, 15, "c"), (8, 14, "")],
)  # fmt: skip
@POSITIONS
def test_code_ranges(guest: Make, low: int, high: int, expected: str, position: str) -> None:
    """A range covers the instructions that lie wholly inside."""
    g = guest(THREE)
    where = getattr(g.qbdi, position + "INST")
    g.vm.addCodeRangeCB(g.base + low, g.base + high, where, g.noting("x"), None)
    assert g.run()
    following = {"a": "b", "b": "c", "c": "end"}
    assert [place for _, place in g.log] == (
        list(expected) if position == "PRE" else [following[place] for place in expected]
    )


@pytest.mark.parametrize(("low", "high"), [(10, 10), (20, 10), (0, 0)])
def test_empty_code_range(guest: Make, low: int, high: int) -> None:
    """A range without addresses is refused with INVALID_EVENTID."""
    g = guest("nop")
    found = g.vm.addCodeRangeCB(low, high, g.qbdi.PREINST, g.noting("x"), None)
    assert found == g.qbdi.INVALID_EVENTID
    assert type(found) is g.qbdi.VMError


@POSITIONS
def test_code_address(guest: Make, position: str) -> None:
    """An address callback is called at the instruction that starts there, and at no other."""
    g = guest(THREE)
    where = getattr(g.qbdi, position + "INST")
    for offset in (0, 1, 7, 8, 14):
        g.vm.addCodeAddrCB(g.base + offset, where, g.noting(f"{offset} "), None)
    assert g.run()
    assert names(g) == "0 7 14 "


def test_address_reached_by_a_jump_only(guest: Make) -> None:
    """An instruction inside the bytes of another one is found when it is executed."""
    g = guest("""
        jmp inside
        .byte 0x48, 0xb8                   # mov rax, imm64
        inside: inc rbx; jmp end
        .zero 3""")
    g.on("PRE", "x", at="inside")
    assert g.run()
    assert g.log == [("x", "inside")]


def test_callback_arguments(guest: Make) -> None:
    """A callback gets the VM itself, its states, and the very object that was given as data."""
    g = guest("nop")
    data, seen = object(), []

    def callback(vm: Any, gpr: Any, fpr: Any, given: Any) -> Any:
        seen.append((vm is g.vm, type(gpr), type(fpr), given is data))
        seen.append((gpr is vm.getGPRState(), fpr is vm.getFPRState()))
        return g.qbdi.CONTINUE

    g.vm.addCodeCB(g.qbdi.PREINST, callback, data)
    assert g.run()
    assert seen == [(True, g.qbdi.GPRState, g.qbdi.FPRState, True), (True, True)]


class Method:
    """Callables of several kinds that count their calls."""

    def __init__(self, action: Any) -> None:
        self.action, self.calls = action, 0

    def method(self, vm: Any, gpr: Any, fpr: Any, data: Any) -> Any:
        self.calls += 1
        return self.action

    def variable(self, *arguments: Any) -> Any:
        assert len(arguments) == 4
        self.calls += 1
        return self.action

    __call__ = method


@pytest.mark.parametrize("kind", ["method", "variable", "object", "lambda"])
def test_kinds_of_callables(guest: Make, kind: str) -> None:
    """Methods, objects with __call__ and lambdas are called alike."""
    g = guest("nop\nnop")
    target = Method(g.qbdi.CONTINUE)
    callbacks = {
        "method": target.method,
        "variable": target.variable,
        "object": target,
        "lambda": lambda vm, gpr, fpr, data: target.method(vm, gpr, fpr, data),
    }
    g.vm.addCodeCB(g.qbdi.PREINST, callbacks[kind], None)
    assert g.run()
    assert target.calls == 2


def test_rep_is_one_instruction(guest: Make) -> None:
    """A string instruction with REP is reported once before and once after."""
    g = guest("mov ecx, 5; lea rdi, [rip + data]\nr: rep stosb\nz: nop")
    g.on("PRE", "before", at="r")
    g.on("POST", "after", at="r")
    assert g.run()
    assert g.log == [("before", "r"), ("after", "z")]
    assert g.get("rcx") == 0


FLOW = """
    stc
    untaken: jnc trap
    taken: jc onward
    trap: int3
    onward: call leaf
    pointer: lea rcx, [rip + leaf]
    pointed: call rcx
    other: lea rdx, [rip + last]
    pushed: push rdx
    thrown: ret
    leaf: nop
    back: ret
    last: jmp rbp"""
_PATH = """
    start untaken taken onward leaf back pointer pointed leaf
    back other pushed thrown last end"""
PATH = _PATH.split()


@POSITIONS
def test_branches_are_reported(guest: Make, position: str) -> None:
    """At every kind of branch: before it rip is its address, after it where it goes."""
    g = guest(FLOW)
    g.set(rbp=g["end"])
    g.on(position, "x")
    assert g.run()
    assert [place for _, place in g.log] == (PATH[:-1] if position == "PRE" else PATH[1:])


@pytest.mark.parametrize("count", [1, 2, 100])
def test_loop_bodies_are_reported_each_time(guest: Make, count: int) -> None:
    """An instruction is reported as often as it is executed."""
    g = guest("again: dec rcx\nbranch: jnz again")
    g.on("PRE", "x", at="again")
    g.on("POST", "y", at="branch")
    g.set(rcx=count)
    assert g.run()
    assert names(g) == "xy" * count
    assert [place for name, place in g.log if name == "y"] == ["again"] * (count - 1) + ["end"]


# Where a run stops.


def test_callbacks_at_the_stop(guest: Make) -> None:
    """Where the run stops, callbacks before are called if their priority is 0 or higher."""
    g = guest("a: inc rax\nb: inc rax\nc: jmp end", past_end=True)
    g.on("PRE", "low", priority=-1)
    g.on("PRE", "middle")
    g.on("PRE", "high", priority=1)
    g.on("POST", "after")
    g.set(rax=0)
    assert g.run("start", "b") is True
    assert g.get("rax") == 1
    assert g.log == [
        ("high", "a"), ("middle", "a"), ("low", "a"), ("after", "b"), ("high", "b"), ("middle", "b")
    ]  # fmt: skip


def test_address_callback_at_the_stop(guest: Make) -> None:
    """So are those for the address of the stop."""
    g = guest("a: inc rax\nb: inc rax")
    g.on("PRE", "x", at="b")
    assert g.run("start", "b") is True
    assert g.log == [("x", "b")]


@pytest.mark.parametrize(
    "way",
    ["jmp b", "call b", "xor eax, eax; jz b", "xor eax, eax; jnz c", "lea rax, [rip + b]; jmp rax"],
)
def test_no_callbacks_at_a_stop_reached_by_a_branch(guest: Make, way: str) -> None:
    """A stop at the beginning of a block, taken or fallen into behind a branch, calls nothing."""
    g = guest(f"a: {way}\nb: inc rax\nc: inc rax")
    g.on("PRE", "x", at="b")
    assert g.run("start", "b") is True
    assert g.where(g.get("rip")) == "b"
    assert g.log == []


def test_callbacks_of_an_empty_run(guest: Make) -> None:
    """run(a, a) calls the callbacks before a."""
    g = guest("a: inc rax")
    g.on("PRE", "before")
    g.on("POST", "after")
    assert g.run("a", "a") is True
    assert g.log == [("before", "a")]


def test_stop_outside_the_ranges(guest: Make) -> None:
    """At a stop that is not instrumented nothing is called."""
    g = guest("a: inc rax")
    g.on("PRE", "x", at="end")
    g.on("PRE", "y")
    assert g.run()
    assert g.log == [("y", "a")]
