"""VM.call: arguments, results, the stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import Guest, either, wrong

Make = Callable[..., Guest]

FUNCTIONS = """
    digits: mov rax, rdi
    .irp register, rsi, rdx, rcx, r8, r9
        imul rax, rax, 10
        add rax, \\register
    .endr
    ret
    stacked: mov rax, [rsp + 8]; imul rax, rax, 10; add rax, [rsp + 16]; ret
    back: mov rax, [rsp]; ret
    stack: mov rax, rsp; ret
    frame: mov rax, rbp; ret
    minus: mov rax, -1; ret
    callee: inc rbx; ret
    caller: push rbx; xor ebx, ebx; call callee; call callee; mov rax, rbx; pop rbx; ret
    factorial: mov eax, 1
        again: imul rax, rdi; dec rdi; jnz again
        ret
    recursive: cmp rdi, 1; ja more; mov eax, 1; ret
        more: push rdi; dec rdi; call recursive; pop rdi; imul rax, rdi; ret"""
WORD = (1 << 64) - 1


@pytest.fixture
def call(guest: Make) -> Callable[..., Any]:
    """``call(name, *arguments)`` in a guest that has FUNCTIONS; ``call("guest")`` is the guest."""
    made: list[Guest] = []

    def function(name: str, *arguments: int) -> Any:
        if not made:
            made.append(guest(FUNCTIONS))
        if name == "guest":
            return made[0]
        return made[0].vm.call(made[0][name], arguments)

    return function


@pytest.mark.parametrize("count", range(7))
def test_arguments_in_registers(call: Callable[..., Any], count: int) -> None:
    """The first six arguments are in rdi, rsi, rdx, rcx, r8 and r9."""
    call("guest").set(rdi=0, rsi=0, rdx=0, rcx=0, r8=0, r9=0)
    values = range(1, count + 1)
    assert call("digits", *values) == (True, sum(n * 10 ** (6 - n) for n in values))


def test_missing_arguments_keep_registers(call: Callable[..., Any]) -> None:
    """A register without an argument keeps its value."""
    call("guest").set(rcx=4, r8=5, r9=6)
    assert call("digits", 1, 2, 3) == (True, 123456)


def test_arguments_on_the_stack(call: Callable[..., Any]) -> None:
    """The seventh argument and further ones are above the return address."""
    assert call("stacked", 0, 0, 0, 0, 0, 0, 7, 8) == (True, 78)


def test_result_is_unsigned(call: Callable[..., Any]) -> None:
    """The result is rax as an unsigned integer."""
    assert call("minus") == (True, WORD)


@pytest.mark.parametrize("kind", [list, tuple, range])
def test_arguments_are_a_sequence(guest: Make, kind: Any) -> None:
    """Lists, tuples and ranges will do."""
    g = guest(FUNCTIONS)
    arguments = range(1, 7) if kind is range else kind(range(1, 7))
    assert g.vm.call(g["digits"], arguments) == (True, 123456)


@pytest.mark.parametrize(
    "arguments", [None, 5, "ab", b"ab", {1: 2}, iter([1]), [1.5], ["1"], [None], [1 << 64], [-1]]
)
def test_what_are_no_arguments(guest: Make, arguments: Any) -> None:
    """Anything but a sequence of unsigned 64-bit integers raises TypeError."""
    g = guest(FUNCTIONS)
    with pytest.raises(TypeError):
        g.vm.call(g["minus"], arguments)
    assert g.vm.call(g["minus"], []) == (True, WORD)


def test_call_by_name(guest: Make) -> None:
    """The parameters are function and args, and both are due."""
    g = guest(FUNCTIONS)
    assert g.vm.call(function=g["minus"], args=[]) == (True, WORD)
    with pytest.raises(TypeError):
        g.vm.call(g["minus"])


@pytest.mark.parametrize("address", [-1, 1 << 64, 1.5, None, "x"])
def test_call_of_no_address(guest: Make, address: Any) -> None:
    """The function is an unsigned 64-bit integer; else TypeError."""
    with pytest.raises(TypeError):
        guest(FUNCTIONS).vm.call(address, [])


def test_return_address_is_42(call: Callable[..., Any]) -> None:
    """Functions return to 42, and rip is there afterwards."""
    assert call("back") == (True, 42)
    assert call("guest").get("rip") == 42


@pytest.mark.parametrize("count", [0, 1, 6, 7, 22])
def test_call_lowers_the_stack(guest: Make, count: int) -> None:
    """The function starts 0x88 bytes below rsp, however many arguments fit in there."""
    g = guest(FUNCTIONS)
    assert g.vm.call(g["stack"], [0] * count) == (True, g.stack_top - 0x88)


def test_call_does_not_align_the_stack(guest: Make) -> None:
    """An odd rsp is taken as it is."""
    g = guest(FUNCTIONS)
    g.set(rsp=g.stack_top - 3)
    assert g.vm.call(g["stack"], []) == (True, g.stack_top - 3 - 0x88)


def test_stack_pointer_after_a_call(guest: Make, qbdi: Any) -> None:
    """rsp is what it was before the call."""
    g = guest(FUNCTIONS)
    g.vm.call(g["minus"], [])
    lost = either(qbdi, pyqbdi=0x80, right=0, reason="the frame stays on the stack")
    assert g.stack_top - g.get("rsp") == lost


def test_frame_pointer_is_untouched(call: Callable[..., Any]) -> None:
    """call leaves rbp alone."""
    call("guest").set(rbp=12345)
    assert call("frame") == (True, 12345)


def test_call_without_a_stack(guest: Make, qbdi: Any) -> None:
    """With rsp = 0 nothing is executed, and the result is False."""
    g = guest(FUNCTIONS)
    g.set(rsp=0, rax=5)
    done, value = g.vm.call(g["minus"], [])
    assert done is False
    if not wrong(qbdi, "the value is what happened to be in memory"):
        assert value == 0
    assert g.get("rax") == 5


def test_call_outside_the_ranges(guest: Make) -> None:
    """A function that is not instrumented is not executed."""
    g = guest(FUNCTIONS)
    g.set(rax=5)
    assert g.vm.call(g["end"], [])[0] is False
    assert g.vm.call(0x1234, [])[0] is False
    assert g.get("rax") == 5


def test_nested_functions(call: Callable[..., Any]) -> None:
    """Calls within the guest come back."""
    assert call("caller") == (True, 2)


@pytest.mark.parametrize("name", ["factorial", "recursive"])
def test_loops_and_recursion(call: Callable[..., Any], name: str) -> None:
    """20! by a loop and by recursion."""
    assert call(name, 20) == (True, 2432902008176640000)


def test_calls_one_after_the_other(call: Callable[..., Any]) -> None:
    """State stays between calls."""
    call("guest").set(rbx=10)
    for expected in (11, 12, 13):
        assert call("callee")[0] is True
        assert call("guest").get("rbx") == expected


def test_many_arguments(guest: Make, qbdi: Any) -> None:
    """Any number of arguments arrives."""
    g = guest("mov rax, [rsp + rdi*8]; ret")
    values = [100 + n for n in range(30)]
    for position in (1, 15, 16, 24):
        g.set(rsp=g.stack_top)
        found = g.vm.call(g.base, [position, *values[1:]])[1]
        right = values[position + 5]
        if position == 16 and wrong(qbdi, "of more than 21 arguments the rest is dropped"):
            assert found != right
        elif position < 16 or not wrong(qbdi, "the rest is dropped"):
            assert found == right
