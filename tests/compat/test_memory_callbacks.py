"""Callbacks of memory accesses, and watches of addresses: what fires, when, in which order.

Records are noted in the words of `test_memory_table`; `di` is the data's byte 0x100.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import STACK_TOP, Guest, either

TEXT = """
load: mov rax, [rdi]
store: mov [rdi + 8], rax
both: add [rdi + 16], rax
none: inc rcx
half: mov eax, [rdi + 4]
down: push rax
up: pop rbx
last: jmp end
"""
LOAD = "R 0:8=706050403020100"
STORE = "W 8:8=706050403020100"
BOTH = ["R 16:8=1716151413121110", "W 16:8=1e1c1a1816141210"]
HALF = "R 4:4=7060504"
DOWN, UP = "W sp:8=7060504", "R sp:8=7060504"
TYPES = ("READ", "WRITE", "READ_WRITE")


class MemoryGuest(Guest):
    """A guest with bytes 0, 1, 2, ... in its data, to which rdi points."""

    def __init__(self, qbdi: Any, text: str = TEXT, **more: Any) -> None:
        super().__init__(qbdi, text, **more)
        self.write(0, bytes(range(128)))
        self.set(rdi=self.data)

    def words(self, accesses: Any) -> list[str]:
        """Records in words: ``TYPE OFFSET:SIZE=VALUE``."""
        return [self._word(access) for access in accesses]

    def _word(self, access: Any) -> str:
        qbdi, flags = self.qbdi, access.flags.value
        size = "?" if flags & qbdi.MEMORY_UNKNOWN_SIZE.value else str(access.size)
        value = "?" if flags & qbdi.MEMORY_UNKNOWN_VALUE.value else f"{access.value:x}"
        offset = access.accessAddress - self.data
        place = "sp" if offset == STACK_TOP - 8 - (self.data - self.base) else str(offset)
        kind = {1: "R", 2: "W"}[access.type.value]
        return f"{kind} {place}:{size}={value}"

    def noting_accesses(
        self, name: Any, *actions: str, then: Callable[[Any], None] | None = None
    ) -> Callable[..., Any]:
        """Return a callback that notes *name*, rip and the records, and returns *actions*."""
        remaining = [getattr(self.qbdi, action) for action in actions]

        def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
            records = self.words(vm.getInstMemoryAccess())
            self.log.append((name, self.where(gpr.rip), *records))
            if then:
                then(gpr)
            return remaining.pop(0) if remaining else self.qbdi.CONTINUE

        return callback

    def access(self, kind: str, name: Any, *actions: str, priority: int = 0, **more: Any) -> int:
        """addMemAccessCB with a noting callback."""
        callback = self.noting_accesses(name, *actions, **more)
        kind = getattr(self.qbdi, "MEMORY_" + kind)
        return int(self.vm.addMemAccessCB(kind, callback, None, priority))

    def watch(self, kind: str, low: int, high: int, name: Any, *actions: str, **more: Any) -> int:
        """addMemRangeCB on data bytes *low* up to *high* with a noting callback."""
        callback = self.noting_accesses(name, *actions, **more)
        kind = getattr(self.qbdi, "MEMORY_" + kind)
        return int(self.vm.addMemRangeCB(self.data + low, self.data + high, kind, callback, None))

    def watch_address(self, kind: str, offset: int, name: Any) -> int:
        """addMemAddrCB on a data byte with a noting callback."""
        kind = getattr(self.qbdi, "MEMORY_" + kind)
        callback = self.noting_accesses(name)
        return int(self.vm.addMemAddrCB(self.data + offset, kind, callback, None))

    def note_at(self, position: str, name: Any, **more: Any) -> int:
        """addCodeCB with a callback that notes records."""
        where = getattr(self.qbdi, position + "INST")
        return int(self.vm.addCodeCB(where, self.noting_accesses(name), None, **more))

    def logged(self, start: str = "start", stop: str = "end") -> list[Any]:
        """Run, and return what was noted meanwhile."""
        self.log.clear()
        self.result = self.run(start, stop)
        return list(self.log)


Make = Callable[..., MemoryGuest]


@pytest.fixture
def memory(qbdi: Any) -> Make:
    """A factory of these guests."""
    return lambda *text, **more: MemoryGuest(qbdi, *text, **more)


def test_read_callbacks_come_before(memory: Make) -> None:
    g = memory()
    g.access("READ", "r")
    assert g.logged() == [
        ("r", "load", LOAD),
        ("r", "both", BOTH[0]),
        ("r", "half", HALF),
        ("r", "up", UP),
    ]


def test_write_callbacks_come_after(memory: Make) -> None:
    """Reads are recorded only where something asks for them."""
    g = memory()
    g.access("WRITE", "w")
    assert g.logged() == [
        ("w", "both", STORE),
        ("w", "none", BOTH[1]),
        ("w", "up", DOWN),
    ]


def test_read_write_callbacks_come_after_and_once(memory: Make) -> None:
    g = memory()
    g.access("READ_WRITE", "rw")
    assert g.logged() == [
        ("rw", "store", LOAD),
        ("rw", "both", STORE),
        ("rw", "none", *BOTH),
        ("rw", "down", HALF),
        ("rw", "up", DOWN),
        ("rw", "last", UP),
    ]


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (0, ["load"]),
        (4, ["load", "half"]),
        (7, ["load", "half"]),
        (8, []),
        (15, []),
        (16, ["both"]),
        (23, ["both"]),
        (24, []),
    ],
)
def test_address_lies_in_what_is_read(memory: Make, offset: int, expected: Any) -> None:
    g = memory()
    g.watch_address("READ", offset, "a")
    assert [rip for _, rip, *_ in g.logged()] == expected


@pytest.mark.parametrize(
    ("offset", "expected"), [(0, []), (7, []), (8, ["both"]), (15, ["both"]), (16, ["none"])]
)
def test_address_lies_in_what_is_written(memory: Make, offset: int, expected: Any) -> None:
    g = memory()
    g.watch_address("WRITE", offset, "a")
    assert [rip for _, rip, *_ in g.logged()] == expected


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(0, ["store"]), (4, ["store", "down"]), (8, ["both"]), (23, ["none"]), (24, [])],
)
def test_address_watched_for_both(memory: Make, offset: int, expected: Any) -> None:
    g = memory()
    g.watch_address("READ_WRITE", offset, "a")
    assert [rip for _, rip, *_ in g.logged()] == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, ["load"]),
        (7, 9, ["load", "half"]),
        (8, 16, []),
        (-5, 0, []),
        (-5, 1, ["load"]),
        (23, 100, ["both"]),
        (24, 100, []),
        (0, 64, ["load", "both", "half"]),
    ],
)
def test_range_overlaps_what_is_read(memory: Make, low: Any, high: Any, expected: Any) -> None:
    g = memory()
    g.watch("READ", low, high, "x")
    assert [rip for _, rip, *_ in g.logged()] == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 8, []), (7, 9, ["both"]), (15, 17, ["both", "none"])]
)
def test_range_overlaps_what_is_written(memory: Make, low: Any, high: Any, expected: Any) -> None:
    g = memory()
    g.watch("WRITE", low, high, "x")
    assert [rip for _, rip, *_ in g.logged()] == expected


def test_watch_fires_once_for_an_instruction_that_reads_and_writes(
    memory: Make,
) -> None:
    g = memory()
    g.watch("READ_WRITE", 16, 24, "x")
    assert g.logged() == [("x", "none", *BOTH)]


@pytest.mark.parametrize(("low", "high"), [(8, 8), (9, 8)])
def test_empty_range_is_refused(memory: Make, qbdi: Any, low: Any, high: Any) -> None:
    g = memory()
    assert g.watch("READ", low, high, "x") == qbdi.INVALID_EVENTID
    assert g.watch_address("READ", 0, "x") == 1 << 31


def test_whole_address_space(memory: Make) -> None:
    g = memory()
    g.watch("READ", -g.data, (1 << 64) - 1 - g.data, "x")
    assert [rip for _, rip, *_ in g.logged()] == ["load", "both", "half", "up"]


def test_order_by_registration(memory: Make) -> None:
    """All watches of a direction are called where the first of them was registered."""
    g = memory()
    g.note_at("PRE", "pre")
    g.note_at("POST", "post")
    g.watch("READ", 0, 64, "first read")
    g.access("READ", "r")
    g.access("WRITE", "w")
    g.access("READ_WRITE", "rw")
    g.watch("WRITE", 0, 64, "written")
    g.watch("READ_WRITE", 0, 64, "both")
    g.note_at("PRE", "pre 2")
    g.note_at("POST", "post 2")
    g.watch("READ", 0, 64, "second read")
    names = [(name, rip) for name, rip, *_ in g.logged("both", "half")]
    assert names[:11] == [
        ("pre", "both"),
        ("first read", "both"),
        ("second read", "both"),
        ("r", "both"),
        ("pre 2", "both"),
        ("post", "none"),
        ("w", "none"),
        ("rw", "none"),
        ("written", "none"),
        ("both", "none"),
        ("post 2", "none"),
    ]


def test_read_callbacks_are_called_at_the_stop(memory: Make, qbdi: Any) -> None:
    """As instruction callbacks are; nothing is recorded there by pydbi: nothing is executed."""
    g = memory()
    g.access("READ", "r")
    assert g.logged("store", "both") == either(
        qbdi,
        pyqbdi=[("r", "both", BOTH[0])],
        right=[("r", "both")],
        reason="it reads what an instruction would that is not to be executed",
    )


def test_read_watches_at_the_stop(memory: Make, qbdi: Any) -> None:
    """Only PyQBDI calls them: for pydbi an instruction that is not executed reads nothing."""
    g = memory()
    g.watch("READ", 16, 17, "x")
    g.watch("READ", 0, 16, "y")
    assert g.logged("store", "both") == either(
        qbdi,
        pyqbdi=[("x", "both", BOTH[0])],
        right=[],
        reason="it reads what an instruction would that is not to be executed",
    )


def test_order_by_priority(memory: Make) -> None:
    g = memory()
    g.note_at("PRE", "pre 0")
    g.note_at("POST", "post 0")
    g.access("READ", "r 5", priority=5)
    g.access("READ", "r -5", priority=-5)
    g.access("WRITE", "w 5", priority=5)
    g.access("WRITE", "w -5", priority=-5)
    g.note_at("PRE", "pre 7", priority=7)
    g.note_at("POST", "post -7", priority=-7)
    names = [(name, rip) for name, rip, *_ in g.logged("both", "none")]
    assert names[:8] == [
        ("pre 7", "both"),
        ("r 5", "both"),
        ("pre 0", "both"),
        ("r -5", "both"),
        ("w 5", "none"),
        ("post 0", "none"),
        ("w -5", "none"),
        ("post -7", "none"),
    ]


def test_priority_limit_of_recording(memory: Make, qbdi: Any) -> None:
    """Callbacks up to PRIORITY_MEMACCESS_LIMIT find the records."""
    g = memory()
    limit = qbdi.PRIORITY_MEMACCESS_LIMIT.value
    assert limit == 1 << 24
    g.access("READ", "r", priority=limit)
    g.access("WRITE", "w", priority=limit)
    assert g.logged("both", "none") == [("r", "both", BOTH[0]), ("w", "none", BOTH[0], STORE_BOTH)]


STORE_BOTH = "W 16:8=1716151413121110"
"""What `both` writes when it is the first instruction: rax is 0."""


@pytest.mark.parametrize(
    ("kind", "first", "then"), [("READ", 2, 3), ("WRITE", 2, 3), ("READ_WRITE", 4, 5)]
)
def test_ids_of_callbacks(memory: Make, kind: Any, first: int, then: int) -> None:
    """Recording takes two ids for each direction."""
    g = memory()
    assert g.access(kind, "x") == first
    assert g.note_at("PRE", "y") == then


def test_ids_of_all_directions(memory: Make) -> None:
    g = memory()
    ids = []
    for kind in TYPES:
        ids += [g.access(kind, "x"), g.note_at("PRE", "y")]
    assert ids == [2, 3, 6, 7, 8, 9]


def test_ids_of_watches(memory: Make) -> None:
    """They have bit 31 and count both kinds; the first of a direction takes a rule's id too."""
    g = memory()
    ids = []
    for kind in ("READ", "WRITE", "READ"):
        ids += [g.watch_address(kind, 0, "x"), g.note_at("PRE", "y")]
    ids.append(g.watch("WRITE", 0, 4, "x"))
    bit = 1 << 31
    assert ids == [bit, 3, bit + 1, 7, bit + 2, 8, bit + 3]


def test_ids_of_recording(memory: Make, qbdi: Any) -> None:
    g = memory()
    assert g.vm.recordMemoryAccess(qbdi.MEMORY_READ) is True
    assert g.note_at("PRE", "x") == 2
    assert g.vm.recordMemoryAccess(qbdi.MEMORY_READ_WRITE) is True
    assert g.note_at("PRE", "x") == 5
    assert g.vm.recordMemoryAccess(qbdi.MEMORY_WRITE) is True
    assert g.note_at("PRE", "x") == 6
