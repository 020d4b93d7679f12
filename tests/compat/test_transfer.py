"""Events of control passing from instrumented code to code that is not, and back."""

from __future__ import annotations

import ctypes
import functools
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.compat.harness import either, fate, wrong
from tests.compat.test_events import EventGuest

TEXT = """
    mov rdi, rbx
    call [rip + data]
back:
    add rax, 1
    jmp end
alternative:
    add rax, 500
    jmp end
deep:
    call tail
returned:
    jmp end
tail:
    jmp [rip + data]
loop:
    mov ecx, 2
turn:
    push rcx
    call double
counted:
    pop rcx
    dec ecx
    jnz turn
    jmp end
choice:
    call chooses
chosen:
    jmp end
chooses:
    test rdi, rdi
    jnz double
    ret
pushes:
    call pusher
pushed:
    jmp end
pusher:
    lea rax, [rip + double]
    push rax
    ret
vectors:
    call sum
added:
    jmp end
inside:
    mov rax, 7
    ret
outer:
    mov rbx, rax
    jmp [rip + data]
outside:
    nop
double:
    lea rax, [rdi + rdi]
    ret
sum:
    addsd xmm0, xmm1
    ret
calling:
    call inside
    ret
"""
STEPS = ["10 start-back double", "32 double-double double", "64 double-double back"]


class TransferGuest(EventGuest):
    """Code of which all from ``outside`` on is not instrumented; ``[data]`` has its address."""

    def __init__(self, qbdi: Any, target: str = "double") -> None:
        super().__init__(qbdi, TEXT)
        self.vm.removeInstrumentedRange(self["outside"], self["end"])
        self.write(0, struct.pack("<Q", self[target]))
        self.set(rbx=21, rdi=21)


Make = Callable[..., TransferGuest]


@pytest.fixture
def transfer(qbdi: Any) -> Make:
    """A factory of these guests."""
    return functools.partial(TransferGuest, qbdi)


def test_events_around_a_call(transfer: Make) -> None:
    g = transfer()
    g.watch()
    assert g.events() == [
        "21 start-back start",
        *STEPS,
        "21 back-alternative back",
        "10 back-alternative end",
    ]
    assert g.get("rax") == 43


def test_second_call_is_alike(transfer: Make) -> None:
    g = transfer()
    g.watch()
    g.events()
    assert g.events(rbx=2) == [
        "5 start-back start",
        *STEPS,
        "5 back-alternative back",
        "10 back-alternative end",
    ]
    assert g.get("rax") == 5


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        (("EXEC_TRANSFER_CALL",), STEPS[1:2]),
        (("EXEC_TRANSFER_RETURN",), STEPS[2:3]),
        (("EXEC_TRANSFER_CALL", "EXEC_TRANSFER_RETURN"), STEPS[1:3]),
        (("BASIC_BLOCK_EXIT", "EXEC_TRANSFER_CALL"), [*STEPS[:2], "10 back-alternative end"]),
    ],
)
def test_masks(transfer: Make, masks: Any, expected: Any) -> None:
    g = transfer()
    g.watch(*masks)
    assert g.events() == expected


def test_both_at_each_turn_of_a_loop(transfer: Make) -> None:
    g = transfer()
    g.watch("EXEC_TRANSFER_CALL", "EXEC_TRANSFER_RETURN")
    events = ["32 double-double double", "64 double-double counted"]
    assert g.events("loop") == events * 2


def test_instruction_callbacks_around_a_call(transfer: Make) -> None:
    """The native code gets none."""
    g = transfer()
    g.on("PRE", "pre")
    g.on("POST", "post")
    g.watch("EXEC_TRANSFER_CALL", "EXEC_TRANSFER_RETURN")
    assert g.events()[2:8] == [
        ("pre", f"{g['back'] - 6:#x}"),
        ("post", "double"),
        *STEPS[1:],
        ("pre", "back"),
        ("post", f"{g['back'] + 4:#x}"),
    ]


def test_callbacks_are_called_in_order_of_registration(
    transfer: Make,
) -> None:
    g = transfer()
    g.watch("EXEC_TRANSFER_CALL", name="a ")
    g.watch("EXEC_TRANSFER_RETURN", "EXEC_TRANSFER_CALL", name="b ")
    assert g.events() == ["a " + STEPS[1], "b " + STEPS[1], "b " + STEPS[2]]


def test_stack_and_registers(transfer: Make) -> None:
    """At the call the return address is pushed, at the return it is popped."""
    g = transfer()
    top = g.stack_top
    seen, pushed = [], []

    def note(gpr: Any) -> None:
        seen.append((gpr.rax, gpr.rdi, gpr.rsp))
        pushed.append(ctypes.c_uint64.from_address(top - 8).value)

    g.watch("EXEC_TRANSFER_CALL", "EXEC_TRANSFER_RETURN", then=note)
    g.events(rax=5)
    assert seen == [(5, 21, top - 8), (42, 21, top)]
    assert pushed[0] == g["back"]


def test_argument_may_be_changed(transfer: Make) -> None:
    g = transfer()

    def write(gpr: Any) -> None:
        gpr.rdi = 50

    g.watch("EXEC_TRANSFER_CALL", then=write)
    g.run()
    assert g.get("rax") == 101


