"""The tables that many blocks are entered in at once hold what they would hold one by one."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pydbi.jit.block_index import BlockIndex
from pydbi.jit.context import TABLE_OFFSET
from pydbi.jit.guest import Guest
from pydbi.jit.lookup import LookupTable, SecondLevel

FIRST_LEVEL = TABLE_OFFSET >> 3


def _block(code: int, size: int) -> tuple[Any, ...]:
    return (code * 3, code * 3 + 1, code, code, code + size)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.lists(st.integers(0, 10_000), max_size=60)), max_size=6
    ),
    st.lists(st.integers(0, 200_000), max_size=20),
)
def test_blocks_are_found(chunks: list[tuple[int, list[int]]], asked: list[int]) -> None:
    """Whether few or many were added since the last question, and in whatever order."""
    lists: tuple[list[tuple[Any, ...]], ...] = ([], [])
    index = BlockIndex(*lists)
    taken: set[int] = set()
    for number, places in chunks:
        fresh = [place for place in dict.fromkeys(places) if place not in taken]
        taken.update(fresh)
        lists[number].extend(_block(place * 16, 1 + place % 16) for place in fresh)
        known = [fields for blocks in lists for fields in blocks]
        for address in (*asked, *(fields[3] for fields in known[:5])):
            covering = [f for f in known if f[3] <= address < f[4]]
            found = index.find(address)
            assert found == (covering[0] if covering else None)


def _found(table: SecondLevel, app: int) -> int:
    place = table._place(app)
    return table._words[place + 1] if table._words[place] == app else 0


@given(st.sets(st.integers(1, 1 << 20), min_size=1, max_size=300), st.integers(1, 40))
def test_targets_are_found(apps: set[int], alike: int) -> None:
    """Targets that collide, entered at once or one by one, before and after the table grows."""
    keys = [app * alike << 15 for app in apps]
    pads = [(app, number + 1) for number, app in enumerate(keys)]
    one_by_one, at_once = SecondLevel(), SecondLevel()
    try:
        for app, pad in pads:
            assert one_by_one.enter(app, pad)
        assert at_once.enter_all(pads)
        for table in (one_by_one, at_once):
            assert all(_found(table, app) == pad for app, pad in pads)
            assert _found(table, 1 << 60) == 0
            table.grow(dict(pads), keep=False)
            assert all(_found(table, app) == pad for app, pad in pads)
    finally:
        one_by_one.close()
        at_once.close()


def test_both_levels() -> None:
    """More targets than the table has room for: it grows once, and every one is in it."""
    guest = Guest()
    table = LookupTable([guest])
    before = table.second_level.entries
    pads = [(0x400000 + 48 * n, 0x10_000_000 + n) for n in range(before)]
    table.enter_all(pads[:100])
    assert table.second_level.entries == before
    table.enter_all(pads[100:])
    assert table.second_level.entries >= 2 * len(pads)
    assert all(table.get(app) == pad == _found(table.second_level, app) for app, pad in pads)
    last = {FIRST_LEVEL + (app & 0xFFFF): pad for app, pad in pads}
    assert all(guest.words[place] == pad for place, pad in last.items())
    table.remove(pads[7][0])
    assert table.get(pads[7][0]) is None
    assert _found(table.second_level, pads[8][0]) == pads[8][1]
