"""The ways in which control passes from instrumented code to other code: not by a call alone."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compat.harness import either, wrong
from tests.compat.test_events import EventGuest
from tests.compat.transfer_guest import STEPS, Make


def test_tail_jump_returns_to_the_caller(transfer: Make) -> None:
    g = transfer()
    g.watch()
    assert g.events("deep") == [
        "21 deep-returned deep",
        "10 deep-returned tail",
        "21 tail-loop tail",
        "10 tail-loop double",
        "32 double-double double",
        "64 double-double returned",
        "21 returned-tail returned",
        "10 returned-tail end",
    ]


def test_conditional_jump_may_transfer(transfer: Make) -> None:
    g = transfer()
    g.watch("EXEC_TRANSFER_CALL", "EXEC_TRANSFER_RETURN")
    assert g.events("choice", rdi=4) == ["32 double-double double", "64 double-double chosen"]
    assert g.get("rax") == 8
    assert g.events("choice", rdi=0) == []


def test_return_may_transfer(transfer: Make) -> None:
    g = transfer()
    g.watch("EXEC_TRANSFER_CALL", "EXEC_TRANSFER_RETURN")
    assert g.events("pushes", rdi=4) == ["32 double-double double", "64 double-double pushed"]
    assert g.get("rax") == 8


def test_falling_through_may_transfer(qbdi: Any) -> None:
    g = EventGuest(qbdi, "call f\nback: jmp end\nf: inc rdi\nnative: mov rax, rdi\nret")
    g.vm.removeInstrumentedRange(g["native"], g["end"])
    g.watch()
    assert g.events(rdi=4)[2:5] == [
        "21 f-native f",
        "10 f-native native",
        "32 native-native native",
    ]
    assert g.log[5] == "64 native-native back"
    assert g.get("rax") == 5


def test_outermost_tail_jump(transfer: Make, qbdi: Any) -> None:
    """The return address is that of `call`: 42."""
    g = transfer()
    g.watch("EXEC_TRANSFER_CALL", "EXEC_TRANSFER_RETURN")
    assert g.vm.call(g["outer"], [4]) == (True, 8)
    assert g.log == either(
        qbdi,
        pyqbdi=[],
        right=["32 double-double double", "64 double-double 0x2a"],
        reason="what it cannot hook the return of is instrumented",
    )


def test_outermost_tail_jump_is_not_instrumented(transfer: Make, qbdi: Any) -> None:
    g = transfer()
    g.on("PRE", "pre", at="double")
    g.vm.call(g["outer"], [4])
    right: list[Any] = []
    instrumented = [("pre", "double")]
    assert g.log == either(
        qbdi, pyqbdi=instrumented, right=right, reason="`double` is in no instrumented range"
    )


def test_native_code_that_calls_instrumented_code(transfer: Make, qbdi: Any) -> None:
    g = transfer("calling")
    g.watch("EXEC_TRANSFER_CALL", "EXEC_TRANSFER_RETURN")
    g.on("PRE", "pre", at="inside")
    events = g.events()
    assert g.get("rax") == 8
    if wrong(qbdi, "what it calls is not instrumented"):
        assert events == ["32 calling-calling calling", "64 calling-calling back"]
    else:
        transfers = [words.split()[0] for words in events if isinstance(words, str)]
        assert events[0] == "32 calling-calling calling"
        assert events.count(("pre", "inside")) == 1
        assert transfers == ["32", "64"] * (len(transfers) // 2)
        assert events[-1].startswith("64 ")
        assert events[-1].endswith(" back")


def test_stop_at_the_target(transfer: Make) -> None:
    g = transfer()
    g.watch()
    assert g.events(stop="double") == ["21 start-back start", "10 start-back double"]
    assert g.get("rip") == g["double"]


def test_stop_behind_the_call(transfer: Make) -> None:
    g = transfer()
    g.watch()
    assert g.events(stop="back") == ["21 start-back start", *STEPS]
    assert g.get("rip") == g["back"]


def test_start_outside(transfer: Make) -> None:
    g = transfer()
    g.watch()
    assert g.vm.call(g["double"], [4]) == (False, 0)
    assert g.log == []


def test_range_added_later_is_instrumented(transfer: Make) -> None:
    g = transfer()
    g.watch()
    g.events()
    g.vm.addInstrumentedRange(g["outside"], g["end"])
    own = ["21 double-sum double", "10 double-sum back"]
    assert [words for words in g.events() if "double-" in words] == own
    g.vm.removeInstrumentedRange(g["outside"], g["end"])
    assert [words for words in g.events() if "double-" in words] == STEPS[1:]


def test_range_added_at_the_call_counts_from_the_next_one(
    transfer: Make,
) -> None:
    g = transfer()

    def add(gpr: Any) -> None:
        g.vm.addInstrumentedRange(g["outside"], g["end"])

    g.watch("EXEC_TRANSFER_CALL", then=add)
    g.watch("BASIC_BLOCK_ENTRY", "EXEC_TRANSFER_RETURN")
    first = ["21 start-back start", *STEPS[1:], "21 back-alternative back"]
    assert g.events() == first
    assert g.events()[1] == "21 double-sum double"


def test_range_added_at_the_exit_before_counts_at_once(
    transfer: Make,
) -> None:
    g = transfer()

    def add(gpr: Any) -> None:
        g.vm.addInstrumentedRange(g["outside"], g["end"])

    g.watch("BASIC_BLOCK_EXIT", then=add)
    g.watch("BASIC_BLOCK_ENTRY", "EXEC_TRANSFER_RETURN")
    assert "21 double-sum double" in g.events()
    assert STEPS[2] not in g.log


def test_registered_at_the_call(transfer: Make) -> None:
    """It gets the return."""
    g = transfer()
    g.watch("EXEC_TRANSFER_CALL", then=lambda gpr: g.watch("EXEC_TRANSFER_RETURN", name="new "))
    assert g.events() == [STEPS[1], "new " + STEPS[2]]


def test_nothing_is_analysed_in_between(transfer: Make) -> None:
    g = transfer()
    seen: list[Any] = []

    def note(gpr: Any) -> None:
        seen.append(g.vm.getInstAnalysis())
        seen.extend(g.vm.getInstMemoryAccess())
        seen.extend(g.vm.getBBMemoryAccess())

    g.watch("EXEC_TRANSFER_CALL", "EXEC_TRANSFER_RETURN", then=note)
    g.vm.recordMemoryAccess(g.qbdi.MEMORY_READ_WRITE)
    g.run()
    assert seen == [None, None]


def test_function_of_libc(transfer: Make, qbdi: Any) -> None:
    g = transfer()
    address = ctypes.cast(ctypes.CDLL("libc.so.6").abs, ctypes.c_void_p).value
    assert address
    g.write(0, struct.pack("<Q", address))
    seen = []

    def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        places = {state.basicBlockStart, state.basicBlockEnd}
        places |= {state.sequenceStart, state.sequenceEnd}
        seen.append((state.event.value, places, gpr.rip, gpr.rax))
        return qbdi.CONTINUE

    both = qbdi.EXEC_TRANSFER_CALL | qbdi.EXEC_TRANSFER_RETURN
    g.vm.addVMEventCB(both, callback, None)
    g.set(rbx=-21 & 0xFFFFFFFFFFFFFFFF, rax=3)
    g.run()
    assert seen == [(32, {address}, address, 3), (64, {address}, g["back"], 21)]
    assert g.get("rax") == 22


LIBRARY = """
int abs(int);
__attribute__((noinline)) int twice(int x) { return 2 * abs(x); }
__attribute__((noinline)) int tail(int x) { return abs(x); }
int both(int x) { return twice(x) + tail(x); }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc builds the library")
def test_calls_and_tail_jumps_through_linkage_tables(qbdi: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "both.c", tmp_path / "libboth.so"
    source.write_text(LIBRARY)
    options = ("-O2", "-fno-builtin", "-fPIC", "-shared")
    subprocess.run(["gcc", *options, str(source), "-o", str(target)], check=True)
    library, libc = ctypes.CDLL(str(target)), ctypes.CDLL("libc.so.6")
    both = ctypes.cast(library.both, ctypes.c_void_p).value
    absolute = ctypes.cast(libc.abs, ctypes.c_void_p).value
    vm, seen = qbdi.VM(), []
    qbdi.allocateVirtualStack(vm.getGPRState(), 0x20000)
    assert vm.addInstrumentedModuleFromAddr(both)

    def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append((state.event.value, state.sequenceStart == absolute, gpr.rdi, gpr.rax))
        return qbdi.CONTINUE

    vm.addVMEventCB(qbdi.EXEC_TRANSFER_CALL | qbdi.EXEC_TRANSFER_RETURN, callback, None)
    assert vm.call(both, [7]) == (True, 21)
    assert [(event, known) for event, known, _, _ in seen] == [(32, True), (64, True)] * 2
    assert [rdi for event, _, rdi, _ in seen if event == 32] == [7, 7]
    assert [rax for event, _, _, rax in seen if event == 64] == [7, 7]
