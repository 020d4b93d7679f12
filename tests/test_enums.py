"""PyQBDI's enumerations, and what the module shows of them."""

from __future__ import annotations

import copy
import inspect
import operator
import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

import pydbi

pyqbdi = pytest.importorskip("pyqbdi")

FLAGS = [
    "VMEvent",
    "Options",
    "MemoryAccessType",
    "MemoryAccessFlags",
    "AnalysisType",
    "OperandFlag",
    "RegisterAccessType",
    "Permission",
]
PLAIN = [
    "VMAction",
    "InstPosition",
    "CallbackPriority",
    "ConditionType",
    "OperandType",
    "LogPriority",
    "VMError",
]


@pytest.mark.parametrize("name", FLAGS + PLAIN)
def test_members_are_those_of_pyqbdi(name: str) -> None:
    """Names, values and both texts of each member are PyQBDI's."""
    ours, theirs = getattr(pydbi, name), getattr(pyqbdi, name)
    assert list(ours.__members__) == list(theirs.__members__)
    for member, expected in theirs.__members__.items():
        value = getattr(ours, member)
        assert int(value) == value.value == int(expected)
        assert (str(value), repr(value), value.name) == (str(expected), repr(expected), member)
        assert f"{value}" == str(expected)
        assert hash(value) == hash(expected)


def test_module_exports_what_pyqbdi_exports() -> None:
    """Every public name of PyQBDI exists, and constants have its values."""
    for name in dir(pyqbdi):
        if not name.startswith("_"):
            value = getattr(pydbi, name)
            assert callable(value) or repr(value) == repr(getattr(pyqbdi, name))
    assert set(pydbi.__all__) <= set(dir(pydbi))


@pytest.mark.parametrize("name", FLAGS + PLAIN)
def test_any_32_bits_are_a_value(name: str) -> None:
    """Values without a name are made as in PyQBDI, and print as there."""
    ours, theirs = getattr(pydbi, name), getattr(pyqbdi, name)
    for number in (*range(300), 1 << 24, 3 << 24, 1 << 31, (1 << 32) - 1):
        value, expected = ours(number), theirs(number)
        assert (repr(value), str(value), value.name) == (
            repr(expected), str(expected), expected.name
        )  # fmt: skip
        assert (value.value, hash(value), type(value)) == (number, number, ours)
        assert pickle.loads(pickle.dumps(value)) == value


OPERATIONS: list[Callable[..., Any]] = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    divmod, pow, operator.lshift, operator.rshift, operator.and_, operator.or_, operator.xor,
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne,
]  # fmt: skip
UNARY: list[Callable[..., Any]] = [
    operator.neg, operator.pos, operator.invert, abs, round, int, float, hash, bin, str, len, iter,
]  # fmt: skip


def outcome(operation: Callable[..., Any], *values: Any) -> tuple[str, str]:
    """The type's name and the text of a result, or the exception's name."""
    try:
        result = operation(*values)
    except (TypeError, ZeroDivisionError) as error:
        return type(error).__name__, ""
    return type(result).__name__, repr(result)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.__name__)
def test_operations_are_those_of_pyqbdi(operation: Callable[..., Any]) -> None:
    """Values combine and compare with each other and with integers exactly where PyQBDI's do."""
    results = []
    for module in (pydbi, pyqbdi):
        values = [5, True, module.VMEvent(5), module.VMEvent(12), module.Options(3)]
        values += [module.STOP, module.CONTINUE, module.POSTINST]
        results.append([outcome(operation, a, b) for a in values[2:] for b in values])
        results[-1] += [outcome(operation, 5, b) for b in values[2:]]
    assert results[0] == results[1]


@pytest.mark.parametrize("operation", UNARY, ids=lambda o: o.__name__)
def test_functions_take_what_pyqbdi_has(operation: Callable[..., Any]) -> None:
    """Functions of one value give what they give with PyQBDI's values, or a TypeError as there."""
    results = []
    for module in (pydbi, pyqbdi):
        values = [module.VMEvent(5), module.VMEvent(0), module.STOP, module.CONTINUE]
        results.append([outcome(operation, value) for value in values])
    assert results[0] == results[1]


def test_plain_values_are_true() -> None:
    """A named value is true, also the one whose integer is 0."""
    assert pydbi.CONTINUE
    assert pydbi.PREINST
    assert pyqbdi.CONTINUE


def test_help_tells_the_members() -> None:
    """The class's documentation lists all members, and each has its own."""
    for name in FLAGS + PLAIN:
        kind = getattr(pydbi, name)
        for member in kind:
            assert len(member.__doc__) > 4
            assert f"  {member.name} : {member.__doc__}" in inspect.getdoc(kind)


def test_signatures_have_types() -> None:
    """Every parameter and result of every public function and constructor has a type."""
    for name in pydbi.__all__:
        value = getattr(pydbi, name)
        if inspect.isfunction(value):
            assert len(value.__doc__) > 20, name
            signature = inspect.signature(value)
            assert signature.return_annotation is not inspect.Signature.empty, name
            for parameter in signature.parameters.values():
                assert parameter.annotation is not inspect.Parameter.empty, name
        elif inspect.isclass(value):
            assert len(value.__doc__) > 20, name


def test_empty_flag_is_false() -> None:
    """No flag is false (in PyQBDI it is true)."""
    assert not pydbi.VMEvent(0)
    assert not pydbi.BASIC_BLOCK_ENTRY & pydbi.BASIC_BLOCK_EXIT
    assert pydbi.BASIC_BLOCK_ENTRY


def test_flags_and_integers() -> None:
    """With an integer, or a flag of another kind, the result is an integer, as in PyQBDI."""
    both: list[Any] = [pydbi, pyqbdi]
    for module in both:
        for value in (
            module.BASIC_BLOCK_ENTRY | 1,
            1 | module.BASIC_BLOCK_ENTRY,
            module.VMEvent(1) | module.Options(4),
        ):
            assert (type(value), value) == (int, 5)
        assert module.BASIC_BLOCK_ENTRY == 4
        assert module.BASIC_BLOCK_ENTRY < 5


@pytest.mark.parametrize("value", [-1, "x", "1", None, 1.0, 1 << 32, b"a"])
@pytest.mark.parametrize("name", ["VMEvent", "VMAction"])
def test_what_is_no_value_is_refused(name: str, value: object) -> None:
    """A value is made from an unsigned 32-bit integer only."""
    for module in (pydbi, pyqbdi):
        with pytest.raises(TypeError):
            getattr(module, name)(value)


class Convertible:
    """Something that has an integer in it."""

    def __int__(self) -> int:
        return 5


@pytest.mark.parametrize(
    "value", [5, pydbi.VMEvent(5), pyqbdi.VMEvent(5), Decimal(5), Convertible()]
)
def test_what_converts_to_an_integer_is_one(value: Any) -> None:
    """Wherever an integer is due, whatever converts to one will do, but no float."""
    for module in (pydbi, pyqbdi):
        assert module.VMEvent(value).value == 5
        assert tuple(module.Range(value, 9)) == (5, 9)
        state = module.GPRState()
        state.rax = state[3] = value
        assert (state.rax, state.rdx) == (5, 5)
        assert type(state.rax) is type(module.Range(value, 9).start) is int


@pytest.mark.parametrize("value", [pydbi.STOP, pydbi.VMEvent(5), pydbi.VMEvent(0)])
def test_values_survive_copying(value: object) -> None:
    """A copied or pickled value is the very same object."""
    assert pickle.loads(pickle.dumps(value)) is value
    assert copy.deepcopy(value) is value
