"""Readers of recorded accesses: whatever is the same at each reading is prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from pydbi.jit.access_maker import Fields, pairs_reader
from pydbi.jit.context import SHADOW_OFFSET
from pydbi.jit.recording import Plan
from pydbi.jit.records import WRITE, Plain, Record, Words
from pydbi.types import MemoryAccess

Reader = Callable[[Words], list[MemoryAccess]]
"""Returns accesses out of a context."""

_Plain = tuple[int, Fields]
"""The word of its address, and what is known at scan time."""

_FIRST_WORD: Final = SHADOW_OFFSET // 8


def make_reader(steps: Iterable[tuple[Plan, bool]]) -> Reader:
    """Return what reads the accesses of consecutive instructions.

    Args:
        steps: what is recorded of each, and whether it has been executed: before that only what it
            reads is known.
    """
    readers: list[Reader] = []
    run: list[_Plain] = []
    for plan, executed in steps:
        first = _FIRST_WORD + 2 * plan.first_slot
        for record in plan.records:
            if record.type is WRITE and not executed:
                continue
            if isinstance(record, Plain):
                fields = plan.address, record.size, record.type, record.flags
                run.append((first + record.word, fields))
            else:
                _end(run, readers)
                readers.append(_read_other(record, first, plan.address, executed))
    _end(run, readers)
    return readers[0] if len(readers) == 1 else _read_all(readers)


def _end(run: list[_Plain], readers: list[Reader]) -> None:
    """Read what lies one behind the other in one go."""
    while run:
        first = run[0][0]
        count = next((n for n, (word, _) in enumerate(run) if word != first + 2 * n), len(run))
        readers.append(pairs_reader(first * 8, [fields for _, fields in run[:count]]))
        del run[:count]


def _read_other(record: Record, first: int, instruction: int, executed: bool) -> Reader:
    return lambda words: list(record.read(words, first, instruction, executed))


def _read_all(readers: Sequence[Reader]) -> Reader:
    def read(words: Words) -> list[MemoryAccess]:
        found: list[MemoryAccess] = []
        for reader in readers:
            found += reader(words)
        return found

    return read
