"""GPRState as an object: fields, indices, roles, copies, text."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.in_parent


_REGISTERS = """
    rax rbx rcx rdx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rbp rsp rip eflags fs gs"""
REGISTERS = _REGISTERS.split()
LARGEST = (1 << 64) - 1
COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda state: pickle.loads(pickle.dumps(state)),
}


class Indexable:
    """What can be used as an integer."""

    def __index__(self) -> int:
        return 9


def test_general_registers(qbdi: Any) -> None:
    """Each register is 0 at first, holds unsigned 64 bits, and is independent of the others."""
    for name in REGISTERS:
        state = qbdi.GPRState()
        assert getattr(state, name) == 0
        for value in (1, LARGEST, 0x1122334455667788):
            setattr(state, name, value)
            assert getattr(state, name) == value
        assert [other for other in REGISTERS if getattr(state, other)] == [name]


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.0, "1", None, b"1"])
def test_values_that_are_no_words(qbdi: Any, value: object) -> None:
    """Anything but an unsigned 64-bit integer raises TypeError, without effect."""
    state = qbdi.GPRState()
    for name in REGISTERS:
        with pytest.raises(TypeError):
            setattr(state, name, value)
    assert {getattr(state, name) for name in REGISTERS} == {0}


def test_values_that_are_words(qbdi: Any) -> None:
    """Booleans, enumerations and objects with __index__ are integers."""
    state = qbdi.GPRState()
    state.rax, state.rbx, state.rcx = True, qbdi.STOP, Indexable()
    assert (state.rax, state.rbx, state.rcx) == (1, 4, 9)
    assert {type(state[n]) for n in range(3)} == {int}


def test_register_by_index(qbdi: Any) -> None:
    """Registers are counted in the order of the fields, eflags, fs and gs as 17, 18 and 19."""
    state = qbdi.GPRState()
    for index, name in enumerate(REGISTERS):
        state[index] = 7 + index
        assert getattr(state, name) == 7 + index
        setattr(state, name, 100 + index)
        assert state[index] == 100 + index


@pytest.mark.parametrize("index", [20, 21, 1000, 1 << 31])
def test_indices_beyond_the_registers(qbdi: Any, index: int) -> None:
    """There are no other registers."""
    state = qbdi.GPRState()
    with pytest.raises(IndexError):
        state[index]
    with pytest.raises(IndexError):
        state[index] = 1


@pytest.mark.parametrize("index", [-1, -20, "rax", 1.0, None, slice(0, 2)])
def test_what_is_no_index(qbdi: Any, index: Any) -> None:
    """An index is an unsigned integer; else TypeError."""
    state = qbdi.GPRState()
    with pytest.raises(TypeError):
        state[index]
    with pytest.raises(TypeError):
        state[index] = 1


def test_index_with_a_constant(qbdi: Any) -> None:
    """The REG_ constants are indices."""
    state = qbdi.GPRState()
    state.rax, state.rbp, state.rsp, state.rip, state.eflags = 1, 2, 3, 4, 5
    names = ("REG_RETURN", "REG_BP", "REG_SP", "REG_PC", "REG_FLAG")
    assert [state[getattr(qbdi, name)] for name in names] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("alias", "name"),
    [("REG_RETURN", "rax"), ("REG_BP", "rbp"), ("REG_SP", "rsp"), ("REG_PC", "rip"),
     ("REG_FLAG", "eflags"), ("AVAILABLE_GPR", "rbp"), ("NUM_GPR", "eflags")],
)  # fmt: skip
def test_register_by_its_role(qbdi: Any, alias: str, name: str) -> None:
    """A state's REG_ attributes are the registers themselves."""
    state = qbdi.GPRState()
    setattr(state, name, 7)
    assert getattr(state, alias) == 7
    setattr(state, alias, 8)
    assert getattr(state, name) == 8


def test_link_register(qbdi: Any) -> None:
    """There is none on this processor."""
    state = qbdi.GPRState()
    assert state.REG_LR is None
    with pytest.raises(AttributeError):
        state.REG_LR = 1


@pytest.mark.parametrize("name", ["eax", "rex", "xmm0"])
def test_no_other_registers(qbdi: Any, name: str) -> None:
    """Other names can be neither read nor set."""
    state = qbdi.GPRState()
    with pytest.raises(AttributeError):
        getattr(state, name)
    with pytest.raises(AttributeError):
        setattr(state, name, 1)


def test_registers_are_not_deleted(qbdi: Any) -> None:
    """A register is there for good."""
    with pytest.raises((AttributeError, TypeError)):
        del qbdi.GPRState().rax


def test_iteration_over_registers(qbdi: Any) -> None:
    """A state iterates over its 20 registers, and has no length."""
    state = qbdi.GPRState()
    for n in range(20):
        state[n] = n * n
    assert list(state) == [n * n for n in range(20)]
    with pytest.raises(TypeError):
        len(state)


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_general_registers(qbdi: Any, how: str) -> None:
    """A copy has the same values and stands alone."""
    state = qbdi.GPRState()
    for n in range(20):
        state[n] = 1000 + n
    other = COPIES[how](state)
    assert type(other) is qbdi.GPRState
    assert [other[n] for n in range(20)] == [1000 + n for n in range(20)]
    other.rax = 1
    assert state.rax == 1000


def test_text_of_general_registers(qbdi: Any) -> None:
    """str shows each register with 16 hexadecimal digits."""
    state = qbdi.GPRState()
    for n in range(20):
        state[n] = n
    lines = [f"{name:7}: 0x{n:016x}" for n, name in enumerate(REGISTERS)]
    expected = ["=== GPRState begin ===", *lines, "=== GPRState end ===", ""]
    assert str(state) == "\n".join(expected)
