"""Events of blocks and sequences: which sets arrive, in which order, with which addresses.

An event is noted as ``SET BLOCK RIP``: the set as a number, the block as ``first-behind`` in
labels, and, if the sequence is not the whole block, ``/`` and the sequence. ``21 start-end start``
is the entry into a new block that is one sequence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import Guest, either, wrong

ALL = (
    "SEQUENCE_ENTRY",
    "SEQUENCE_EXIT",
    "BASIC_BLOCK_ENTRY",
    "BASIC_BLOCK_EXIT",
    "BASIC_BLOCK_NEW",
    "EXEC_TRANSFER_CALL",
    "EXEC_TRANSFER_RETURN",
)
LOOP = """
    mov ecx, 3
turn:
    inc rax
    dec ecx
    jnz turn
after:
    nop
    jmp end
"""
PIECES = """
    inc rax
second:
    inc rbx
third:
    inc rcx
    jmp end
"""
BRANCHES = """
    cmp ecx, 0
    je equal
unequal:
    call function
back:
    jmp end
equal:
    inc rdx
    jmp end
function:
    inc rbx
    ret
"""


class EventGuest(Guest):
    """A guest whose VM events are noted in `log`, in the words of this module's description."""

    def watch(
        self,
        *events: str,
        name: str = "",
        actions: tuple[str, ...] = (),
        then: Callable[[Any], None] | None = None,
    ) -> int:
        """Register a noting callback for *events* (all of them, if none is named).

        It returns *actions* one after the other, then CONTINUE. *then* is called with the general
        registers, each time.
        """
        remaining = [getattr(self.qbdi, action) for action in actions]

        def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
            self.log.append(name + self.words(state, gpr))
            if then:
                then(gpr)
            return remaining.pop(0) if remaining else self.qbdi.CONTINUE

        members = [getattr(self.qbdi, event) for event in events or ALL]
        mask = functools.reduce(lambda one, other: one | other, members)
        return int(self.vm.addVMEventCB(mask, callback, None))

    def words(self, state: Any, gpr: Any) -> str:
        """One event in words."""
        block = f"{self.where(state.basicBlockStart)}-{self.where(state.basicBlockEnd)}"
        sequence = f"{self.where(state.sequenceStart)}-{self.where(state.sequenceEnd)}"
        places = block if sequence == block else f"{block}/{sequence}"
        return f"{state.event.value} {places} {self.where(gpr.rip)}"

    def events(self, start: str = "start", stop: str = "end", **registers: int) -> list[str]:
        """Run from *start*, where rip is put before, and return what was noted meanwhile."""
        self.set(rip=self[start], **registers)
        self.log.clear()
        self.result = self.run(start, stop)
        return list(self.log)


Make = Callable[..., EventGuest]


@pytest.fixture
def traced(qbdi: Any) -> Make:
    """A factory of guests with one callback for all events."""

    def make(text: str, **more: Any) -> EventGuest:
        g = EventGuest(qbdi, text, **more)
        g.watch()
        return g

    return make


TURNS = [
    "21 start-after start",
    "10 start-after turn",
    "5 turn-after turn",
    "10 turn-after turn",
    "5 turn-after turn",
    "10 turn-after after",
    "21 after-end after",
    "10 after-end end",
]


def test_loop_is_entered_in_the_middle_of_its_first_block(
    traced: Make,
) -> None:
    """The first pass is one long block; its body, already translated with it, is not new."""
    assert traced(LOOP).events() == TURNS


