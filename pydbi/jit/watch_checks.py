"""What must be found out about an instruction's addresses before it is executed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from pydbi.jit.watch_places import (
    SPACE,
    Expression,
    Interval,
    Place,
    Window,
    interval,
    merge,
    overlaps,
    places_of,
)
from pydbi.tuples import NamedTuple

if TYPE_CHECKING:
    from pydbi.jit.watch_groups import WatchGroup

_READ: Final = 1
_WRITE: Final = 2
_NEAR: Final = 1 << 12
"""Windows so near to one another are tested as one: what lies between costs a second look."""
_TESTS: Final = 3
"""Windows that are tested one by one; of more, all between the lowest and the highest."""


class Check(NamedTuple):
    """How machine code finds out whether an instruction may hit a watch.

    Attributes:
        tests: expressions and the intervals that hit; if there is none, it always may.
    """

    tests: tuple[tuple[Expression, tuple[Interval, ...]], ...]


ALWAYS: Final = Check(())


def make_check(app: int, code: bytes, groups: Iterable[WatchGroup]) -> tuple[Check | None, bool]:
    """Return how to check the instruction *code* at *app*, and whether that holds anywhere.

    None stands for an instruction that cannot hit.

    Raises:
        DecodeError: *code* is not an instruction.
    """
    groups = tuple(groups)
    tests: dict[Expression, list[Interval]] = {}
    always, lasting = False, True
    for place in places_of(code):
        windows = [w for g in groups for w in g.windows(_WRITE if place.is_write else _READ)]
        if not windows:
            continue
        if place.is_relative:
            lasting = False
            always |= _hits(app, place, windows)
        elif place.expression is None:
            always = True
        elif place.expression.base is None and place.expression.index is None:
            always |= _hits(0, place, windows)
        else:
            found = _intervals(place, windows)
            always |= found is None
            tests.setdefault(place.expression, []).extend(found or ())
    if always:
        return ALWAYS, lasting
    if not tests:
        return None, lasting
    return Check(tuple((each, tuple(set(found))) for each, found in tests.items())), lasting


def _hits(origin: int, place: Place, windows: Sequence[Window]) -> bool:
    return overlaps((origin + place.displacement) % SPACE, place.size, windows)


def _intervals(place: Place, windows: Iterable[Window]) -> list[Interval] | None:
    """Return the values of the place's expression that hit, or None if all may."""
    merged = merge(windows, _NEAR)
    if len(merged) > _TESTS:
        merged = [(merged[0][0], merged[-1][1])]
    found: list[Interval] = []
    for window in merged:
        values = interval(window, place.size, place.displacement)
        if values is None:
            return None
        found.append(values)
    return found
