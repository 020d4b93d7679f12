"""Range: a pair of addresses that keeps its order."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import wrong

pytestmark = pytest.mark.in_parent

LARGEST = (1 << 64) - 1


@pytest.mark.parametrize(
    ("given", "bounds"),
    [((1, 5), (1, 5)), ((5, 5), (5, 5)), ((20, 10), (20, 20)), ((0, LARGEST), (0, LARGEST)),
     ((True, 3), (1, 3))],
)  # fmt: skip
def test_bounds(qbdi: Any, given: tuple[int, int], bounds: tuple[int, int]) -> None:
    """An end before the start is moved to it."""
    made = qbdi.Range(*given)
    assert (made.start, made.end) == tuple(made) == (made[0], made[1]) == bounds
    assert made.size() == bounds[1] - bounds[0]


def test_bounds_by_name(qbdi: Any) -> None:
    """The parameters are start and end."""
    assert tuple(qbdi.Range(end=3, start=1)) == (1, 3)


@pytest.mark.parametrize(
    "arguments", [(), (1,), (-1, 3), (1, 1 << 64), (1.5, 3), (None, 3), ("1", 3), (1, 2, 3)]
)
def test_what_is_no_range(qbdi: Any, arguments: tuple[Any, ...]) -> None:
    """Both bounds are due, as unsigned 64-bit integers; else TypeError."""
    with pytest.raises(TypeError):
        qbdi.Range(*arguments)


@pytest.mark.parametrize(
    ("change", "bounds"),
    [
        (lambda r: setattr(r, "start", 15), (15, 20)),
        (lambda r: setattr(r, "start", 30), (30, 30)),
        (lambda r: setattr(r, "end", 15), (10, 15)),
        (lambda r: setattr(r, "end", 3), (3, 3)),
    ],
)
def test_setting_bounds(qbdi: Any, change: Callable[[Any], None], bounds: tuple[int, int]) -> None:
    """A bound that is set beyond the other one takes it along."""
    changed = qbdi.Range(10, 20)
    change(changed)
    assert tuple(changed) == bounds


@pytest.mark.parametrize(
    ("position", "value", "bounds", "theirs"),
    [(0, 5, (5, 20), (5, 5)), (0, 50, (50, 50), (50, 50)), (1, 50, (10, 50), (10, 50)),
     (1, 5, (5, 5), (5, 5))],
)  # fmt: skip
def test_setting_bounds_by_position(
    qbdi: Any, position: int, value: int, bounds: Any, theirs: Any
) -> None:
    """0 is the start and 1 the end."""
    changed = qbdi.Range(10, 20)
    if wrong(qbdi, "setting the start sets the end too, and both raise IndexError afterwards"):
        with pytest.raises(IndexError):
            changed[position] = value
        assert tuple(changed) == theirs
    else:
        changed[position] = value
        assert tuple(changed) == bounds


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.5, None, "1"])
def test_bounds_that_are_no_addresses(qbdi: Any, value: object) -> None:
    """Setting a bound to something else raises TypeError, without effect."""
    changed = qbdi.Range(10, 20)
    for name in ("start", "end"):
        with pytest.raises(TypeError):
            setattr(changed, name, value)
    assert tuple(changed) == (10, 20)


def test_no_other_attributes(qbdi: Any) -> None:
    """A range has no attributes but its own."""
    with pytest.raises(AttributeError):
        qbdi.Range(1, 2).middle = 5


@pytest.mark.parametrize("position", [2, -1, 100])
def test_positions(qbdi: Any, position: int) -> None:
    """There is nothing but position 0 and 1."""
    with pytest.raises(IndexError):
        qbdi.Range(1, 2)[position]
    with pytest.raises(IndexError):
        qbdi.Range(1, 2)[position] = 3


@pytest.mark.parametrize(
    ("item", "inside"),
    [(9, False), (10, True), (19, True), (20, False), ((10, 20), True), ((12, 13), True),
     ((9, 12), False), ((12, 21), False), ((10, 10), True), ((20, 20), True), ((21, 21), False)],
)  # fmt: skip
def test_containing(qbdi: Any, item: Any, inside: bool) -> None:
    """The start is inside and the end is not; of another range all must be inside."""
    whole = qbdi.Range(10, 20)
    item = qbdi.Range(*item) if isinstance(item, tuple) else item
    assert (item in whole) is inside
    assert whole.contains(item) is inside


@pytest.mark.parametrize("item", [-1, 1 << 64, "x", 1.5, None])
def test_containing_what_is_no_address(qbdi: Any, item: object) -> None:
    """Asking for anything else raises TypeError."""
    with pytest.raises(TypeError):
        qbdi.Range(1, 5).contains(item)
    with pytest.raises(TypeError):
        item in qbdi.Range(1, 5)  # noqa: B015


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        ((10, 20), (15, 30), (15, 20)),
        ((10, 20), (12, 13), (12, 13)),
        ((10, 20), (10, 20), (10, 20)),
        ((10, 20), (20, 30), None),
        ((10, 20), (30, 40), None),
        ((10, 20), (0, LARGEST), (10, 20)),
    ],
)
def test_overlap_and_intersection(
    qbdi: Any, first: Any, second: Any, common: tuple[int, int] | None
) -> None:
    """Ranges overlap if they have an address in common; the intersection is those they have."""
    a, b = qbdi.Range(*first), qbdi.Range(*second)
    assert a.overlaps(b) is b.overlaps(a) is (common is not None)
    for found in (a.intersect(b), b.intersect(a)):
        assert type(found) is qbdi.Range
        assert tuple(found) == common if common else found.size() == 0


def test_empty_ranges_overlap(qbdi: Any) -> None:
    """An empty range overlaps one that it lies within, and intersects in itself."""
    assert qbdi.Range(1, 5).overlaps(qbdi.Range(3, 3)) is True
    assert qbdi.Range(3, 3).overlaps(qbdi.Range(1, 5)) is True
    assert tuple(qbdi.Range(1, 5).intersect(qbdi.Range(3, 3))) == (3, 3)


def test_empty_intersection(qbdi: Any) -> None:
    """The intersection of distant ranges lies at the start of the later one."""
    assert tuple(qbdi.Range(1, 5).intersect(qbdi.Range(7, 9))) == (7, 7)
    assert tuple(qbdi.Range(7, 9).intersect(qbdi.Range(1, 5))) == (7, 7)


def test_overlap_with_what_is_no_range(qbdi: Any) -> None:
    """Only ranges overlap and intersect."""
    for method in ("overlaps", "intersect"):
        with pytest.raises(TypeError):
            getattr(qbdi.Range(1, 5), method)(3)


def test_equality(qbdi: Any) -> None:
    """Ranges with the same bounds are equal; a tuple is none. They are unordered, unhashable."""
    assert qbdi.Range(1, 2) == qbdi.Range(1, 2)
    assert not qbdi.Range(1, 2) != qbdi.Range(1, 2)  # noqa: SIM202
    assert qbdi.Range(1, 2) != qbdi.Range(1, 3)
    assert qbdi.Range(1, 2) != (1, 2)
    with pytest.raises(TypeError):
        hash(qbdi.Range(1, 2))
    with pytest.raises(TypeError):
        sorted([qbdi.Range(1, 2), qbdi.Range(0, 1)])


def test_copies(qbdi: Any) -> None:
    """Copies and pickles are equal and stand alone."""
    one = qbdi.Range(1, 5)
    for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert type(other) is qbdi.Range
        assert other == one
        other.start = 3
        assert one.start == 1


def test_texts(qbdi: Any) -> None:
    """Bounds are shown in hexadecimal."""
    assert str(qbdi.Range(0, 255)) == "(0x0, 0xff)"
    assert repr(qbdi.Range(0, 255)) == "<Range (0x0, 0xff)>"


def test_truth_and_length(qbdi: Any) -> None:
    """Every range is true, also an empty one, and has no len()."""
    assert bool(qbdi.Range(1, 1)) is True
    with pytest.raises(TypeError):
        len(qbdi.Range(1, 5))
