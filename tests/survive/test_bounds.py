"""The cache stays within its limit, whatever the guest does, and the guest does not notice."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Sequence
from typing import Any

import pytest

import pydbi
from pydbi.host.libc import PROT_EXEC, PROT_READ
from pydbi.host.memory import map_memory, protect_memory, view
from pydbi.vm.settings import SMALLEST_CACHE
from tests.compat.harness import Guest
from tests.exec.gnu_as import PREAMBLE, assemble
from tests.exec.resident import resident_size
from tests.jit.maze import Maze, machine, map_code, slots

SLOT = 96
"""Bytes from one function to the next."""
FUNCTION = (
    PREAMBLE + "inc rbx; " + "add rbx, rdx; jmp 1f; 1: " * 6 + "call 2f; ret; 2: inc rbx; ret"
)
DRIVER = PREAMBLE + "1: push rcx; push rsi; call [rsi]; pop rsi; pop rcx; add rsi, 8; loop 1b; ret"
BLOCKS = 9
"""Blocks of a function, at least."""
SLACK = 16 << 10
"""By as much a limit may be exceeded: one block, a chunk of exit stubs, a landing pad."""


def _go_on(*_: object) -> Any:
    return pydbi.CONTINUE


class Functions:
    """Many functions on pages that are not writable, and one that calls them in any order.

    The result counts the calls: with 1 in rdx each adds 8 to rbx.
    """

    def __init__(self, count: int) -> None:
        code, driver = assemble(FUNCTION), assemble(DRIVER)
        size = SLOT * count + len(driver)
        self.base = map_memory(size)
        self.count = count
        self.driver = self.base + SLOT * count
        memory = view(self.base, size)
        for number in range(count):
            memory[SLOT * number : SLOT * number + len(code)] = code
        memory[SLOT * count :] = driver
        protect_memory(self.base, size, PROT_READ | PROT_EXEC)
        self.vm = pydbi.VM()
        pydbi.allocateVirtualStack(self.vm.getGPRState(), 1 << 16)
        self.vm.addInstrumentedRange(self.base, self.base + size)

    def call(self, numbers: Sequence[int]) -> None:
        """Call these functions in this order, and assert that each was executed."""
        table = (ctypes.c_uint64 * len(numbers))(*[self.base + SLOT * n for n in numbers])
        gpr = self.vm.getGPRState()
        gpr.rbx = 0
        arguments = [0, ctypes.addressof(table), 1, len(numbers)]
        assert self.vm.call(self.driver, arguments)[0]
        assert gpr.rbx == 8 * len(numbers)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("limit", [SMALLEST_CACHE, 256 << 10])
def test_more_code_than_the_limit(limit: int, twice: bool) -> None:
    """Code that takes many times the limit is executed right, and the cache is never larger."""
    functions = Functions(4000)
    functions.vm.mapCodeTwice = twice
    functions.vm.setCacheLimit(limit)
    assert functions.vm.getCacheLimit() == limit
    order = list(range(functions.count))
    for seed in range(3):
        random.Random(seed).shuffle(order)
        for first in range(0, len(order), 50):
            functions.call(order[first : first + 50])
            assert functions.vm.stats.cache_bytes < limit + SLACK
    stats = functions.vm.stats
    assert stats.blocks > 2 * functions.count * BLOCKS  # what the last round left is used again
    assert stats.resets > 3


def test_what_fits_is_kept() -> None:
    """Code within the limit is translated once."""
    functions = Functions(100)
    functions.vm.setCacheLimit(1 << 20)
    for _ in range(10):
        functions.call(range(100))
    stats = functions.vm.stats
    assert stats.resets == 0
    assert stats.blocks < 100 * (BLOCKS + 2)


def test_memory_stays_bounded() -> None:
    """The process does not grow, however much code has come and gone."""
    functions = Functions(4000)
    functions.vm.setCacheLimit(256 << 10)
    order = list(range(functions.count))
    random.Random(1).shuffle(order)
    functions.call(order)
    before = resident_size()
    for _ in range(3):
        functions.call(order)
    assert resident_size() - before < 2 << 20


INSTRUMENTS = {
    "before": lambda vm: vm.addCodeCB(pydbi.PREINST, _go_on, None),
    "before and after": lambda vm: [
        vm.addCodeCB(position, _go_on, None) for position in (pydbi.PREINST, pydbi.POSTINST)
    ],
    "accesses": lambda vm: vm.addMemAccessCB(pydbi.MEMORY_READ_WRITE, _go_on, None),
    "events": lambda vm: vm.addVMEventCB(pydbi.BASIC_BLOCK_ENTRY, _go_on, None),
    "watch": lambda vm: vm.addMemRangeCB(0, 4096, pydbi.MEMORY_READ_WRITE, _go_on, None),
}


@pytest.mark.parametrize("kind", INSTRUMENTS)
def test_with_callbacks(kind: str) -> None:
    """What is generated for callbacks counts too."""
    functions = Functions(300)
    INSTRUMENTS[kind](functions.vm)
    functions.vm.setCacheLimit(SMALLEST_CACHE)
    for _ in range(2):
        for first in range(0, 300, 20):
            functions.call(range(first, first + 20))
            assert functions.vm.stats.cache_bytes < SMALLEST_CACHE + 2 * SLACK
    assert functions.vm.stats.resets > 3


def test_every_instruction_is_seen() -> None:
    """Callbacks miss nothing and see nothing twice while the cache is emptied under way."""
    functions = Functions(500)
    counts = {"instructions": 0}

    def count(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        counts["instructions"] += 1
        return pydbi.CONTINUE

    functions.vm.addCodeCB(pydbi.PREINST, count, None)
    functions.call(range(500))
    free, counts["instructions"] = counts["instructions"], 0
    functions.vm.clearAllCache()
    functions.vm.setCacheLimit(SMALLEST_CACHE)
    functions.call(range(500))
    assert functions.vm.stats.resets > 5
    assert counts["instructions"] == free


def test_a_limit_that_comes_later() -> None:
    """A limit set below what is there takes effect at the next block, from a callback too."""
    functions = Functions(500)
    functions.call(range(400))
    assert functions.vm.stats.cache_bytes > SMALLEST_CACHE + SLACK
    functions.vm.setCacheLimit(SMALLEST_CACHE)
    functions.call(range(401))
    assert functions.vm.stats.cache_bytes < SMALLEST_CACHE + SLACK
    functions.vm.setCacheLimit(0)
    functions.call(range(500))
    assert functions.vm.stats.cache_bytes > SMALLEST_CACHE + SLACK

    def limit(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        vm.setCacheLimit(SMALLEST_CACHE)
        return pydbi.CONTINUE

    functions.vm.addCodeAddrCB(functions.base + SLOT * 250, pydbi.PREINST, limit, None)
    functions.vm.clearAllCache()
    functions.call(range(500))
    assert functions.vm.getCacheLimit() == SMALLEST_CACHE
    assert functions.vm.stats.cache_bytes < SMALLEST_CACHE + 2 * SLACK


def test_code_translated_ahead_in_a_callback() -> None:
    """It stays until the callback has returned; the next block makes room."""
    functions = Functions(1000)
    functions.vm.setCacheLimit(SMALLEST_CACHE)
    sizes = []

    def precache(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        for number in range(900):
            for offset in range(0, 30, 5):
                vm.precacheBasicBlock(functions.base + SLOT * number + 3 + offset)
        sizes.append(vm.stats.cache_bytes)
        return pydbi.CONTINUE

    functions.vm.addCodeAddrCB(functions.base, pydbi.PREINST, precache, None)
    functions.call([0, *range(900, 1000)])
    assert sizes[0] > SMALLEST_CACHE + SLACK
    assert functions.vm.stats.cache_bytes < SMALLEST_CACHE + SLACK


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.5, "64K", None])
def test_what_is_no_size(value: Any) -> None:
    """Nonsense is a TypeError and changes nothing."""
    vm = pydbi.VM()
    vm.setCacheLimit(1 << 20)
    with pytest.raises(TypeError, match="size"):
        vm.setCacheLimit(value)
    assert vm.getCacheLimit() == 1 << 20


@pytest.mark.parametrize("value", [1, 4096, SMALLEST_CACHE - 1])
def test_what_is_too_small(value: int) -> None:
    """A limit too small to be of use is refused, with the smallest one in the message."""
    vm = pydbi.VM()
    with pytest.raises(ValueError, match=str(SMALLEST_CACHE)):
        vm.setCacheLimit(value)
    assert vm.getCacheLimit() == 0


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_mazes(seed: int, twice: bool) -> None:
    """Blocks linked in all ways, some with callbacks that clear the cache, compute the right."""
    vm = machine()
    vm.setCacheLimit(SMALLEST_CACHE)
    vm.mapCodeTwice = twice
    maze = Maze(slots(map_code(1 << 18), 1200), seed)
    turn = 0

    def clear(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        nonlocal turn
        turn += 1
        if turn % 13 == 0:
            address = maze.addresses[turn % maze.count]
            vm.clearCache(address, address + 16)
        return pydbi.BREAK_TO_VM if turn % 5 == 0 else pydbi.CONTINUE

    for address in maze.addresses[::7]:
        vm.addCodeAddrCB(address, pydbi.POSTINST, clear, None)
    for start in range(0, maze.count, 300):
        maze.check(vm, start, 3000)
        assert vm.stats.cache_bytes < SMALLEST_CACHE + SLACK
    assert vm.stats.resets > 3
    assert turn > 500


def test_a_single_loop_is_not_disturbed() -> None:
    """A warm loop in a small cache costs no translation."""
    g = Guest(pydbi, "a: inc rbx; add rdx, rbx; dec rcx; jnz a")
    g.vm.setCacheLimit(SMALLEST_CACHE)
    g.set(rbx=0, rdx=0, rcx=100_000)
    assert g.run()
    assert g.get("rdx") == 100_000 * 100_001 // 2
    assert g.vm.stats.blocks < 5
