"""The `timeout` of run and call, and interruptions after a fork."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

import pydbi
from tests.compat.harness import BASE, Guest, fate
from tests.survive.test_interrupts import (
    COUNTED,
    PROMPT,
    endless,
    finish,
    press_ctrl_c,
    stopped_when_under_way,
)

_MILLION = 1_000_000


def test_timeouts_of_run(qbdi: Any) -> None:
    """`timeout` ends an endless loop in time; PyQBDI has no such thing."""
    if qbdi is not pydbi:
        vm = endless(qbdi).vm
        assert fate(lambda: vm.run(1, 2, timeout=1.0), timeout=10) == "raises TypeError"
        return
    g = endless(pydbi)
    start = g["start"]
    for timeout in (0.0, 0.001, 0.02, 0.1):
        begin = time.monotonic()
        with pytest.raises(pydbi.GuestTimeout) as caught:
            g.vm.run(start, g["end"], timeout=timeout)
        taken = time.monotonic() - begin
        assert timeout <= taken < timeout + PROMPT
        error = caught.value
        assert isinstance(error, TimeoutError)
        assert error.timeout == timeout
        start = g.get("rip")
        assert error.app_address == start
        assert f"{start:#x}" in str(error)
    finish(g)
    g.set(rcx=5)
    assert g.vm.run(g["start"], g["end"], timeout=60)  # in time: nothing is raised
    g.set(rcx=40 * _MILLION)
    assert g.run()  # and the limit is gone


def test_timeouts_of_call() -> None:
    """`call` with a timeout is cut off in the function, and goes on by `run` to its return."""
    g = Guest(pydbi, "f: xor eax, eax; mov rcx, rdi; a: add rax, rcx; dec rcx; jnz a; ret")
    assert g.vm.call(g["f"], [10], timeout=5) == (True, 55)
    rsp = g.get("rsp")
    for _ in range(3):
        with pytest.raises(pydbi.GuestTimeout):
            g.vm.call(g["f"], [1 << 62], timeout=0.02)
        assert g.get("rsp") == rsp - 0x88  # it is in the function still
        g.set(rcx=1, rax=70)
        assert g.vm.run(g["a"], 42)  # what call lets functions return to
        assert g.get("rax") == 71
        g.set(rsp=rsp)
    assert g.vm.call(g["f"], [100]) == (True, 5050)


def test_timeout_of_a_stack_that_is_none() -> None:
    """A timeout beside what else may end a run: it ends with what came first, and is gone."""
    g = endless(pydbi)
    assert g.vm.run(1, 2, timeout=1) is False
    with pytest.raises(TypeError):
        g.vm.run("start", 2, timeout=1)
    g.set(rip=0)
    with pytest.raises(pydbi.GuestFault):
        Guest(pydbi, "ud2", at=BASE - (1 << 32)).vm.run(BASE - (1 << 32), 5, timeout=1)
    with pytest.raises(pydbi.GuestTimeout):
        g.vm.run(g["start"], g["end"], timeout=0.01)
    finish(g)


def test_after_fork() -> None:
    """In a forked child timeouts, stops and Ctrl-C work as in the parent."""
    g = endless(pydbi, COUNTED)
    with pytest.raises(pydbi.GuestTimeout):
        g.vm.run(g["start"], g["end"], timeout=0.01)

    def use() -> None:
        with pytest.raises(pydbi.GuestTimeout):
            g.vm.run(g.get("rip"), g["end"], timeout=0.01)
        with stopped_when_under_way(g):
            assert g.vm.run(g.get("rip"), g["end"]) is True
        press_ctrl_c(g, g.get("rip"))
        finish(g)

    for _ in range(2):
        assert fate(use, timeout=10) == "lives"
    use()


def test_fork_in_a_callback() -> None:
    """A callback forks: both processes go on in the guest, and timeouts work in both."""
    g = endless(pydbi)
    children: list[int] = []

    def divide(vm: Any, gpr: Any, fpr: Any, data: object) -> pydbi.VMAction:
        vm.deleteAllInstrumentations()
        children.append(os.fork())
        return pydbi.BREAK_TO_VM

    g.vm.addCodeAddrCB(g["a"], pydbi.PREINST, divide, None)
    passed = False
    try:
        while not children:  # the limit may be over before the guest has begun
            with pytest.raises(pydbi.GuestTimeout):
                g.vm.run(g["start"], g["end"], timeout=0.05)
        if not children[0]:  # the child has no timer of its own yet: its next limit counts
            passed = True
    finally:
        if children == [0]:
            os._exit(0 if passed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    finish(g)
