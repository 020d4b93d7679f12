"""`catchNativeCalls`: instrumented functions that native code calls are instrumented."""

from __future__ import annotations

import ctypes
import random
import subprocess
import sys
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

import pydbi
from tests.child import child_environment
from tests.survive.compiled import Machine, compile_source

LONG = ctypes.c_long
_FUNCTION = ctypes.CFUNCTYPE(LONG, LONG)
NUMBERS = random.Random(4).sample(range(10_000), 100)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled functions of ``c/natives.c``."""
    return compile_source("natives.c", tmp_path_factory.mktemp("natives"))


class _Pair(ctypes.Structure):
    _fields_ = (("first", LONG), ("second", LONG))


def typed(machine: Machine, name: str, result: Any, *arguments: Any) -> Any:
    """A function with its C types, to be called natively."""
    function = getattr(machine.library, name)
    function.restype, function.argtypes = result, arguments
    return function


@pytest.mark.parametrize("counting", [False, True])
def test_calls_from_python(library: Path, counting: bool) -> None:
    """Arguments and results of all kinds, through ctypes; the VM's own registers stay."""
    machine = Machine(pydbi, library, counting=counting)
    machine.vm.catchNativeCalls()
    before = bytes(machine.vm.getGPRState()), bytes(machine.vm.getFPRState())
    assert machine.native("factorial", 10) == 3628800
    double, extended = ctypes.c_double, ctypes.c_longdouble
    mixed = typed(machine, "mixed", double, double, LONG, ctypes.c_float, LONG, double,
                  LONG, LONG, LONG, LONG, double)  # fmt: skip
    values = (0.5, 1, 0.25, -3, 1e3, 5, 6, 7, 8, 2.5)
    weights = (1, 2, 3, 5, 7, 11, 13, 17, 19, 23)
    assert mixed(*values) == sum(v * w for v, w in zip(values, weights, strict=True))
    assert typed(machine, "extended", extended, extended, extended)(1.5, 4) == 5
    swapped = typed(machine, "swap", _Pair, _Pair)(_Pair(3, 4))
    assert (swapped.first, swapped.second) == (4, 3)
    total = typed(machine, "sum", LONG)(12, *map(LONG, range(12)))
    assert total == reduce(lambda total, value: total * 3 + value, range(12))
    assert (bytes(machine.vm.getGPRState()), bytes(machine.vm.getFPRState())) == before
    assert bool(machine.counted) == counting


def test_errno_is_the_callers(library: Path) -> None:
    """The function finds the caller's errno, and the caller what it leaves there."""
    library_ = ctypes.CDLL(str(library), use_errno=True)
    machine = Machine(pydbi, library, counting=True)
    machine.vm.catchNativeCalls()
    library_.mixed.restype = ctypes.c_double
    ctypes.set_errno(33)
    library_.mixed(*map(LONG, range(10)))
    assert ctypes.get_errno() == 38


