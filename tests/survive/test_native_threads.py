"""`catchNativeCalls` and threads: C's that the guest starts, and Python's."""

from __future__ import annotations

import threading
import time
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

import pydbi
from pydbi.jit import signals
from tests.survive.compiled import Machine, compile_source
from tests.survive.test_native_calls import LONG, typed


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled functions of ``c/natives.c``."""
    return compile_source("natives.c", tmp_path_factory.mktemp("native_threads"))


def instrument(library: Path) -> pydbi.VM:
    """Return a VM without callbacks for the library."""
    vm = pydbi.VM()
    assert vm.addInstrumentedModule(library.name)
    return vm


@pytest.mark.parametrize("with_vms", [False, True])
def test_threads_of_the_guest(library: Path, with_vms: bool) -> None:
    """Start routines and destructors of keys run under a VM of their thread's own, if there is one.

    The guest waits for its threads in pthread_join meanwhile, with the interpreter.
    """
    machine = Machine(pydbi, library)
    expected = machine.native("threads", 8)
    made: list[tuple[pydbi.VM, list[int]]] = []

    def make() -> pydbi.VM:
        vm = instrument(library)
        seen: list[int] = []

        def note(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
            seen.append(threading.get_native_id())
            return pydbi.CONTINUE

        vm.addCodeAddrCB(machine.address("work"), pydbi.PREINST, note, None)
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
    machine.vm.catchNativeCalls((lambda: instrument(library)) if with_vms else None)
    for _ in range(2):
        assert machine.native("meetings", 6) == 6


@pytest.mark.takes(120)
@pytest.mark.parametrize("with_vms", [False, True])
def test_threads_that_end_while_others_begin(library: Path, with_vms: bool) -> None:
    """Threads that come and go, with switches at every opportunity: no call is lost."""
    machine = Machine(pydbi, library)
    expected = machine.native("threads", 8)

    machine.vm.catchNativeCalls((lambda: instrument(library)) if with_vms else None)
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
        vm = instrument(library)
        vm.addCodeAddrCB(machine.address("factorial"), pydbi.PREINST,
                         lambda *_: counted.append(1) or pydbi.CONTINUE, None)  # fmt: skip
        made.append(vm)
        return vm

    machine.vm.catchNativeCalls(make)
    results: list[int] = []
    factorial = typed(machine, "factorial", LONG, LONG)

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


def test_threads_leave_no_stacks(library: Path) -> None:
    """What a thread of C's is given for signal handlers is given back."""
    machine = Machine(pydbi, library)
    machine.vm.catchNativeCalls()

    def mapped() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * 4096

    for _ in range(3):
        machine.native("threads", 8)
    before = mapped()
    for _ in range(10):
        machine.native("threads", 8)
    assert mapped() - before < 10 * 8 * signals._ALTERNATE_STACK_SIZE / 2
