"""Instrumented functions that somebody else calls: libc, other threads, tables of functions."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path
from typing import Any

import pytest

import pydbi
from tests.child import run_in_child
from tests.compat.harness import wrong
from tests.survive.compiled import Machine, compile_source

NUMBERS = random.Random(3).sample(range(10_000), 200)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled functions of ``c/reentry.c``."""
    return compile_source("reentry.c", tmp_path_factory.mktemp("reentry"))


def array(values: list[int]) -> Any:
    """*values* as C longs."""
    return (ctypes.c_long * len(values))(*values)


@pytest.mark.parametrize("counting", [False, True])
def test_sorting_and_searching(library: Path, counting: bool) -> None:
    """qsort, qsort_r, bsearch, tsearch and twalk call the guest's functions as they do natively."""
    machine = Machine(pydbi, library, counting=counting)
    for name in ("sort", "sort_down", "tree"):
        values, again = array(NUMBERS), array(NUMBERS)
        expected = machine.native(name, again, len(NUMBERS))
        assert machine.call(name, values, len(NUMBERS)) == expected
        assert list(values) == list(again)
    values = array(sorted(NUMBERS))
    for key in (*NUMBERS[:5], -1, 10_000):
        found = machine.call("find", values, len(NUMBERS), key & (1 << 64) - 1)
        assert (found > 0) == (key in NUMBERS)
    assert bool(machine.counted) == counting


def test_callbacks_of_libc_are_instrumented(qbdi: Any, library: Path) -> None:
    """Each call of a comparator is seen; PyQBDI sees none, for qsort runs natively there."""
    machine = Machine(qbdi, library)
    seen = []

    def count(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append(gpr.rdi)
        return qbdi.CONTINUE

    machine.vm.addCodeAddrCB(machine.address("compare"), qbdi.PREINST, count, None)
    values = array(NUMBERS)
    calls = machine.call("sort", values, len(NUMBERS))
    assert list(values) == sorted(NUMBERS)
    assert calls > 200
    if wrong(qbdi, "what qsort calls runs natively"):
        assert not seen
    else:
        assert len(seen) == calls


@pytest.mark.parametrize("counting", [False, True])
def test_calls_from_elsewhere(library: Path, counting: bool) -> None:
    """pthread_once, tables of functions, streams with functions of their own, asprintf."""
    machine = Machine(pydbi, library, counting=counting)
    assert machine.call("initialise", 20) == 20
    assert machine.call("through_table", 77, 100) == machine.native("through_table", 77, 100)
    texts = [ctypes.create_string_buffer(5000) for _ in range(2)]
    assert machine.call("stream", texts[0], 100) == machine.native("stream", texts[1], 100)
    assert texts[0].raw == texts[1].raw
    results = [call("formatted", text, 5000, 1234567) for call, text in
               zip((machine.call, machine.native), texts, strict=True)]  # fmt: skip
    assert results[0] == results[1] > 30
    assert texts[0].raw == texts[1].raw
    assert bool(machine.counted) == counting


@pytest.mark.parametrize("counting", [False, True])
def test_threads_of_the_guest(library: Path, counting: bool) -> None:
    """Threads that the guest makes run natively; results and destructors are the native ones."""
    machine = Machine(pydbi, library, counting=counting)
    expected = machine.native("threads", 16)
    for _ in range(4):
        assert machine.call("threads", 16) == expected
    assert bool(machine.counted) == counting


AT_EXIT = """
import ctypes, pydbi
from tests.compat.harness import Guest
g = Guest(pydbi, "sub rsp, 8; lea rdi, [rip + f]; call rax; add rsp, 8; jmp end;"
    "f: mov eax, 1; mov edi, 1; lea rsi, [rip + data]; mov edx, 4; syscall; ret")
g.write(0, b"bye\\n")
g.set(rax=ctypes.cast(ctypes.CDLL(None).on_exit, ctypes.c_void_p).value)
assert g.run()
print(g.get("rax"), flush=True)
"""


def test_at_exit() -> None:
    """What a guest gives to on_exit is called when Python ends; it runs natively then."""
    assert run_in_child(AT_EXIT) == "0\nbye\n"
