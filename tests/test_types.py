"""PyQBDI's enumerations and records."""

from __future__ import annotations

import copy
import pickle
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


@pytest.mark.parametrize("name", ["VMEvent", "Options", "AnalysisType", "OperandFlag"])
def test_combinations_are_those_of_pyqbdi(name: str) -> None:
    """Combined flags have PyQBDI's values and texts, and stay flags."""
    ours, theirs = getattr(pydbi, name), getattr(pyqbdi, name)
    for a in range(0, 128, 3):
        assert repr(ours(a)) == repr(theirs(a))
        assert repr(~ours(a)) == repr(~theirs(a))
        for b in range(0, 128, 7):
            assert repr(ours(a) | ours(b)) == repr(theirs(a) | theirs(b))
            assert repr(ours(a) & ours(b)) == repr(theirs(a) & theirs(b))
            assert repr(ours(a) ^ ours(b)) == repr(theirs(a) ^ theirs(b))


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


@pytest.mark.parametrize("value", [-1, "x", None])
def test_what_is_no_set_of_flags_is_refused(value: object) -> None:
    """A flag is made from a non-negative integer only."""
    with pytest.raises(TypeError):
        pydbi.VMEvent(value)


@pytest.mark.parametrize("value", [pydbi.STOP, pydbi.VMEvent(5), pydbi.VMEvent(0)])
def test_values_survive_copying(value: object) -> None:
    """A copied or pickled value is the very same object."""
    assert pickle.loads(pickle.dumps(value)) is value
    assert copy.deepcopy(value) is value


RANGES = [(10, 20), (15, 30), (20, 30), (0, 10), (12, 13), (15, 15), (10, 10), (20, 10)]


@pytest.mark.parametrize("first", RANGES)
@pytest.mark.parametrize("second", RANGES)
def test_ranges_are_those_of_pyqbdi(first: tuple[int, int], second: tuple[int, int]) -> None:
    """Containing, overlapping, intersecting and comparing give what they give in PyQBDI."""
    results = []
    for module in (pydbi, pyqbdi):
        a, b = module.Range(*first), module.Range(*second)
        results.append(
            (
                str(a),
                repr(a),
                a.size(),
                tuple(a),
                a[1],
                b in a,
                a.contains(b),
                a.overlaps(b),
                repr(a.intersect(b)),
                a == b,
                a != b,
                [address in a for address in range(9, 32)],
            )
        )
    assert results[0] == results[1]


def test_range_bounds_push_each_other() -> None:
    """Setting one bound beyond the other moves that one along, as in PyQBDI."""
    for module in (pydbi, pyqbdi):
        changed = module.Range(10, 20)
        changed.start = 50
        assert tuple(changed) == (50, 50)
        changed.end = 3
        assert tuple(changed) == (3, 3)


@pytest.mark.parametrize("bounds", [(-1, 5), (0, 2**64), (1.5, 2), ("a", 2)])
def test_range_of_what_is_no_address(bounds: tuple[Any, Any]) -> None:
    """Bounds are unsigned 64-bit integers."""
    with pytest.raises(TypeError):
        pydbi.Range(*bounds)
    with pytest.raises(TypeError):
        pyqbdi.Range(*bounds)


def test_range_is_a_mutable_value() -> None:
    """Ranges compare by value, can be copied and pickled, and are not hashable."""
    value = pydbi.Range(1, 2)
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value
    assert value != (1, 2)
    with pytest.raises(TypeError):
        hash(value)
    with pytest.raises(IndexError):
        value[2]
    value[0] = 0
    assert value.start == 0


def test_records_print_as_in_pyqbdi() -> None:
    """The records' texts have PyQBDI's form."""
    region = pydbi.MemoryMap(pydbi.Range(0x1000, 0x2000), pydbi.Permission(5), "libc.so.6")
    assert repr(region) == '<MemoryMap [1000, 2000), Permission.PF_READ|PF_EXEC, "libc.so.6">'
    access = pydbi.MemoryAccess(0x401000, 0x28, 0x4F, 8, pydbi.MEMORY_READ, pydbi.MEMORY_NO_FLAGS)
    assert repr(access) == (
        "<MemoryAccess 401000, 28, 4f, 8, MemoryAccessType.MEMORY_READ, "
        "MemoryAccessFlags.MEMORY_NO_FLAGS>"
    )
    state = pydbi.VMState(pydbi.VMEvent(5), 0x10, 0x20, 0x30, 0x40)
    assert repr(state) == "<VMState VMEvent.SEQUENCE_ENTRY|BASIC_BLOCK_ENTRY, 10, 20, 30, 40>"
    assert repr(pickle.loads(pickle.dumps(state))) == repr(state)
    with pytest.raises(AttributeError):
        state.event = pydbi.VMEvent(1)  # type: ignore[misc]


def test_rule_callbacks_are_checked() -> None:
    """A rule's callback must be callable and have a position; its priority is 0 by default."""

    def callback(*_: object) -> pydbi.VMAction:
        return pydbi.CONTINUE

    rule = pydbi.InstrRuleDataCBK(callback, "data", pydbi.PREINST)
    assert (rule.cbk, rule.data, rule.position, rule.priority) == (
        callback,
        "data",
        pydbi.PREINST,
        0,
    )
    with pytest.raises(TypeError, match="callable"):
        pydbi.InstrRuleDataCBK(5, None, pydbi.PREINST)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="InstPosition"):
        pydbi.InstrRuleDataCBK(callback, None, 0)  # type: ignore[arg-type]


def test_x87_records() -> None:
    """The x87 words are bit fields, and a register is ten bytes of which a part can be set."""
    for module in (pydbi, pyqbdi):
        control = module.FPControl()
        control.pc = 7
        control.rc = 1
        assert (control.pc, control.rc) == (3, 1)
        assert module.FPStatus().tos == 0
        register = module.MMSTReg()
        register.st = b"abc"
        assert register.st == b"abc" + bytes(7)
