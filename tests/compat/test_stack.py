"""simulateCall, and virtual stacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import Guest, fate, wrong

Make = Callable[..., Guest]


def with_stack(qbdi: Any, size: int = 4096) -> tuple[Any, int]:
    """A state with a stack that is filled with 0xAA, and the address of its end."""
    state = qbdi.GPRState()
    base = qbdi.allocateVirtualStack(state, size)
    qbdi.writeMemory(base, b"\xaa" * size)
    return state, base + size


def words(qbdi: Any, address: int, count: int) -> list[int]:
    return [qbdi.readRword(address + 8 * n) for n in range(count)]


EMPTY = 0xAAAA_AAAA_AAAA_AAAA


def test_simulated_call(qbdi: Any) -> None:
    """rsp is lowered by 0x88 and points to the return address; everything else stays."""
    state, top = with_stack(qbdi)
    state.rdi, state.rax = 7, 8
    assert qbdi.simulateCall(state, 0x1234) is None
    assert state.rsp == top - 0x88
    assert words(qbdi, state.rsp, 17) == [0x1234] + [EMPTY] * 16
    assert (state.rbp, state.rdi, state.rax, state.rip) == (top, 7, 8, 0)


def test_simulated_call_with_arguments(qbdi: Any) -> None:
    """Six arguments are in registers, the others from rsp + 8 on."""
    state, top = with_stack(qbdi)
    qbdi.simulateCall(state, 0x99, list(range(1, 10)))
    registers = (state.rdi, state.rsi, state.rdx, state.rcx, state.r8, state.r9)
    assert registers == (1, 2, 3, 4, 5, 6)
    assert state.rsp == top - 0x88
    assert words(qbdi, state.rsp, 6) == [0x99, 7, 8, 9, EMPTY, EMPTY]


def test_simulated_calls_nest(qbdi: Any) -> None:
    """A second one lies below the first."""
    state, top = with_stack(qbdi)
    qbdi.simulateCall(state, 1)
    qbdi.simulateCall(state, 2)
    assert state.rsp == top - 2 * 0x88
    assert words(qbdi, state.rsp, 1) + words(qbdi, state.rsp + 0x88, 1) == [2, 1]


def test_simulated_call_by_name(qbdi: Any) -> None:
    """The parameters are ctx, returnAddress and args; a tuple will do."""
    state, top = with_stack(qbdi)
    qbdi.simulateCall(ctx=state, returnAddress=3, args=(1, 2))
    assert (state.rdi, state.rsi, state.rsp) == (1, 2, top - 0x88)


@pytest.mark.parametrize(
    "arguments", [(-1,), (1 << 64,), ("x",), (1, [-1]), (1, [1 << 64]), (1, None), (1, [1.5]), ()]
)
def test_wrong_simulated_calls(qbdi: Any, arguments: Any) -> None:
    """Values that are no unsigned 64-bit integers raise TypeError, and rsp stays."""
    state, top = with_stack(qbdi)
    with pytest.raises(TypeError):
        qbdi.simulateCall(state, *arguments)
    assert state.rsp == top


def test_simulated_call_without_a_stack(qbdi: Any) -> None:
    """Without a stack there is nowhere to put the return address."""
    if wrong(qbdi, "a bad stack kills the process"):
        assert fate(qbdi.simulateCall, qbdi.GPRState(), 1) == "SIGSEGV"
    else:
        with pytest.raises((OSError, TypeError)):
            qbdi.simulateCall(qbdi.GPRState(), 1)


def test_run_after_simulated_call(guest: Make) -> None:
    """A function started so returns to the address that was given."""
    g = guest("function: lea rax, [rdi + rsi*2]; ret; there: nop")
    state = g.vm.getGPRState()
    g.qbdi.simulateCall(state, g["there"], [5, 6])
    assert g.run("function", "there") is True
    assert g.get("rax") == 17
    assert g.get("rsp") == g.stack_top - 0x80


# Virtual stacks.


@pytest.mark.parametrize("size", [0, 100, 4096, 1 << 20])
def test_virtual_stack(qbdi: Any, size: int) -> None:
    """rsp and rbp are at the end of the new memory, whose address is returned."""
    state = qbdi.GPRState()
    base = qbdi.allocateVirtualStack(state, size)
    assert type(base) is int
    assert base % 16 == 0
    assert (state.rsp, state.rbp) == (base + size, base + size)
    assert state.rax == state.rip == 0
    qbdi.writeMemory(base, b"x" * size)
    qbdi.alignedFree(base)


@pytest.mark.parametrize("size", [-1, 1 << 64, 1.5, "x", None])
def test_what_is_no_size_of_a_stack(qbdi: Any, size: object) -> None:
    """A size is an unsigned integer; else TypeError, and the registers stay."""
    state = qbdi.GPRState()
    with pytest.raises(TypeError):
        qbdi.allocateVirtualStack(state, size)
    assert state.rsp == 0


@pytest.mark.parametrize("function", ["allocateVirtualStack", "simulateCall"])
@pytest.mark.parametrize("state", [None, 5])
def test_stack_of_no_state(qbdi: Any, function: str, state: object) -> None:
    """Only a GPRState has a stack."""
    if state is None and wrong(qbdi, "None kills the process"):
        assert fate(getattr(qbdi, function), None, 100) == "SIGSEGV"
    else:
        with pytest.raises(TypeError):
            getattr(qbdi, function)(state, 100)
