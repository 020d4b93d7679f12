"""longjmp, C++ exceptions, coroutines and signal handlers, across whatever is instrumented."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

import pydbi
from tests.survive.compiled import Machine, compile_source
from tests.survive.fates import check_fate


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled functions of ``c/exits.cpp``."""
    return compile_source("exits.cpp", tmp_path_factory.mktemp("exits"))


WHOLE: tuple[str, ...] = ()
EXCEPTIONS = [
    WHOLE, ("catcher",), ("thrower",), ("middle",), ("catch_often", "thrower"),
    ("catch_often", "catcher", "middle"),
]  # fmt: skip


@pytest.mark.parametrize("counting", [False, True])
@pytest.mark.parametrize("only", EXCEPTIONS)
def test_exceptions(library: Path, only: tuple[str, ...], counting: bool) -> None:
    """C++ exceptions pass instrumented and uninstrumented frames, and run the destructors."""
    machine = Machine(pydbi, library, only=only, counting=counting)
    start = "catcher" if only and "catch_often" not in only else "catch_often"
    # `call` begins in an instrumented range only.
    machine.vm.addInstrumentedRange(machine.address(start), machine.address(start) + 1)
    rounds = 20 if counting else 100
    each = len("from below")
    for _ in range(3):
        expected = each if start == "catcher" else each * rounds
        assert machine.call(start, rounds) == machine.native(start, rounds) == expected
    assert bool(machine.counted) == counting


@pytest.mark.parametrize("counting", [False, True])
def test_longjmp(library: Path, counting: bool) -> None:
    """setjmp and longjmp, past native excursions and out of functions that call back."""
    machine = Machine(pydbi, library, counting=counting)
    rsp = machine.vm.getGPRState().rsp
    for rounds in (1, 10, 400):
        assert machine.call("jumps", rounds) == machine.native("jumps", rounds)
        assert machine.call("through", machine.address("call_it"), rounds) == 7 * rounds
        assert machine.vm.getGPRState().rsp == rsp
    assert bool(machine.counted) == counting


@pytest.mark.parametrize("counting", [False, True])
def test_coroutines(library: Path, counting: bool) -> None:
    """swapcontext between four stacks."""
    machine = Machine(pydbi, library, counting=counting)
    for rounds in (1, 5, 200):
        assert machine.call("coroutines", rounds) == machine.native("coroutines", rounds)


@pytest.mark.parametrize("counting", [False, True])
def test_handlers(library: Path, counting: bool) -> None:
    """A signal handler that the guest installs is called, and keeps being the handler."""
    machine = Machine(pydbi, library, counting=counting)
    for rounds in (1, 200):
        assert machine.call("handler_returns", rounds) == rounds


FATES = {"jumps": "hangs", "catch_often": "SIGABRT", "coroutines": "lives"}


@pytest.mark.parametrize("name", FATES)
def test_fates(qbdi: Any, library: Path, name: str) -> None:
    """PyQBDI runs libc and libstdc++ natively, and loses a guest that does not return."""

    def run() -> None:
        machine = Machine(qbdi, library)
        assert machine.call(name, 20) == machine.native(name, 20)

    check_fate(qbdi, run, pyqbdi=FATES[name], right="lives", reason="it loses the guest")


def test_exceptions_of_python_in_the_midst(library: Path) -> None:
    """A guest calls a Python function, whose exception ctypes prints; the guest goes on."""
    machine = Machine(pydbi, library)
    calls = []

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def function(depth: int) -> None:
        calls.append(depth)
        raise LookupError

    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    for depth in range(50):
        machine.call("middle", address, depth)
    assert calls == list(range(50))
