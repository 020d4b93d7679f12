"""Memory for generated code, mapped once or twice."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pydbi.errors import CacheError
from pydbi.host import code_memory
from pydbi.host.code_memory import CodeMemory
from pydbi.host.maps import read_mappings
from pydbi.types import Permission
from tests.vm.forked import run_forked

SIZE = 1 << 20
RETURN_7 = b"\xb8\x07\0\0\0\xc3"
"""mov eax, 7; ret"""
RETURN_9 = b"\xb8\x09\0\0\0\xc3"


@contextmanager
def mapped(*, twice: bool, near: tuple[int, int] | None = None) -> Iterator[CodeMemory]:
    """Memory of which the first page is in use."""
    memory = CodeMemory(SIZE, near, twice, lambda: [(memory.address, memory.address + 4096)])
    try:
        yield memory
    finally:
        memory.close()


def call(memory: CodeMemory, offset: int = 0) -> int:
    """Execute what is there."""
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(memory.address + offset)())


def permission_at(address: int) -> Permission | None:
    """What may be done at an address."""
    found = [m.permission for m in read_mappings() if m.start <= address < m.end]
    return found[0] if found else None


@pytest.mark.parametrize("twice", [False, True])
def test_what_is_written_is_executed(twice: bool) -> None:
    """Code written through `memory` is executed at `address`, also when it is changed."""
    with mapped(twice=twice) as memory:
        memory.memory[:6] = RETURN_7
        assert call(memory) == 7
        memory.memory[:6] = RETURN_9
        assert call(memory) == 9
        assert (memory.writable != memory.address) is twice


def test_protection() -> None:
    """Mapped once it is all three, mapped twice it is executable here and writable there."""
    read, write, execute = Permission.PF_READ, Permission.PF_WRITE, Permission.PF_EXEC
    with mapped(twice=False) as memory:
        assert permission_at(memory.address) == read | write | execute
        memory.map_again(twice=True)
        assert permission_at(memory.address) == read | execute
        assert permission_at(memory.writable) == read | write


def test_mapping_again() -> None:
    """The address stays, the content goes, and nothing else stays mapped."""
    with mapped(twice=False) as memory:
        address = memory.address
        for twice in (True, True, False, False, True, False):
            memory.memory[:6] = RETURN_7
            previous = memory.writable
            memory.map_again(twice)
            assert memory.address == address
            assert bytes(memory.memory[:6]) == bytes(6)
            if previous not in (memory.address, memory.writable):
                assert permission_at(previous) is None
        places = {memory.address, memory.writable}
    assert [permission_at(place) for place in places] == [None] * len(places)


def test_near() -> None:
    """It lies near what is asked for; where nothing is free, that is an error."""
    low = ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value or 0
    with mapped(twice=True, near=(low, low + 1)) as memory:
        assert abs(memory.address - low) < 1 << 31
    with pytest.raises(CacheError):
        CodeMemory(1 << 32, (low, low + 1), True, list)


def test_no_file_descriptor_is_kept() -> None:
    """The file has no name, and is not open either."""
    before = os.listdir("/proc/self/fd")
    with mapped(twice=True):
        assert os.listdir("/proc/self/fd") == before


def test_child_has_a_copy() -> None:
    """What parent and child write after a fork is their own; what was in use before is in both."""

    def child(address: int) -> None:
        assert call(memory) == 7
        assert bytes(memory.memory[8192:8198]) == bytes(6)  # it was said not to be in use
        memory.memory[:6] = RETURN_9
        assert call(memory) == 9
        assert permission_at(address) == Permission.PF_READ | Permission.PF_EXEC

    with mapped(twice=True) as memory:
        memory.memory[:6] = memory.memory[8192:8198] = RETURN_7
        run_forked(child, memory.address)
        assert call(memory) == call(memory, 8192) == 7


def test_child_of_a_child() -> None:
    """The same holds for its children."""

    def child() -> None:
        memory.memory[:6] = RETURN_9
        run_forked(grandchild)
        assert call(memory) == 9

    def grandchild() -> None:
        assert call(memory) == 9
        memory.memory[:6] = RETURN_7

    with mapped(twice=True) as memory:
        memory.memory[:6] = RETURN_7
        run_forked(child)
        assert call(memory) == 7


def test_fork_that_is_not_announced() -> None:
    """A child forked by C code finds nothing there, and cannot change the parent's."""
    with mapped(twice=True) as memory:
        memory.memory[:6] = RETURN_7
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            there = [permission_at(place) for place in (memory.address, memory.writable)]
            os._exit(0 if there == [None, None] else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert call(memory) == 7


def test_closed_memory_is_forgotten() -> None:
    """Memory that was given back costs forks nothing."""
    with mapped(twice=True) as memory:
        assert memory in code_memory._mapped_twice
    assert memory not in code_memory._mapped_twice
