"""The builtin in machine code that makes MemoryAccess objects."""

from __future__ import annotations

import gc
import sys
from array import array

import pytest

from pydbi.jit import access_maker
from pydbi.jit.access_maker import Fields, pairs_reader
from pydbi.jit.context import SLOT
from pydbi.types import MemoryAccess, MemoryAccessFlags, MemoryAccessType

READ, WRITE = MemoryAccessType.MEMORY_READ, MemoryAccessType.MEMORY_WRITE
NO_FLAGS, UNKNOWN = MemoryAccessFlags.MEMORY_NO_FLAGS, MemoryAccessFlags.MEMORY_UNKNOWN_VALUE
FIELDS: list[Fields] = [
    (1 << 40, 8, READ, NO_FLAGS),
    ((1 << 40) + 3, 64, WRITE, UNKNOWN),
    (7, 1, WRITE, NO_FLAGS),
]
FIRST = 1024
PAIRS = (0, 1, (1 << 64) - 1, 1 << 63, 5, 0x80)


@pytest.fixture
def words() -> memoryview:
    """A context with the pairs in it."""
    memory = array("Q", bytes(2048))
    memory[SLOT["SELF"] >> 3] = memory.buffer_info()[0]
    memory[FIRST >> 3 : (FIRST >> 3) + len(PAIRS)] = array("Q", PAIRS)
    return memoryview(memory)


def _state(accesses: list[MemoryAccess]) -> list[object]:
    return [access.__getstate__() for access in accesses]  # type: ignore[no-untyped-call,unused-ignore]


def test_it_works_on_this_python() -> None:
    """The sample comes out as it should, so it is used."""
    if sys.implementation.name == "cpython":
        assert access_maker.access_maker() is not None


@pytest.mark.parametrize("fast", [True, False])
def test_an_access_of_each_pair(
    fast: bool, words: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fields known at scan time, and address and value from the pair; so without machine code."""
    if not fast:
        monkeypatch.setattr(access_maker, "access_maker", lambda: None)
    found = pairs_reader(FIRST, FIELDS)(words)
    expected = [
        (instruction, PAIRS[2 * n], PAIRS[2 * n + 1], size, kind, flags)
        for n, (instruction, size, kind, flags) in enumerate(FIELDS)
    ]
    assert _state(found) == expected
    assert all(type(access) is MemoryAccess for access in found)
    found[0].value = 3
    assert _state(pairs_reader(FIRST, FIELDS)(words)) == expected


def test_references_are_counted(words: memoryview) -> None:
    """Making and dropping lists leaves no reference behind, and takes none away."""
    read = pairs_reader(FIRST, FIELDS)
    objects = [*FIELDS[0], MemoryAccess, FIELDS[1][0]]
    gc.collect()  # of other tests
    before = [sys.getrefcount(item) for item in objects]
    kept = [read(words) for _ in range(100)]
    del kept
    gc.collect()
    assert [sys.getrefcount(item) for item in objects] == before


def test_the_collector_may_run_at_any_time(words: memoryview) -> None:
    """Objects in the making are seen by the garbage collector."""
    read = pairs_reader(FIRST, FIELDS)
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        kept = [read(words) for _ in range(300)]
    finally:
        gc.set_threshold(*thresholds)
    assert all(_state(accesses) == _state(kept[0]) for accesses in kept)
