"""What goes wrong while a guest runs: exceptions, faults, calls from within callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import Guest, fate, wrong

Make = Callable[..., Guest]

THREE = "a: inc rax\nb: inc rax\nc: inc rbx"


class Special(BaseException):
    """An exception that is no Exception."""


def raising(error: BaseException) -> Callable[..., Any]:
    """A callback that raises *error*."""

    def callback(*_: Any) -> Any:
        raise error

    return callback


ERRORS = [ValueError("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Special()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("position", ["PRE", "POST"])
def test_exception_in_a_callback(
    guest: Make, qbdi: Any, error: BaseException, position: str
) -> None:
    """The very exception comes out of run, and the guest is where the callback was called."""
    g = guest(THREE)
    g.set(rax=0, rbx=0)
    g.vm.addCodeAddrCB(g["b"], getattr(qbdi, position + "INST"), raising(error), None)
    if wrong(qbdi, "it prints the exception and ends the process"):
        assert fate(g.run) == "exit 1"
    else:
        with pytest.raises(type(error)) as caught:
            g.run()
        assert caught.value is error
        expected = (1, "b") if position == "PRE" else (2, "c")
        assert (g.get("rax"), g.where(g.get("rip"))) == expected


def test_exception_in_a_callback_of_a_call(guest: Make, qbdi: Any) -> None:
    """It comes out of call too, and a later call works."""
    g = guest("mov eax, 5\nb: ret")
    g.vm.addCodeAddrCB(g["b"], qbdi.PREINST, raising(LookupError("b")), None)
    if wrong(qbdi, "it prints the exception and ends the process"):
        assert fate(g.vm.call, g.base, []) == "exit 1"
    else:
        with pytest.raises(LookupError, match="b"):
            g.vm.call(g.base, [])
        g.vm.deleteAllInstrumentations()
        assert g.vm.call(g.base, []) == (True, 5)


def test_going_on_after_an_exception(guest: Make, qbdi: Any) -> None:
    """After an exception a run from rip goes on."""
    g = guest(THREE)
    g.set(rax=0, rbx=0)
    number = g.vm.addCodeAddrCB(g["b"], qbdi.PREINST, raising(LookupError()), None)
    if wrong(qbdi, "it prints the exception and ends the process"):
        assert fate(g.run) == "exit 1"
    else:
        with pytest.raises(LookupError):
            g.run()
        g.vm.deleteInstrumentation(number)
        assert g.vm.run(g.get("rip"), g["end"]) is True
        assert (g.get("rax"), g.get("rbx")) == (2, 1)


def test_exception_at_the_stop(guest: Make, qbdi: Any) -> None:
    """A callback that raises where the run would have stopped."""
    g = guest(THREE)
    g.vm.addCodeAddrCB(g["b"], qbdi.PREINST, raising(LookupError()), None)
    if wrong(qbdi, "it prints the exception and ends the process"):
        assert fate(g.run, "start", "b") == "exit 1"
    else:
        with pytest.raises(LookupError):
            g.run("start", "b")


def test_callback_with_too_few_parameters(guest: Make, qbdi: Any) -> None:
    """What cannot be called with four arguments raises TypeError when it is called."""
    g = guest(THREE)
    g.vm.addCodeCB(qbdi.PREINST, lambda vm: qbdi.CONTINUE, None)
    if wrong(qbdi, "it prints the exception and ends the process"):
        assert fate(g.run) == "exit 1"
    else:
        with pytest.raises(TypeError):
            g.run()


FAULTS = {
    # code: the signal that it raises
    "read": ("mov rax, [0]", "SIGSEGV"),
    "write": ("mov [8], rax", "SIGSEGV"),
    "push": ("xor esp, esp; push rax", "SIGSEGV"),
    "ud2": ("ud2", "SIGILL"),
    "int3": ("int3", "SIGTRAP"),
    "division": ("xor ecx, ecx; div ecx", "SIGFPE"),
    "hlt": ("hlt", "SIGSEGV"),
    "jump to null": ("xor eax, eax; jmp rax", "SIGSEGV"),
    "call of null": ("xor eax, eax; call rax", "SIGSEGV"),
    "return to null": ("push 0; ret", "SIGSEGV"),
    "jump to nowhere": ("movabs rax, 0x5000000000; jmp rax", "SIGSEGV"),
    "jump to no address": ("movabs rax, 0x8000000000000000; jmp rax", "SIGSEGV"),
    "privileged": ("mov rax, cr0", "SIGSEGV"),
    "port": ("in al, dx", "SIGSEGV"),
    "misaligned": ("movaps xmm0, [rip + data + 1]", "SIGSEGV"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_guest_faults(guest: Make, qbdi: Any, name: str) -> None:
    """A fault of the guest is an exception; Python and the VM go on."""
    code, killed_by = FAULTS[name]
    g = guest(f"inc rbx\n{code}\nlater: inc rbx")
    g.set(rbx=0)
    if wrong(qbdi, "the signal kills the process"):
        assert fate(g.run) == killed_by
    else:
        with pytest.raises(RuntimeError) as caught:
            g.run()
        assert type(caught.value) is qbdi.GuestFault
        assert g.get("rbx") == 1
        assert g.run("later", "end") is True
        assert g.get("rbx") == 2


@pytest.mark.parametrize("code", [".byte 0x06", ".byte 0x62, 0, 0, 0, 0", ".byte 0x0f, 0xff"])
def test_undecodable_instructions(guest: Make, qbdi: Any, code: str) -> None:
    """Bytes that are no instruction are an exception, or a fault, when they are executed."""
    g = guest(f"inc rbx\n{code}\nlater: inc rbx")
    g.set(rbx=0)
    if wrong(qbdi, "it aborts, or the processor kills the process"):
        assert fate(g.run) in ("SIGABRT", "SIGILL")
    else:
        with pytest.raises((ValueError, RuntimeError)):
            g.run()
        assert g.run("later", "end") is True


def test_undecodable_instruction_that_is_not_reached(guest: Make, qbdi: Any) -> None:
    """Bytes behind the stop do not matter."""
    g = guest("inc rax\nhere: jmp end\n.byte 0x06")
    assert g.run("start", "here") is True


def test_undecodable_instruction_behind_the_stop(guest: Make, qbdi: Any) -> None:
    """Also if no branch is in between."""
    g = guest("inc rax\nhere: inc rax\n.byte 0x06")
    g.set(rax=0)
    assert g.run("start", "here") is True
    assert g.get("rax") == 1


REENTRIES = {
    "run": lambda g: g.vm.run(g["a"], g["b"]),
    "call": lambda g: g.vm.call(g["a"], []),
    "options": lambda g: setattr(g.vm, "options", g.qbdi.OPT_ATT_SYNTAX),
}


@pytest.mark.parametrize("name", REENTRIES)
def test_reentry(guest: Make, qbdi: Any, name: str) -> None:
    """What a VM cannot do while it runs is an exception, in the callback."""
    g = guest(THREE)
    caught: list[BaseException] = []

    def callback(*_: Any) -> Any:
        try:
            REENTRIES[name](g)
        except RuntimeError as error:
            caught.append(error)
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g["b"], qbdi.PREINST, callback, None)
    g.set(rax=0, rbx=0)
    if wrong(qbdi, "it aborts"):
        assert fate(g.run) == "SIGABRT"
    else:
        assert g.run() is True
        assert len(caught) == 1
        assert (g.get("rax"), g.get("rbx")) == (2, 1)


def test_precaching_in_a_callback(guest: Make, qbdi: Any) -> None:
    """precacheBasicBlock in a callback does not disturb the run."""
    g = guest("a: inc rax\nb: jmp c\nc: inc rbx")
    found = []

    def callback(vm: Any, *_: Any) -> Any:
        found.append(vm.precacheBasicBlock(g["c"]))
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g["b"], qbdi.PREINST, callback, None)
    g.set(rbx=0)
    if wrong(qbdi, "it aborts"):
        assert fate(g.run) == "SIGABRT"
    else:
        assert g.run() is True
        assert (found, g.get("rbx")) == ([True], 1)