def test_result_may_be_changed(transfer: Make) -> None:
    g = transfer()

    def write(gpr: Any) -> None:
        gpr.rax = 7

    g.watch("EXEC_TRANSFER_RETURN", then=write)
    g.run()
    assert g.get("rax") == 8


def test_vector_registers(transfer: Make, qbdi: Any) -> None:
    g = transfer()
    seen = []

    def before(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        fpr.xmm0, fpr.xmm1 = struct.pack("<dd", 1.0, 0), struct.pack("<dd", 2.5, 0)
        return qbdi.CONTINUE

    def after(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append(struct.unpack("<dd", fpr.xmm0))
        return qbdi.CONTINUE

    g.vm.addVMEventCB(qbdi.EXEC_TRANSFER_CALL, before, None)
    g.vm.addVMEventCB(qbdi.EXEC_TRANSFER_RETURN, after, None)
    g.run("vectors")
    assert seen == [(3.5, 0)]


def test_stop_at_a_call(transfer: Make) -> None:
    g = transfer()
    g.watch("EXEC_TRANSFER_CALL", actions=("STOP",))
    assert g.events(rax=0) == STEPS[1:2]
    assert g.result is True
    assert g.get("rip") == g["double"]
    assert g.get("rax") == 0


def test_stop_at_a_return(transfer: Make) -> None:
    g = transfer()
    g.watch(actions=("CONTINUE", "CONTINUE", "CONTINUE", "STOP"))
    assert g.events() == ["21 start-back start", *STEPS]
    assert g.result is True
    assert g.get("rip") == g["back"]
    assert g.get("rax") == 42


@pytest.mark.parametrize("action", ["SKIP_INST", "SKIP_PATCH", "BREAK_TO_VM"])
def test_other_actions_at_a_call_repeat_it(transfer: Make, action: str) -> None:
    g = transfer()
    g.watch("EXEC_TRANSFER_CALL", "EXEC_TRANSFER_RETURN", actions=(action,))
    assert g.events() == [STEPS[1], STEPS[1], STEPS[2]]
    assert g.get("rax") == 43


@pytest.mark.parametrize("action", ["SKIP_INST", "SKIP_PATCH", "BREAK_TO_VM"])
def test_other_actions_at_a_return_continue(transfer: Make, action: str) -> None:
    g = transfer()
    g.watch("EXEC_TRANSFER_RETURN", actions=(action,))
    assert g.events() == STEPS[2:]
    assert g.get("rax") == 43


def test_call_can_be_answered(transfer: Make) -> None:
    """BREAK_TO_VM with another rip: the native code does not run, and no return is reported."""

    g = transfer()

    def answer(gpr: Any) -> None:
        gpr.rax = 70
        gpr.rip = g["back"]
        gpr.rsp += 8

    g.watch("EXEC_TRANSFER_CALL", actions=("BREAK_TO_VM",), then=answer)
    g.watch("EXEC_TRANSFER_RETURN", "BASIC_BLOCK_ENTRY")
    assert g.events() == ["21 start-back start", STEPS[1], "21 back-alternative back"]
    assert g.get("rax") == 71


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rip_written_at_a_call_is_ignored_with_continue(
    transfer: Make,
) -> None:
    g = transfer()

    def move(gpr: Any) -> None:
        gpr.rip = g["alternative"]

    g.watch("EXEC_TRANSFER_CALL", then=move)
    assert g.events() == STEPS[1:2]
    assert g.get("rax") == 43


@pytest.mark.parametrize("action", ["CONTINUE", "SKIP_INST", "SKIP_PATCH", "BREAK_TO_VM"])
def test_rip_written_at_a_return_counts(transfer: Make, action: str) -> None:
    g = transfer()

    def move(gpr: Any) -> None:
        gpr.rip = g["alternative"]

    g.watch("EXEC_TRANSFER_RETURN", actions=(action,), then=move)
    g.watch("BASIC_BLOCK_ENTRY")
    assert g.events() == ["21 start-back start", STEPS[2], "21 alternative-deep alternative"]
    assert g.get("rax") == 542


def test_rip_written_at_a_return_with_stop_stays(transfer: Make) -> None:
    g = transfer()

    def move(gpr: Any) -> None:
        gpr.rip = g["alternative"]

    g.watch("EXEC_TRANSFER_RETURN", actions=("STOP",), then=move)
    assert g.events() == STEPS[2:]
    assert g.get("rip") == g["alternative"]
    assert g.get("rax") == 42


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


def test_exception(transfer: Make, qbdi: Any) -> None:
    g = transfer()

    def fail(gpr: Any) -> None:
        raise KeyError("mine")

    g.watch("EXEC_TRANSFER_RETURN", then=fail)
    if wrong(qbdi, "an exception in a callback ends the process"):
        assert fate(g.run) == "exit 1"
    else:
        with pytest.raises(KeyError, match="mine"):
            g.run()
        assert g.get("rax") == 42
        assert g.get("rip") == g["back"]


def test_deleted_callback(transfer: Make) -> None:
    g = transfer()
    g.vm.deleteInstrumentation(g.watch())
    assert g.events() == []
    assert g.get("rax") == 43
