"""recordMemoryAccess, and what getInstMemoryAccess and getBBMemoryAccess give when."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import either
from tests.compat.test_memory_callbacks import BOTH, DOWN, HALF, LOAD, STORE, UP, MemoryGuest

ALL = [LOAD, STORE, *BOTH, HALF, DOWN, UP]


class RecordedGuest(MemoryGuest):
    """A guest whose accesses of one kind are recorded without a callback asking for it."""

    def __init__(self, qbdi: Any, *text: str, kind: str = "READ_WRITE", **more: Any) -> None:
        super().__init__(qbdi, *text, **more)
        assert self.vm.recordMemoryAccess(getattr(qbdi, "MEMORY_" + kind)) is True

    def note_sequence_at(self, position: str) -> None:
        """Note the records of the sequence at each instruction."""

        def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
            self.log.append((self.where(gpr.rip), *self.words(vm.getBBMemoryAccess())))
            return self.qbdi.CONTINUE

        self.vm.addCodeCB(getattr(self.qbdi, position + "INST"), callback, None)

    def note_events(self, *events: str) -> None:
        """Note event, rip, and the records of the instruction and of the sequence."""

        def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
            one, all_ = vm.getInstMemoryAccess(), vm.getBBMemoryAccess()
            where = f"{state.event.value} {self.where(gpr.rip)}"
            self.log.append((where, self.words(one), self.words(all_)))
            return self.qbdi.CONTINUE

        for event in events:
            self.vm.addVMEventCB(getattr(self.qbdi, event), callback, None)


Make = Callable[..., RecordedGuest]


@pytest.fixture
def recorded(qbdi: Any) -> Make:
    """A factory of these guests."""
    return functools.partial(RecordedGuest, qbdi)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("READ", [[LOAD], [], [BOTH[0]], []], [[LOAD], [], [BOTH[0]], []]),
        ("WRITE", [[], [], [], []], [[], [STORE], [BOTH[1]], []]),
        ("READ_WRITE", [[LOAD], [], [BOTH[0]], []], [[LOAD], [STORE], BOTH, []]),
    ],
)
def test_records_around_an_instruction(recorded: Make, kind: Any, before: Any, after: Any) -> None:
    """Before it there are its reads, after it its writes too."""
    g = recorded(kind=kind)
    g.note_at("PRE", "pre")
    g.note_at("POST", "post")
    log = g.logged()
    assert [list(words) for name, _, *words in log if name == "pre"][:4] == before
    assert [list(words) for name, _, *words in log if name == "post"][:4] == after


def test_nothing_is_recorded_unless_asked_for(qbdi: Any) -> None:
    g = MemoryGuest(qbdi)
    g.note_at("POST", "post")
    assert g.logged("load", "both") == [("post", "store"), ("post", "both")]


def test_a_second_direction_may_be_added(recorded: Make, qbdi: Any) -> None:
    g = recorded(kind="READ")
    g.note_at("POST", "post")
    assert g.vm.recordMemoryAccess(qbdi.MEMORY_WRITE) is True
    assert g.logged("load", "none")[1:] == [("post", "both", STORE), ("post", "none", *BOTH)]


def test_recording_outlives_the_callback_that_asked_for_it(qbdi: Any) -> None:
    g = MemoryGuest(qbdi)
    g.vm.deleteInstrumentation(g.access("READ", "x"))
    g.note_at("POST", "post")
    assert g.logged("load", "store") == [("post", "store", LOAD)]


def test_recording_ends_with_all_instrumentations(recorded: Make) -> None:
    g = recorded()
    g.vm.deleteAllInstrumentations()
    g.note_at("POST", "post")
    assert g.logged("load", "both") == [("post", "store"), ("post", "both")]


def test_recording_begun_in_a_callback(qbdi: Any) -> None:
    """The blocks that are translated from then on record."""
    g = MemoryGuest(qbdi)
    begun: list[bool] = []

    def begin(gpr: Any) -> None:
        if not begun:
            begun.append(g.vm.recordMemoryAccess(qbdi.MEMORY_READ))

    callback = g.noting_accesses("post", then=begin)
    g.vm.addCodeCB(qbdi.POSTINST, callback, None)
    g.run()
    assert begun == [True]
    assert g.logged("load", "store") == [("post", "store", LOAD)]


def test_outside_callbacks_there_is_nothing(recorded: Make) -> None:
    g = recorded()
    assert g.vm.getInstMemoryAccess() == []
    assert g.vm.getBBMemoryAccess() == []
    g.run()
    assert g.vm.getInstMemoryAccess() == []
    assert g.vm.getBBMemoryAccess() == []


def test_after_a_stop_there_is_nothing(recorded: Make) -> None:
    g = recorded()
    g.on("POST", "x", "STOP", at="both")
    g.run()
    assert g.vm.getInstMemoryAccess() == []
    assert g.vm.getBBMemoryAccess() == []


def test_sequence_before_instructions(recorded: Make) -> None:
    """All accesses so far, and the reads of the instruction to come."""
    g = recorded()
    g.note_sequence_at("PRE")
    assert g.logged() == [
        ("load", *ALL[:1]),
        ("store", *ALL[:1]),
        ("both", *ALL[:3]),
        ("none", *ALL[:4]),
        ("half", *ALL[:5]),
        ("down", *ALL[:5]),
        ("up", *ALL),
        ("last", *ALL),
    ]


def test_sequence_after_instructions(recorded: Make) -> None:
    g = recorded()
    g.note_sequence_at("POST")
    assert g.logged() == [
        ("store", *ALL[:1]),
        ("both", *ALL[:2]),
        ("none", *ALL[:4]),
        ("half", *ALL[:4]),
        ("down", *ALL[:5]),
        ("up", *ALL[:6]),
        ("last", *ALL),
        ("end", *ALL),
    ]


def test_exit_has_the_whole_sequence(recorded: Make) -> None:
    g = recorded()
    g.note_events("SEQUENCE_EXIT")
    assert g.logged() == [("10 end", [], ALL)]


def test_entry_has_nothing_yet(recorded: Make, qbdi: Any) -> None:
    g = recorded("jmp load\n" + "load: mov rax, [rdi]\njmp end")
    g.note_events("SEQUENCE_ENTRY")
    nothing: list[str] = []
    log = g.logged()
    assert [where for where, _, _ in log][1] == "21 load"
    _, one, all_ = log[1]
    assert (
        len(one)
        == len(all_)
        == either(
            qbdi, pyqbdi=1, right=len(nothing), reason="there is a record that was never filled"
        )
    )


def test_exit_has_the_last_instruction(recorded: Make) -> None:
    g = recorded("start: push rax\ncall function\nback: jmp end\nfunction: mov rbx, [rdi]\nret")
    g.note_events("BASIC_BLOCK_EXIT")
    pushed = f"W {g.stack_top - g.data - 16}:8={g['back']:x}"
    popped = pushed.replace("W", "R")
    assert g.logged() == [
        ("10 function", [pushed], ["W sp:8=0", pushed]),
        ("10 back", [popped], ["R 0:8=706050403020100", popped]),
        ("10 end", [], []),
    ]


def test_each_turn_of_a_loop_has_its_own(recorded: Make) -> None:
    g = recorded("mov ecx, 2\nturn: mov rax, [rdi]\nadd rdi, 8\ndec ecx\njnz turn\nout: jmp end")
    g.note_events("SEQUENCE_EXIT")
    assert g.logged() == [
        ("10 turn", [], ["R 0:8=706050403020100"]),
        ("10 out", [], ["R 8:8=f0e0d0c0b0a0908"]),
        ("10 end", [], []),
    ]


def test_sequences_of_one_block_have_their_own(recorded: Make) -> None:
    g = recorded()
    g.run("half")
    g.set(rdi=g.data)
    g.note_events("SEQUENCE_EXIT")
    assert g.logged() == [
        ("2 half", [], ALL[:4]),
        ("10 end", [], ALL[4:]),
    ]


def test_break_to_vm_begins_a_sequence(recorded: Make) -> None:
    g = recorded()
    g.vm.addCodeAddrCB(g["both"], g.qbdi.POSTINST, lambda *_: g.qbdi.BREAK_TO_VM, None)
    g.note_events("SEQUENCE_EXIT")
    assert g.logged() == [("10 end", [], ALL[4:])]


def test_read_is_recorded_before_callbacks(recorded: Make) -> None:
    """What a callback changes afterwards is not in the record."""
    g = recorded()

    def change(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        gpr.rdi += 8
        return g.qbdi.CONTINUE

    g.vm.addCodeAddrCB(g["load"], g.qbdi.PREINST, change, None)
    g.note_at("PRE", "pre")
    assert g.logged("load", "store")[0] == ("pre", "load", LOAD)
    assert g.get("rax") == 0x0F0E0D0C0B0A0908


def test_skipped_instruction_keeps_its_reads(recorded: Make) -> None:
    g = recorded(kind="READ")
    g.on("PRE", "skip", "SKIP_INST", at="load")
    g.note_at("POST", "post")
    assert g.logged("load", "store") == [("skip", "load"), ("post", "store", LOAD)]
    assert g.get("rax") == 0


def test_values_may_be_left_out(qbdi: Any) -> None:
    g = RecordedGuest(qbdi, options=qbdi.OPT_DISABLE_MEMORYACCESS_VALUE)
    g.note_at("POST", "post")
    assert g.logged("load", "none") == [
        ("post", "store", "R 0:8=?"),
        ("post", "both", "W 8:8=?"),
        ("post", "none", "R 16:8=?", "W 16:8=?"),
    ]


def test_accesses_of_another_vm(recorded: Make, qbdi: Any) -> None:
    g = recorded()
    other = qbdi.VM()
    seen = []

    def look(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append((len(vm.getInstMemoryAccess()), len(other.getInstMemoryAccess())))
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g["load"], qbdi.PREINST, look, None)
    g.run()
    assert seen == [(1, 0)]


@pytest.mark.parametrize("kind", [1, None, "READ", 3.0])
def test_wrong_type_is_a_type_error(qbdi: Any, kind: Any) -> None:
    g = MemoryGuest(qbdi)
    callback = lambda *_: qbdi.CONTINUE  # noqa: E731
    for call in (
        lambda: g.vm.recordMemoryAccess(kind),
        lambda: g.vm.addMemAccessCB(kind, callback, None),
        lambda: g.vm.addMemAddrCB(0, kind, callback, None),
        lambda: g.vm.addMemRangeCB(0, 1, kind, callback, None),
    ):
        with pytest.raises(TypeError):
            call()


def test_type_of_no_direction(qbdi: Any) -> None:
    g = MemoryGuest(qbdi)
    nothing = qbdi.MemoryAccessType(0)
    callback = lambda *_: qbdi.CONTINUE  # noqa: E731
    assert g.vm.recordMemoryAccess(nothing) is True
    assert g.vm.addMemAccessCB(nothing, callback, None) == qbdi.INVALID_EVENTID
    assert g.vm.addMemAddrCB(0, nothing, callback, None) == qbdi.INVALID_EVENTID
    assert g.vm.addMemRangeCB(0, 1, nothing, callback, None) == qbdi.INVALID_EVENTID


@pytest.mark.parametrize("address", [-1, 1 << 64, "x", None, 1.5])
def test_wrong_address_is_a_type_error(qbdi: Any, address: Any) -> None:
    g = MemoryGuest(qbdi)
    callback = lambda *_: qbdi.CONTINUE  # noqa: E731
    with pytest.raises(TypeError):
        g.vm.addMemAddrCB(address, qbdi.MEMORY_READ, callback, None)
    with pytest.raises(TypeError):
        g.vm.addMemRangeCB(0, address, qbdi.MEMORY_READ, callback, None)


def test_last_address_of_all(qbdi: Any) -> None:
    """The range behind it would wrap."""
    g = MemoryGuest(qbdi)
    last, callback = (1 << 64) - 1, lambda *_: qbdi.CONTINUE
    assert g.vm.addMemAddrCB(last, qbdi.MEMORY_READ, callback, None) == qbdi.INVALID_EVENTID
    assert g.vm.addMemRangeCB(0, last, qbdi.MEMORY_READ, callback, None) == 1 << 31


@pytest.mark.parametrize("callback", [5, "x"])
def test_wrong_callback_is_a_type_error(qbdi: Any, callback: Any) -> None:
    g = MemoryGuest(qbdi)
    with pytest.raises(TypeError):
        g.vm.addMemAccessCB(qbdi.MEMORY_READ, callback, None)
    with pytest.raises(TypeError):
        g.vm.addMemAddrCB(0, qbdi.MEMORY_READ, callback, None)
    with pytest.raises(TypeError):
        g.vm.addMemRangeCB(0, 1, qbdi.MEMORY_READ, callback, None)