def test_second_run_has_no_new_blocks(traced: Make) -> None:
    g = traced(LOOP)
    g.events()
    assert g.events() == [event.replace("21 ", "5 ") for event in TURNS]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("SEQUENCE_ENTRY", [21, 5, 5, 21]),
        ("BASIC_BLOCK_ENTRY", [21, 5, 5, 21]),
        ("BASIC_BLOCK_NEW", [21, 21]),
        ("SEQUENCE_EXIT", [10, 10, 10, 10]),
        ("BASIC_BLOCK_EXIT", [10, 10, 10, 10]),
        ("EXEC_TRANSFER_CALL", []),
        ("EXEC_TRANSFER_RETURN", []),
    ],
)
def test_mask_selects_and_the_whole_set_arrives(qbdi: Any, mask: Any, expected: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    g.watch(mask)
    assert [int(words.split()[0]) for words in g.events()] == expected


def test_event_compares_equal_to_a_union(qbdi: Any) -> None:
    seen = []

    def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append(state.event)
        return qbdi.CONTINUE

    g = EventGuest(qbdi, "inc rax")
    exits = qbdi.SEQUENCE_EXIT | qbdi.BASIC_BLOCK_EXIT
    g.vm.addVMEventCB(qbdi.BASIC_BLOCK_NEW | exits, callback, None)
    g.run()
    assert [event.value for event in seen] == [21, 10]
    assert [type(event) for event in seen] == [qbdi.VMEvent, qbdi.VMEvent]
    assert seen[0] == qbdi.SEQUENCE_ENTRY | qbdi.BASIC_BLOCK_ENTRY | qbdi.BASIC_BLOCK_NEW
    assert seen[1] == exits
    assert (seen[0] & qbdi.BASIC_BLOCK_NEW) == qbdi.BASIC_BLOCK_NEW
    assert (seen[1] & qbdi.BASIC_BLOCK_NEW) == qbdi.VMEvent(0)


def test_branch_not_taken_and_call(traced: Make) -> None:
    g = traced(BRANCHES)
    assert g.events(rcx=1) == [
        "21 start-unequal start",
        "10 start-unequal unequal",
        "21 unequal-back unequal",
        "10 unequal-back function",
        "21 function-end function",
        "10 function-end back",
        "21 back-equal back",
        "10 back-equal end",
    ]


def test_branch_taken(traced: Make) -> None:
    g = traced(BRANCHES)
    assert g.events(rcx=0) == [
        "21 start-unequal start",
        "10 start-unequal equal",
        "21 equal-function equal",
        "10 equal-function end",
    ]
    assert g.events(rcx=1)[:4] == [
        "5 start-unequal start",
        "10 start-unequal unequal",
        "21 unequal-back unequal",
        "10 unequal-back function",
    ]


@pytest.mark.parametrize(
    ("ending", "target"),
    [
        ("jmp end", "end"),
        ("lea rax, [rip + end]; jmp rax", "end"),
        ("lea rax, [rip + end]; push rax; ret", "end"),
        ("call behind", "behind"),
        ("lea rax, [rip + behind]; call rax", "behind"),
        ("mov ecx, 2; loop start", "start"),
        ("xor ecx, ecx; jrcxz end", "end"),
        ("xor ecx, ecx; jecxz end", "end"),
        ("stc; jnc start", "behind"),
        ("stc; jc end", "end"),
    ],
)
def test_instructions_that_end_a_block(qbdi: Any, ending: str, target: str) -> None:
    g = EventGuest(qbdi, f"{ending}\nbehind: nop\nnop\njmp end")
    g.watch("BASIC_BLOCK_ENTRY")
    g.watch("BASIC_BLOCK_EXIT", actions=("STOP",))
    assert g.events() == ["21 start-behind start", f"10 start-behind {target}"]


@pytest.mark.parametrize(
    "inside",
    [
        "mov eax, 39; syscall",
        "lea rdi, [rip + data]; mov ecx, 5; rep stosb",
        "xor eax, eax; cpuid",
        "pushfq; popfq",
        "cmove rax, rbx",
        "rdtsc",
        "mfence",
    ],
)
def test_instructions_that_do_not_end_a_block(traced: Make, inside: str) -> None:
    g = traced(f"{inside}\nmiddle: nop\njmp end")
    assert g.events() == ["21 start-end start", "10 start-end end"]


@pytest.mark.parametrize("count", [300, 1000])
def test_long_block_is_not_split(traced: Make, count: int) -> None:
    g = traced("inc rax\n" * count)
    assert g.events() == ["21 start-end start", "10 start-end end"]
    assert g.get("rax") == count


def test_sequences_of_a_huge_block_join(qbdi: Any) -> None:
    """It may be split where the translation does not fit; there is one entry and one exit."""
    bounds = []

    def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        bounds.append((state.event.value, state.sequenceStart, state.sequenceEnd))
        return qbdi.CONTINUE

    g = EventGuest(qbdi, "inc rax\n" * 5000)
    g.watch("BASIC_BLOCK_ENTRY", "BASIC_BLOCK_EXIT")
    g.vm.addVMEventCB(qbdi.SEQUENCE_ENTRY, callback, None)
    blocks = [words.split("/")[0].split()[:2] for words in g.events()]
    assert blocks == [["21", "start-end"], ["10", "start-end"]]
    assert [event for event, _, _ in bounds] == [21] + [1] * (len(bounds) - 1)
    starts, ends = [start for _, start, _ in bounds], [end for _, _, end in bounds]
    assert [g.base, *ends] == [*starts, g["end"]]


def test_entry_is_before_and_exit_after_all_instruction_callbacks(
    traced: Make,
) -> None:
    g = traced("inc rax\nsecond: jmp end")
    g.on("PRE", "pre")
    g.on("POST", "post")
    assert g.events() == [
        "21 start-end start",
        ("pre", "start"),
        ("post", "second"),
        ("pre", "second"),
        ("post", "end"),
        "10 start-end end",
    ]


def test_rip_at_the_first_entry(qbdi: Any) -> None:
    """At every other entry it is the block's start."""
    seen = []

    def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append(gpr.rip)
        return qbdi.CONTINUE

    g = EventGuest(qbdi, "inc rax")
    g.set(rip=0x1234)
    g.vm.addVMEventCB(qbdi.BASIC_BLOCK_ENTRY, callback, None)
    g.run()
    assert seen == [
        either(qbdi, pyqbdi=0x1234, right=g.base, reason="rip is what it was before the run")
    ]


def test_callbacks_are_called_in_order_of_registration(qbdi: Any) -> None:
    g = EventGuest(qbdi, "inc rax")
    g.watch("BASIC_BLOCK_ENTRY", name="a ")
    g.watch(name="b ")
    g.watch("BASIC_BLOCK_EXIT", "BASIC_BLOCK_NEW", name="c ")
    assert g.events() == [
        "a 21 start-end start",
        "b 21 start-end start",
        "c 21 start-end start",
        "b 10 start-end end",
        "c 10 start-end end",
    ]


def test_ids(qbdi: Any) -> None:
    """They count events only, from bit 30, and anew after all are deleted."""
    g = EventGuest(qbdi, LOOP)
    assert [g.watch(), g.watch("BASIC_BLOCK_NEW")] == [1 << 30, (1 << 30) + 1]
    assert g.on("PRE", "x") == 0
    assert g.watch() == (1 << 30) + 2
    g.vm.deleteInstrumentation((1 << 30) + 2)
    assert g.watch() == (1 << 30) + 3
    g.vm.deleteAllInstrumentations()
    assert g.watch() == 1 << 30


def test_empty_mask_is_refused(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    answer = g.vm.addVMEventCB(qbdi.VMEvent(0), lambda *_: qbdi.CONTINUE, None)
    assert answer == qbdi.INVALID_EVENTID


@pytest.mark.parametrize("mask", [1, None, "x", "PREINST"])
def test_wrong_mask_is_a_type_error(qbdi: Any, mask: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    with pytest.raises(TypeError):
        g.vm.addVMEventCB(getattr(qbdi, str(mask), mask), lambda *_: qbdi.CONTINUE, None)


def test_no_callback_is_a_type_error(qbdi: Any) -> None:
    g = EventGuest(qbdi, LOOP)
    with pytest.raises(TypeError):
        g.vm.addVMEventCB(qbdi.BASIC_BLOCK_NEW, 5, None)
    if wrong(qbdi, "None is registered, and kills the process when it is due"):
        assert g.vm.addVMEventCB(qbdi.BASIC_BLOCK_NEW, None, None) == 1 << 30
    else:
        with pytest.raises(TypeError):
            g.vm.addVMEventCB(qbdi.BASIC_BLOCK_NEW, None, None)