def test_libc_calls_back(library: Path) -> None:
    """Functions of libc that run natively, for Python calls them, call instrumented ones."""
    machine = Machine(pydbi, library)
    libc = ctypes.CDLL(None)
    seen = []

    def count(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append(gpr.rdi)
        return pydbi.CONTINUE

    machine.vm.addCodeAddrCB(machine.address("compare"), pydbi.PREINST, count, None)
    values = (LONG * len(NUMBERS))(*NUMBERS)
    libc.qsort(values, len(NUMBERS), 8, machine.library.compare)
    assert list(values) == sorted(NUMBERS)
    assert not seen
    machine.vm.catchNativeCalls()
    values[:] = NUMBERS
    libc.qsort(values, len(NUMBERS), 8, machine.library.compare)
    assert list(values) == sorted(NUMBERS)
    calls = len(seen)
    assert calls > 100
    key = LONG(NUMBERS[7])
    libc.bsearch.restype = ctypes.c_size_t
    found = libc.bsearch(ctypes.byref(key), values, len(NUMBERS), 8, machine.library.compare)
    assert LONG.from_address(found).value == NUMBERS[7]
    assert len(seen) > calls


def test_from_native_excursions(library: Path) -> None:
    """The guest calls Python, which calls the guest's functions, which call Python, and so on."""
    machine = Machine(pydbi, library)
    names = {machine.address(name): name for name in ("apply", "apply_twice", "factorial")}
    seen = []

    def note(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append(names[gpr.rip])
        return pydbi.CONTINUE

    for address in names:
        machine.vm.addCodeAddrCB(address, pydbi.PREINST, note, None)
    machine.vm.catchNativeCalls()

    @_FUNCTION
    def inner(value: int) -> int:
        return machine.native("factorial", value)

    @_FUNCTION
    def outer(value: int) -> int:
        return machine.native("apply_twice", ctypes.cast(inner, ctypes.c_void_p).value, value)

    address = ctypes.cast(outer, ctypes.c_void_p).value
    for turn in range(3):
        assert machine.call("apply", address, 3) == 721
        assert seen == ["apply", "apply_twice", *["factorial"] * (3 + 6)]
        seen.clear()
        if turn:
            machine.vm.clearAllCache()


def test_the_cache_is_cleared_in_between(library: Path) -> None:
    """A native function under way returns to blocks that are made anew, and to the same stop."""
    machine = Machine(pydbi, library, counting=True)
    machine.vm.catchNativeCalls()

    @_FUNCTION
    def clear(value: int) -> int:
        result = machine.native("factorial", value)
        machine.vm.clearAllCache()
        machine.vm.addCodeCB(pydbi.POSTINST, lambda *_: pydbi.CONTINUE, None)
        return result

    assert machine.call("apply_twice", ctypes.cast(clear, ctypes.c_void_p).value, 3) == 720


def test_a_callback_is_not_instrumented(library: Path) -> None:
    """What a callback of the VM calls itself runs without callbacks, and gives the right result."""
    machine = Machine(pydbi, library)
    results = []

    def call(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        results.append(machine.native("factorial", gpr.rdi))
        return pydbi.CONTINUE

    machine.vm.addCodeAddrCB(machine.address("factorial"), pydbi.PREINST, call, None)
    machine.vm.catchNativeCalls()
    assert machine.call("factorial", 5) == 120
    assert results == [120, 24, 6, 2, 1]
    assert machine.native("factorial", 4) == 24
    assert results[5:] == [24, 6, 2, 1]


def test_what_ends_a_run(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback that stops lets the rest run unseen; an exception is reported, and 0 returned."""
    machine = Machine(pydbi, library)
    machine.vm.catchNativeCalls()
    raised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: raised.append(args.exc_value))
    stops = machine.vm.addCodeAddrCB(machine.address("factorial"), pydbi.PREINST,
                                     lambda *_: pydbi.STOP, None)  # fmt: skip
    assert machine.native("factorial", 5) == 120
    machine.vm.deleteInstrumentation(stops)

    def fail(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        raise KeyError("on purpose")

    machine.vm.addCodeAddrCB(machine.address("factorial"), pydbi.PREINST, fail, None)
    assert machine.native("factorial", 5) == 0
    assert machine.native("crash", 0) == 0
    assert [type(error) for error in raised] == [KeyError, pydbi.GuestFault]
    assert raised[1].fault_address == 0
    machine.vm.deleteAllInstrumentations()
    assert machine.native("factorial", 6) == 720


def test_releasing(library: Path) -> None:
    """Maps, other VMs and native calls are as before when calls are released, or the VM gone."""

    def executable() -> bool:
        lines = Path("/proc/self/maps").read_text().splitlines()
        return any(line.endswith(library.name) and " r-xp " in line for line in lines)

    machine = Machine(pydbi, library, counting=True)
    for release in (lambda vm: vm.releaseNativeCalls(), lambda vm: None):
        vm = pydbi.VM()
        vm.addInstrumentedModule(library.name)
        vm.catchNativeCalls()
        assert not executable()
        other = Machine(pydbi, library, counting=True)  # finds the module's code all the same
        assert other.call("factorial", 5) == 120
        assert other.counted
        release(vm)
        del vm
        assert executable()
        assert machine.native("factorial", 5) == 120
    assert not machine.counted
    machine.vm.releaseNativeCalls()
    assert machine.call("factorial", 5) == 120


@pytest.mark.parametrize("name", ["libc.so.6", "libpython", "ld-linux-x86-64.so.2", ""])
def test_what_python_runs_on_is_refused(name: str) -> None:
    """libc is instrumented and called under the VM as ever, but native calls cannot be caught."""
    vm = pydbi.VM()
    path = next((m.name for m in pydbi.getCurrentProcessMaps() if name and name in m.name), "")
    if name and not (path and vm.addInstrumentedModule(path)):
        pytest.skip(f"{name} is not mapped")
    with pytest.raises(ValueError, match="Python itself runs on it" if name else "instrumented"):
        vm.catchNativeCalls()


_GOODBYE = """
import ctypes, sys, pydbi
lib = ctypes.CDLL(sys.argv[1])
vm = pydbi.VM()
vm.addInstrumentedModule(sys.argv[1].rpartition("/")[2])
vm.catchNativeCalls()
assert lib.goodbye() == 0
print("end", flush=True)
"""


def test_python_ends_while_calls_are_caught(library: Path) -> None:
    """What was given to atexit runs natively when Python is gone."""
    done = subprocess.run(
        [sys.executable, "-c", _GOODBYE, str(library)],
        capture_output=True,
        text=True,
        env=child_environment(),
        timeout=60,
        check=True,
    )
    assert done.stdout == "end\ngoodbye\n"
