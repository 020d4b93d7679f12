"""Callbacks of memory accesses and watches: deleting and adding them, their actions, strings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compat.harness import either, wrong
from tests.compat.test_memory_callbacks import TYPES, Make, memory

__all__ = ["memory"]


def test_deletion(memory: Make) -> None:
    g = memory()
    ids = [g.watch_address("READ", 0, "a"), g.watch("READ", 0, 8, "b"), g.access("READ", "c")]
    expected = ["a", "b", "c"]
    while ids:
        assert [name for name, *_ in g.logged("start", "store")] == expected
        g.vm.deleteInstrumentation(ids.pop(0))
        expected.pop(0)
    assert g.logged() == []


def test_watch_deletes_itself(memory: Make) -> None:
    g = memory()
    mine = g.watch("READ", 0, 64, "x", then=lambda gpr: g.vm.deleteInstrumentation(mine))
    g.watch("READ", 0, 64, "y")
    names = [(name, rip) for name, rip, *_ in g.logged()]
    assert names == [("x", "load"), ("y", "load"), ("y", "both"), ("y", "half")]


def test_access_callback_deletes_itself(memory: Make, qbdi: Any) -> None:
    g = memory()
    mine = g.access("READ", "x", then=lambda gpr: g.vm.deleteInstrumentation(mine))
    if not wrong(qbdi, "it refers to memory that is gone, and may crash"):
        g.run()
        assert g.logged() == []


def test_watch_added_by_a_watch(memory: Make) -> None:
    """Its gate is there already: it is called from the next access on."""
    g = memory()
    g.watch("READ", 0, 8, "x", then=lambda gpr: len(g.log) == 1 and g.watch("READ", 16, 24, "new"))
    assert [(name, rip) for name, rip, *_ in g.logged()] == [
        ("x", "load"),
        ("new", "both"),
        ("x", "half"),
    ]


def test_watch_added_by_an_instruction_callback(memory: Make, qbdi: Any) -> None:
    """At the latest when the blocks are translated anew, it is called."""
    g = memory()

    def add(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        if not added:
            added.append(g.watch("READ", 16, 24, "new"))
        return qbdi.CONTINUE

    added: list[int] = []
    g.vm.addCodeAddrCB(g["load"], qbdi.PREINST, add, None)
    g.run()
    assert [(name, rip) for name, rip, *_ in g.logged()] == [("new", "both")]


@pytest.mark.parametrize("kind", ["access", "watch"])
@pytest.mark.parametrize("action", ["SKIP_INST", "SKIP_PATCH", "BREAK_TO_VM", "STOP"])
def test_actions_before(memory: Make, kind: Any, action: str) -> None:
    g = memory()
    for name, actions in (("x", (action,)), ("y", ())):
        if kind == "access":
            g.access("READ", name, *actions)
        else:
            g.watch("READ", 0, 64, name, *actions)
    g.on("POST", "post")
    names = [name for name, *_ in g.logged("both", "none")]
    others = ["y"] if kind == "watch" else []
    expected = {
        "SKIP_INST": ["x", *others, "post"],
        "SKIP_PATCH": ["x", *others],
        "BREAK_TO_VM": ["x", *others, "x", "y", "post"],
        "STOP": ["x", *others],
    }
    assert names == expected[action]
    assert g.result is True
    assert g.get("rip") == g["both" if action == "STOP" else "none"]


@pytest.mark.parametrize("kind", ["access", "watch"])
@pytest.mark.parametrize("action", ["SKIP_PATCH", "BREAK_TO_VM", "STOP"])
def test_actions_after(memory: Make, kind: Any, action: str) -> None:
    g = memory()
    if kind == "access":
        g.access("WRITE", "x", action)
    else:
        g.watch("WRITE", 0, 64, "x", action)
    g.on("POST", "post")
    assert [name for name, *_ in g.logged("both", "half")] == {
        "SKIP_PATCH": ["x", "post"],
        "BREAK_TO_VM": ["x", "post"],
        "STOP": ["x"],
    }[action]
    assert g.get("rip") == g["none" if action == "STOP" else "half"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_skip_inst_after_is_continue(memory: Make) -> None:
    g = memory()
    g.access("WRITE", "x", "SKIP_INST")
    g.on("POST", "post")
    assert [name for name, *_ in g.logged("both", "none")] == ["x", "post"]


def test_read_callback_skips_the_instruction(memory: Make) -> None:
    g = memory()
    g.set(rax=77)
    g.access("READ", "x", "SKIP_INST")
    g.run("load", "store")
    assert g.get("rax") == 77


@pytest.mark.parametrize(
    ("actions", "names"),
    [
        (("SKIP_INST", "CONTINUE"), ["0", "1", "post"]),
        (("CONTINUE", "STOP"), ["0", "1"]),
        (("STOP", "CONTINUE"), ["0", "1"]),
        (("SKIP_PATCH", "SKIP_INST"), ["0", "1"]),
        (("BREAK_TO_VM", "SKIP_PATCH"), ["0", "1", "0", "1", "post"]),
    ],
)
def test_strongest_action_of_several_watches(memory: Make, actions: Any, names: list[str]) -> None:
    g = memory()
    for number, action in enumerate(actions):
        g.watch("READ", 16, 24, str(number), action)
    g.on("POST", "post")
    assert [name for name, *_ in g.logged("both", "none")] == names


def test_repeated_string_instruction(memory: Make, qbdi: Any) -> None:
    """Its reads have no size before it."""
    g = memory("lea rsi, [rdi + 64]\nmov ecx, 8\nhere: rep movsb\nthere: jmp end")
    for kind in TYPES:
        g.access(kind, kind)
    after = ["R 64:8=?", "W 0:8=?"]
    assert g.logged() == [
        ("READ", "here", "R 64:?=?"),
        ("WRITE", "there", *after),
        ("READ_WRITE", "there", *after),
    ]


def test_watches_of_a_repeated_string_instruction(memory: Make, qbdi: Any) -> None:
    g = memory("lea rsi, [rdi + 64]\nmov ecx, 8\nhere: rep movsb\nthere: jmp end")
    for kind in TYPES:
        for offset in (2, 8, 66, 72):
            g.watch_address(kind, offset, (kind, offset))
    before = either(
        qbdi, pyqbdi=[], right=[("READ", 66)], reason="the read has no size, so nothing overlaps it"
    )
    after = [("WRITE", 2), ("READ_WRITE", 2), ("READ_WRITE", 66)]
    assert [name for name, *_ in g.logged()] == before + after


def test_code_outside_the_ranges_is_not_watched(memory: Make) -> None:
    g = memory("call distant\nback: mov rax, [rdi]\njmp end\ndistant: mov rbx, [rdi]\nret")
    g.vm.removeInstrumentedRange(g["distant"], g["end"])
    g.access("READ", "x")
    g.watch("READ", 0, 8, "y")
    assert [(name, rip) for name, rip, *_ in g.logged()] == [("x", "back"), ("y", "back")]


def test_data_and_vm_are_the_same_objects(memory: Make, qbdi: Any) -> None:
    g = memory()
    mine, seen = object(), []

    def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append((vm is g.vm, data is mine, type(gpr), type(fpr)))
        return qbdi.CONTINUE

    g.vm.addMemAccessCB(qbdi.MEMORY_READ, callback, mine)
    g.vm.addMemAddrCB(g.data, qbdi.MEMORY_READ, callback, mine)
    g.vm.addMemRangeCB(g.data, g.data + 1, qbdi.MEMORY_READ, callback, mine)
    g.run("load", "store")
    assert seen == [(True, True, qbdi.GPRState, qbdi.FPRState)] * 3
