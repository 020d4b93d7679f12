"""Signal handlers of the guest: what they see, do and change is what it is natively."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest

import pydbi
from tests.compat.harness import fate
from tests.survive.compiled import Machine, compile_source

CASES = {
    "what_a_handler_sees": (5,),
    "masks": (6,),
    "nested_nodefer": (),
    "nested_deferred": (),
    "alternate_stack": (),
    "reset_handler": (),
    "mended": (50,),
    "jump_to_nowhere": (30,),
    "read_restarts": (),
    "read_is_interrupted": (),
    "sleep_is_interrupted": (),
    "among_native_calls": (30_000,),
}


@pytest.fixture(scope="session")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled functions of ``c/handlers.c``."""
    return compile_source("handlers.c", tmp_path_factory.mktemp("handlers"))


@pytest.fixture(scope="session")
def exits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled functions of ``c/exits.cpp``."""
    return compile_source("exits.cpp", tmp_path_factory.mktemp("exits"))


def found(machine: Machine) -> list[int]:
    """What the functions have found since they were asked last."""
    count = ctypes.c_long.in_dll(machine.library, "found_count")
    values = list((ctypes.c_long * count.value).in_dll(machine.library, "found"))
    count.value = 0
    return values


@pytest.mark.parametrize("counting", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_as_natively(handlers: Path, name: str, counting: bool) -> None:
    """Each function of ``handlers.c`` returns under a VM what it returns natively."""

    def run() -> None:
        machine = Machine(pydbi, handlers, counting=counting)
        expected = machine.native(name, *CASES[name]), found(machine)
        for _ in range(2):
            assert (machine.call(name, *CASES[name]), found(machine)) == expected

    assert fate(run, timeout=60) == "lives"


@pytest.mark.parametrize("counting", [False, True])
@pytest.mark.parametrize(("name", "each"), [("handler_jumps", 5), ("handler_of_a_fault", 3)])
def test_handlers_that_jump(exits: Path, name: str, each: int, counting: bool) -> None:
    """siglongjmp out of a handler, of a signal sent or of a fault, leads back to the guest."""
    machine = Machine(pydbi, exits, counting=counting)
    for rounds in (1, 50):
        assert machine.call(name, rounds) == each * rounds
    machine.vm.addInstrumentedRange(0, 1 << 20)
    with pytest.raises(pydbi.GuestFault):
        machine.vm.call(8, [])  # faults are the VM's again


@pytest.mark.parametrize("counting", [False, True])
def test_computing_under_timers(handlers: Path, counting: bool) -> None:
    """Handlers that strike 2,000 times a second, using all registers, change no result."""
    rounds = 600 if counting else 60_000
    machine = Machine(pydbi, handlers, counting=counting)
    expected = machine.native("computed_quietly", rounds)
    assert machine.call("computed_under_timers", rounds) == expected
    assert machine.native("signals_counted") > 5


def test_handlers_are_instrumented(handlers: Path) -> None:
    """The handler's instructions are seen by callbacks, in their order."""
    machine = Machine(pydbi, handlers)
    seen: list[int] = []
    machine.vm.addCodeCB(
        pydbi.PREINST, lambda vm, gpr, fpr, data: seen.append(gpr.rip) or pydbi.CONTINUE, None
    )
    machine.call("leave_handler")
    before = len(seen)
    machine.call("signals_counted")
    plain = len(seen) - before
    os.kill(os.getpid(), signal.SIGUSR1)  # no guest is under way: it runs natively
    assert machine.native("signals_counted") == 1
    assert len(seen) == before + plain

    def send(vm: object, gpr: object, fpr: object, data: object) -> pydbi.VMAction:
        os.kill(os.getpid(), signal.SIGUSR1)
        return pydbi.CONTINUE

    machine.vm.addCodeAddrCB(machine.address("signals_counted"), pydbi.PREINST, send, None)
    before = len(seen)
    assert machine.call("signals_counted") == 1  # the callback's signal comes behind it
    assert len(seen) > before + plain
    assert machine.call("drop_handler") == 2


def test_signals_from_another_process(handlers: Path) -> None:
    """Signals that somebody sends all the time are handled, wherever they strike."""
    machine = Machine(pydbi, handlers)
    machine.call("leave_handler")
    expected = machine.native("computed_quietly", 5000)
    guest, sender = os.getpid(), os.fork()
    if not sender:
        while os.getppid() == guest:
            os.kill(guest, signal.SIGUSR1)
            time.sleep(0.0003)
        os._exit(0)
    try:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            assert machine.call("computed_quietly", 5000) == expected
    finally:
        os.kill(sender, signal.SIGKILL)
        os.waitpid(sender, 0)
    assert machine.call("drop_handler") > 50


def test_exceptions_end_handlers(handlers: Path) -> None:
    """A callback that raises in a handler leaves the guest there; it goes on from rip."""
    machine = Machine(pydbi, handlers)
    machine.call("leave_handler")
    sent = 0

    def send(vm: object, gpr: object, fpr: object, data: object) -> pydbi.VMAction:
        nonlocal sent
        sent += 1
        if sent == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
            return pydbi.CONTINUE
        if sent == 3:
            raise LookupError
        return pydbi.CONTINUE

    machine.vm.addCodeCB(pydbi.PREINST, send, None)
    with pytest.raises(LookupError):
        machine.call("signals_counted")
    assert machine.vm.run(machine.vm.getGPRState().rip, 42)
    assert machine.native("signals_counted") == 1


def test_no_room_for_a_frame(handlers: Path) -> None:
    """A signal for a guest without a stack is a GuestFault that says so, as natively a SIGSEGV."""
    machine = Machine(pydbi, handlers)
    machine.call("leave_handler")
    gpr = machine.vm.getGPRState()

    def send(vm: object, gpr: pydbi.GPRState, fpr: object, data: object) -> pydbi.VMAction:
        gpr.rsp = 0x1000
        os.kill(os.getpid(), signal.SIGUSR1)
        return pydbi.CONTINUE

    machine.vm.addCodeAddrCB(machine.address("signals_counted"), pydbi.PREINST, send, None)
    with pytest.raises(pydbi.GuestFault, match="signal frame"):
        machine.call("signals_counted")
    assert gpr.rsp == 0x1000
