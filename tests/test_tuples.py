"""`pydbi.tuples.NamedTuple` does what `typing.NamedTuple` does."""

from __future__ import annotations

import copy
import pickle
import typing
from typing import Any

import pytest

from pydbi.tuples import NamedTuple


class Made(NamedTuple):
    """Ours."""

    first: int
    second: str = "two"
    third: object = None

    @property
    def both(self) -> str:
        """Something of its own."""
        return f"{self.first}{self.second}"


class Expected(typing.NamedTuple):
    """The model."""

    first: int
    second: str = "two"
    third: object = None


class Alone(NamedTuple):
    """With one field."""

    only: int


ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1, "x"), {"third": 4}),
    ((), {"first": 3, "second": "y"}),
    ((1, 2, 3), {}),
    ((), {}),
    ((1, 2, 3, 4), {}),
    ((1,), {"first": 1}),
    ((1,), {"fourth": 1}),
]


def _outcome(make: Any, items: tuple[Any, ...], named: dict[str, Any]) -> object:
    try:
        return tuple(make(*items, **named))
    except TypeError:
        return TypeError


@pytest.mark.parametrize(("items", "named"), ARGUMENTS)
def test_making(items: tuple[Any, ...], named: dict[str, Any]) -> None:
    """What can be made, and what is a TypeError: the first time, and later."""
    for _ in range(2):
        assert _outcome(Made, items, named) == _outcome(Expected, items, named)

        class New(NamedTuple):
            first: int
            second: str = "two"
            third: object = None

        assert _outcome(New, items, named) == _outcome(Expected, items, named)


def test_fields_and_methods() -> None:
    """Fields by name, copies with changes, text, and what a class adds."""
    made, expected = Made(1, "x"), Expected(1, "x")
    assert made == expected
    assert (made.first, made.second, made.third) == (1, "x", None)
    assert made.both == "1x"
    assert made._fields == expected._fields
    assert made._asdict() == expected._asdict()
    assert made._replace(third=5) == (1, "x", 5)
    assert isinstance(made._replace(third=5), Made)
    assert repr(made) == repr(expected).replace("Expected", "Made")
    assert Made._make([1, 2, 3]).third == 3
    assert Made._field_defaults == Expected._field_defaults
    assert Alone(7).only == 7
    assert Alone(7) == (7,)
    match made:
        case Made(first, second):
            assert (first, second) == (1, "x")
        case _:
            pytest.fail("it does not match")


def test_what_is_refused() -> None:
    """Changing an item, a further attribute, too few items, and unknown fields."""
    made: Any = Made(1)
    for name in ("first", "another"):
        with pytest.raises(AttributeError):
            setattr(made, name, 2)
    with pytest.raises(TypeError):
        Made._make([1])
    with pytest.raises(ValueError, match="fourth"):
        made._replace(fourth=1)
    with pytest.raises(TypeError, match="default"):

        class Wrong(NamedTuple):
            first: int = 0
            second: int  # type: ignore[misc]


def test_copies() -> None:
    """copy and pickle give back the same class."""
    made = Made(1, "x", [2])
    for twin in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert type(twin) is Made
        assert twin == made


def test_a_class_made_of_one() -> None:
    """A class that is made of a named tuple has its fields."""

    class Further(Made):
        def more(self) -> int:
            return self.first + 1

    assert Further(1).more() == 2
    assert Further(1, "x") == (1, "x", None)
    assert Made(1) == (1, "two", None)
