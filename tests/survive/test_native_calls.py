"""`catchNativeCalls`: instrumented functions that native code calls are instrumented."""

from __future__ import annotations

import ctypes
import random
import subprocess
import sys
import threading
import time
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

import pydbi
from pydbi.jit import signals
from tests.child import child_environment
from tests.survive.compiled import Machine, compile_source

_LONG = ctypes.c_long
_FUNCTION = ctypes.CFUNCTYPE(_LONG, _LONG)
NUMBERS = random.Random(4).sample(range(10_000), 100)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled functions of ``c/natives.c``."""
    return compile_source("natives.c", tmp_path_factory.mktemp("natives"))


class _Pair(ctypes.Structure):
    _fields_ = (("first", _LONG), ("second", _LONG))


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
    mixed = typed(machine, "mixed", double, double, _LONG, ctypes.c_float, _LONG, double,
                  _LONG, _LONG, _LONG, _LONG, double)  # fmt: skip
    values = (0.5, 1, 0.25, -3, 1e3, 5, 6, 7, 8, 2.5)
    weights = (1, 2, 3, 5, 7, 11, 13, 17, 19, 23)
    assert mixed(*values) == sum(v * w for v, w in zip(values, weights, strict=True))
    assert typed(machine, "extended", extended, extended, extended)(1.5, 4) == 5
    swapped = typed(machine, "swap", _Pair, _Pair)(_Pair(3, 4))
    assert (swapped.first, swapped.second) == (4, 3)
    total = typed(machine, "sum", _LONG)(12, *map(_LONG, range(12)))
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
    library_.mixed(*map(_LONG, range(10)))
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
    values = (_LONG * len(NUMBERS))(*NUMBERS)
    libc.qsort(values, len(NUMBERS), 8, machine.library.compare)
    assert list(values) == sorted(NUMBERS)
    assert not seen
    machine.vm.catchNativeCalls()
    values[:] = NUMBERS
    libc.qsort(values, len(NUMBERS), 8, machine.library.compare)
    assert list(values) == sorted(NUMBERS)
    calls = len(seen)
    assert calls > 100
    key = _LONG(NUMBERS[7])
    libc.bsearch.restype = ctypes.c_size_t
    found = libc.bsearch(ctypes.byref(key), values, len(NUMBERS), 8, machine.library.compare)
    assert _LONG.from_address(found).value == NUMBERS[7]
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


@pytest.mark.parametrize("with_vms", [False, True])
def test_threads_of_the_guest(library: Path, with_vms: bool) -> None:
    """Start routines and destructors of keys run under a VM of their thread's own, if there is one.

    The guest waits for its threads in pthread_join meanwhile, with the interpreter.
    """
    machine = Machine(pydbi, library)
    expected = machine.native("threads", 8)
    made: list[tuple[pydbi.VM, list[int]]] = []

    def make() -> pydbi.VM:
        vm = pydbi.VM()
        assert vm.addInstrumentedModule(library.name)
        seen: list[int] = []

        def note(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
            seen.append(threading.get_native_id())
            return pydbi.CONTINUE

        for name in ("work", "end_key"):
            if name == "work":
                vm.addCodeAddrCB(machine.address(name), pydbi.PREINST, note, None)
        made.append((vm, seen))
        return vm

    machine.vm.catchNativeCalls(make if with_vms else None)
    assert machine.call("threads", 8) == expected
    assert machine.native("threads", 8) == expected
    calls = [thread for _, seen in made for thread in seen]
    assert len(calls) == (16 if with_vms else 0)
    assert threading.get_native_id() not in calls


@pytest.mark.takes(60)
@pytest.mark.parametrize("with_vms", [False, True])
def test_threads_that_wait_for_one_another(library: Path, with_vms: bool) -> None:
    """Calls that wait let other threads' calls begin, also those of a thread that is ending."""
    machine = Machine(pydbi, library)

    def make() -> pydbi.VM:
        vm = pydbi.VM()
        assert vm.addInstrumentedModule(library.name)
        return vm

    machine.vm.catchNativeCalls(make if with_vms else None)
    for _ in range(2):
        assert machine.native("meetings", 6) == 6


@pytest.mark.takes(120)
@pytest.mark.parametrize("with_vms", [False, True])
def test_threads_that_end_while_others_begin(library: Path, with_vms: bool) -> None:
    """Threads that come and go, with switches at every opportunity: no call is lost."""
    machine = Machine(pydbi, library)
    expected = machine.native("threads", 8)

    def make() -> pydbi.VM:
        vm = pydbi.VM()
        assert vm.addInstrumentedModule(library.name)
        return vm

    machine.vm.catchNativeCalls(make if with_vms else None)
    kick_while_waiting = signals._ThreadKicks.while_waiting

    def slowly(kicks: Any, wanted: bool) -> None:  # the thread may end meanwhile
        time.sleep(0.0005)
        kick_while_waiting(kicks, wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals._ThreadKicks, "while_waiting", slowly)
        for _ in range(5):
            assert machine.native("threads", 8) == expected


def test_python_threads(library: Path) -> None:
    """Threads of Python's call natively at once, each under a VM of its own."""
    machine = Machine(pydbi, library)
    made: list[pydbi.VM] = []
    counted: list[int] = []

    def make() -> pydbi.VM:
        vm = pydbi.VM()
        vm.addInstrumentedModule(library.name)
        vm.addCodeAddrCB(machine.address("factorial"), pydbi.PREINST,
                         lambda *_: counted.append(1) or pydbi.CONTINUE, None)  # fmt: skip
        made.append(vm)
        return vm

    machine.vm.catchNativeCalls(make)
    results: list[int] = []
    factorial = typed(machine, "factorial", _LONG, _LONG)

    def work(number: int) -> None:
        for _ in range(30):
            results.append(factorial(number) == reduce(lambda a, b: a * b, range(1, number + 1)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 180
    assert len(counted) == 30 * sum(range(5, 11))
    assert 1 <= len(made) <= 6


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
