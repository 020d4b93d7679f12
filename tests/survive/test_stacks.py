"""Virtual stacks end in a guard, so that recursion without end is a fault of the guest's."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

import pydbi
from tests.compat.harness import Guest, fate, wrong
from tests.exec.resident import resident_size


@pytest.mark.parametrize("size", [4096, 10_000, 1 << 16, 1 << 20])
@pytest.mark.parametrize("frame", [0, 200, 5000, 60_000])
def test_exhaustion(size: int, frame: int) -> None:
    """Endless recursion is a GuestFault that says so; nothing below the stack is touched."""
    g = Guest(pydbi, f"f: sub rsp, {frame}; push rbx; call f")
    gpr = g.vm.getGPRState()
    base = pydbi.allocateVirtualStack(gpr, size)
    assert base
    assert gpr.rsp == gpr.rbp == base + size
    ctypes.memset(base, 0x55, size)  # all of it can be written
    for _ in range(2):
        g.set(rsp=base + size)
        with pytest.raises(pydbi.GuestFault, match="stack") as caught:
            g.run()
        fault = caught.value
        assert fault.signal == 11
        assert base - frame - 4096 <= fault.fault_address < base
        assert g.get("rip") == fault.app_address
        assert g.get("rsp") >= base - frame - 8
    pydbi.alignedFree(base)


def test_exhaustion_beside_pyqbdi(qbdi: Any) -> None:
    """In PyQBDI recursion without end takes the process along."""

    def run() -> None:
        g = Guest(qbdi, "f: push rbx; call f")
        gpr = g.vm.getGPRState()
        assert qbdi.allocateVirtualStack(gpr, 1 << 16)
        g.vm.setGPRState(gpr)
        g.run()

    how = fate(run, timeout=10)
    if wrong(qbdi, "there is no guard: it depends on what lies below"):
        assert how != "lives"
    else:
        assert how == "raises GuestFault"


def test_stacks_are_given_back() -> None:
    """alignedFree unmaps a stack with its guard: ten thousand of them leave nothing."""
    gpr = pydbi.GPRState()
    for _ in range(100):
        pydbi.alignedFree(pydbi.allocateVirtualStack(gpr, 1 << 20) or 0)
    before = resident_size()
    for _ in range(2_000):
        base = pydbi.allocateVirtualStack(gpr, 1 << 16)
        assert base
        ctypes.memset(base, 1, 1 << 16)
        pydbi.alignedFree(base)
    assert resident_size() - before < 4 << 20
