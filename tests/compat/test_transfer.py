"""Events of control passing from instrumented code to code that is not, and back."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import pytest

from tests.compat.harness import fate, wrong
from tests.compat.transfer_guest import STEPS, Make


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
