"""PyQBDI's records."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import pydbi

pyqbdi = pytest.importorskip("pyqbdi")

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


def test_accesses_can_be_changed_and_copied() -> None:
    """An access is mutable as in PyQBDI, is compared by identity, and copies and pickles."""
    fields = (0x401000, 0x28, 0x4F, 8, pydbi.MEMORY_READ, pydbi.MEMORY_NO_FLAGS)
    access = pydbi.MemoryAccess(*fields)
    assert access.__getstate__() == fields
    for one in (copy.copy(access), copy.deepcopy(access), pickle.loads(pickle.dumps(access))):
        assert one != access
        assert repr(one) == repr(access)
        one.value = 5
        assert (one.value, access.value) == (5, 0x4F)
    with pytest.raises(AttributeError):
        access.address = 5  # type: ignore[attr-defined]


def test_maps_are_checked() -> None:
    """A map's fields can be set to what PyQBDI's can; its range is a copy."""
    for module in (pydbi, pyqbdi):
        region = module.getCurrentProcessMaps()[0]
        given = module.Range(16, 32)
        region.range, region.permission, region.name = given, 5, b"name"
        region.range.start = 20
        assert (given.start, region.range.start) == (16, 20)
        assert repr(region) == '<MemoryMap [14, 20), Permission.PF_READ|PF_EXEC, "name">'
        assert region.__getstate__() == (20, 32, module.Permission(5), "name")
        assert repr(pickle.loads(pickle.dumps(region))) == repr(copy.copy(region)) == repr(region)
        for field, value in (("range", (1, 2)), ("permission", 1.0), ("name", 5), ("other", 1)):
            with pytest.raises((TypeError, AttributeError)):
                setattr(region, field, value)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("priority", [5, -5, (1 << 31) - 1, -(1 << 31), pydbi.STOP], [1 << 31, 1.5, "5", None]),
        ("position", [pydbi.POSTINST], [1, None, pydbi.STOP]),
        ("cbk", [print], [5, "text"]),
        ("data", [None, 5, [1]], []),
    ],
)
def test_fields_of_rule_callbacks(field: str, good: list[Any], bad: list[Any]) -> None:
    """A rule's callback can be changed, and nothing wrong be put into it."""
    rule = pydbi.InstrRuleDataCBK(print, None, pydbi.PREINST)
    for value in good:
        setattr(rule, field, value)
        assert getattr(rule, field) == value
    for value in bad:
        with pytest.raises(TypeError):
            setattr(rule, field, value)
    assert getattr(rule, field) == good[-1]


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
        with pytest.raises(TypeError):
            register.st = bytearray(b"abc")
        with pytest.raises(AttributeError):
            control.nothing = 1
