"""The states that a VM gives and takes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.compat.harness import wrong


def test_states_are_compared_by_identity(qbdi: Any) -> None:
    """A state equals itself only and is hashable."""
    for kind in (qbdi.GPRState, qbdi.FPRState):
        state = kind()
        assert state == state
        assert state != kind()
        assert state != copy.copy(state)
        assert {state: 1}[state] == 1


@pytest.mark.parametrize("kind", ["GPRState", "FPRState"])
def test_states_are_made_empty(qbdi: Any, kind: str) -> None:
    """The constructors take nothing."""
    for value in (5, getattr(qbdi, kind)()):
        with pytest.raises(TypeError):
            getattr(qbdi, kind)(value)


def test_vm_gives_its_own_states(qbdi: Any) -> None:
    """getGPRState and getFPRState return the VM's states: the same objects each time."""
    vm = qbdi.VM()
    assert vm.getGPRState() is vm.getGPRState()
    assert vm.getFPRState() is vm.getFPRState()
    vm.getGPRState().r15 = 5
    vm.getFPRState().xmm15 = b"0123456789abcdef"
    assert (vm.getGPRState().r15, vm.getFPRState().xmm15) == (5, b"0123456789abcdef")


def test_setting_general_registers_copies(qbdi: Any) -> None:
    """setGPRState copies; a state taken from the VM before shows the new values."""
    vm = qbdi.VM()
    own, given = vm.getGPRState(), qbdi.GPRState()
    for n in range(20):
        given[n] = 50 + n
    assert vm.setGPRState(gprState=given) is None
    assert [own[n] for n in range(20)] == [50 + n for n in range(20)]
    given.rax = 1
    assert own.rax == 50


def test_setting_floating_point_registers_copies(qbdi: Any) -> None:
    """setFPRState copies; a state taken from the VM before shows the new values."""
    vm = qbdi.VM()
    own, given = vm.getFPRState(), qbdi.FPRState()
    given.xmm3, given.ymm3, given.mxcsr = b"x" * 16, b"y" * 16, 0x1F80
    assert vm.setFPRState(fprState=given) is None
    assert (own.xmm3, own.ymm3, own.mxcsr, own.rfcw) == (b"x" * 16, b"y" * 16, 0x1F80, 0)
    given.xmm3 = b"z" * 16
    assert own.xmm3 == b"x" * 16


def test_setting_the_vms_own_state(qbdi: Any) -> None:
    """A VM can be given its own state."""
    vm = qbdi.VM()
    vm.getGPRState().rax = 5
    vm.setGPRState(vm.getGPRState())
    vm.setFPRState(vm.getFPRState())
    assert vm.getGPRState().rax == 5


@pytest.mark.parametrize("method", ["setGPRState", "setFPRState"])
def test_wrong_states(qbdi: Any, method: str) -> None:
    """Only a state of the right kind can be set; else TypeError."""
    vm = qbdi.VM()
    other = qbdi.FPRState() if method == "setGPRState" else qbdi.GPRState()
    for value in (5, other, "x"):
        with pytest.raises(TypeError):
            getattr(vm, method)(value)


@pytest.mark.parametrize("method", ["setGPRState", "setFPRState"])
def test_none_as_a_state(qbdi: Any, method: str) -> None:
    """None is no state."""
    if wrong(qbdi, "it is ignored, with a line on stderr"):
        assert getattr(qbdi.VM(), method)(None) is None
    else:
        with pytest.raises(TypeError):
            getattr(qbdi.VM(), method)(None)
