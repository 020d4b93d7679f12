"""What is instrumented: ranges and modules."""

from __future__ import annotations

import ctypes
import errno
import math
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import BASE, Guest, either

Make = Callable[..., Guest]

CODE = """
    a: call f
    b: call g
    c: jmp end
    .balign 64
    f: inc rbx; ret
    g: inc rbx; ret"""
LIBM = "libm.so.6"


def visited(g: Guest) -> str:
    """Run, and return the labels at which a callback was called."""
    g.log.clear()
    g.set(rbx=0)
    assert g.run() is True
    assert g.get("rbx") == 2
    return "".join(place for _, place in g.log if len(place) == 1)


def prepare(guest: Any) -> Guest:
    g: Guest = guest(CODE)
    g.on("PRE", "x")
    return g


CHANGES: list[tuple[list[tuple[str, str, str]], str]] = [
    ([], "afbgc"),
    ([("remove", "f", "g")], "abgc"),
    ([("remove", "f", "g"), ("add", "f", "g")], "afbgc"),
    ([("remove", "f", "end")], "abc"),
    ([("remove", "f", "end"), ("add", "g", "end")], "abgc"),
    ([("remove", "f", "end"), ("remove", "f", "end")], "abc"),
    ([("add", "a", "c"), ("add", "b", "end")], "afbgc"),
    ([("remove", "g", "end"), ("remove", "f", "g")], "abc"),
]


@pytest.mark.parametrize(("changes", "expected"), CHANGES)
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_ranges_decide_where_callbacks_are_called(
    guest: Make, changes: Any, expected: str, warm: bool
) -> None:
    """Adding and removing ranges counts from the next run on, in code that ran before too."""
    g = prepare(guest)
    if warm:
        assert visited(g) == "afbgc"
    for kind, low, high in changes:
        assert getattr(g.vm, f"{kind}InstrumentedRange")(g[low], g[high]) is None
    assert visited(g) == expected


def test_no_ranges_at_all(guest: Make) -> None:
    """After removeAllInstrumentedRanges nothing runs any more."""
    g = prepare(guest)
    assert g.vm.removeAllInstrumentedRanges() is None
    assert g.run() is False
    assert g.log == []


def test_a_new_vm_instruments_nothing(qbdi: Any, guest: Make) -> None:
    """A VM without ranges does not run."""
    g = guest("inc rax")
    vm = qbdi.VM()
    qbdi.allocateVirtualStack(vm.getGPRState(), 4096)
    assert vm.run(g["start"], g["end"]) is False
    assert vm.call(g["start"], [])[0] is False


def test_ranges_by_name(guest: Make) -> None:
    """The parameters are start and end."""
    g = prepare(guest)
    g.vm.removeInstrumentedRange(start=g["f"], end=g["end"])
    g.vm.addInstrumentedRange(start=g["g"], end=g["end"])
    assert visited(g) == "abgc"


@pytest.mark.parametrize("bounds", [("f", "f"), ("end", "f")])
@pytest.mark.parametrize("kind", ["add", "remove"])
def test_ranges_without_addresses(guest: Make, kind: str, bounds: tuple[str, str]) -> None:
    """An empty range changes nothing."""
    g = prepare(guest)
    g.vm.removeInstrumentedRange(g["f"], g["g"])
    getattr(g.vm, f"{kind}InstrumentedRange")(g[bounds[0]], g[bounds[1]])
    assert visited(g) == "abgc"


@pytest.mark.parametrize("method", ["addInstrumentedRange", "removeInstrumentedRange"])
def test_wrong_ranges(guest: Make, method: str) -> None:
    """Bounds are two unsigned 64-bit integers; else TypeError."""
    change = getattr(prepare(guest).vm, method)
    for arguments in ((-1, 5), (5, 1 << 64), (1.5, 5), (None, 5), (5,), ("a", "b")):
        with pytest.raises(TypeError):
            change(*arguments)


def test_instrumented_callee_of_a_bare_function(guest: Make, qbdi: Any) -> None:
    """A function that is called back from uninstrumented code: pydbi sees it, PyQBDI does not."""
    g = guest("""
        a: call bare
        c: jmp end
        .balign 64
        bare: call f; ret
        .balign 64
        f: inc rbx; ret""")
    g.on("PRE", "x")
    g.vm.removeInstrumentedRange(g["bare"], g["f"])
    g.set(rbx=0)
    assert g.run() is True
    assert g.get("rbx") == 1
    expected = either(qbdi, pyqbdi="ac", right="afc", reason="called natively, it is not seen")
    assert "".join(place for _, place in g.log if len(place) == 1) == expected


# Modules.


def function(library: str, name: str) -> int:
    """The address of a library's function."""
    address = ctypes.cast(getattr(ctypes.CDLL(library), name), ctypes.c_void_p).value
    assert address
    return address


@pytest.fixture
def cbrt() -> int:
    """The address of a function of libm."""
    return function(LIBM, "cbrt")


def with_stack(qbdi: Any) -> Any:
    vm = qbdi.VM()
    qbdi.allocateVirtualStack(vm.getGPRState(), 1 << 16)
    return vm


def runs(vm: Any, address: int) -> bool:
    return bool(vm.call(address, [])[0])


def test_module_by_name(qbdi: Any, cbrt: int) -> None:
    """A module is instrumented by its file's name, as often as asked, and released at once."""
    vm = with_stack(qbdi)
    assert runs(vm, cbrt) is False
    assert vm.addInstrumentedModule(LIBM) is True
    assert runs(vm, cbrt) is True
    assert vm.addInstrumentedModule(name=LIBM) is True
    assert vm.removeInstrumentedModule(LIBM) is True
    assert runs(vm, cbrt) is False
    assert vm.removeInstrumentedModule(name=LIBM) is True


def test_module_by_address(qbdi: Any, cbrt: int) -> None:
    """A module is instrumented by any address in it."""
    vm = with_stack(qbdi)
    assert vm.addInstrumentedModuleFromAddr(cbrt + 100) is True
    assert runs(vm, cbrt) is True
    assert vm.removeInstrumentedModuleFromAddr(addr=cbrt) is True
    assert runs(vm, cbrt) is False
    assert vm.addInstrumentedModuleFromAddr(addr=cbrt) is True


@pytest.mark.parametrize(
    "name", ["none", "libm", "libm.so", "LIBM.SO.6", "/usr/lib/x86_64-linux-gnu/libm.so.6"]
)
def test_modules_that_are_none(qbdi: Any, cbrt: int, name: str) -> None:
    """Only the whole base name counts, with its letters' case."""
    vm = with_stack(qbdi)
    assert vm.addInstrumentedModule(name) is False
    assert vm.removeInstrumentedModule(name) is False
    assert runs(vm, cbrt) is False


def test_no_module_at_an_address(qbdi: Any) -> None:
    """Where nothing is mapped there is no module."""
    vm = with_stack(qbdi)
    assert vm.addInstrumentedModuleFromAddr(8) is False
    assert vm.removeInstrumentedModuleFromAddr(8) is False


def test_memory_without_a_file_by_address(qbdi: Any, guest: Make) -> None:
    """Anonymous memory is instrumented by an address in it; other such memory is not."""
    vm = with_stack(qbdi)
    g, other = guest("ret"), guest("ret", at=BASE + 0x100000)
    assert vm.addInstrumentedModuleFromAddr(g.base) is True
    assert runs(vm, g.base) is True
    assert runs(vm, other.base) is False
    assert vm.removeInstrumentedModuleFromAddr(g.base) is True
    assert runs(vm, g.base) is False


def test_module_without_a_name(qbdi: Any) -> None:
    """No file has an empty name."""
    vm = with_stack(qbdi)
    assert vm.addInstrumentedModule("") is False
    found = either(qbdi, pyqbdi=True, right=False, reason="maps without a name are a module here")
    assert vm.removeInstrumentedModule("") is found


@pytest.mark.parametrize("method", ["addInstrumentedModule", "removeInstrumentedModule"])
def test_wrong_modules(qbdi: Any, method: str) -> None:
    """A name is text, an address an unsigned integer; else TypeError."""
    vm = with_stack(qbdi)
    for value in (5, None, 1.5):
        with pytest.raises(TypeError):
            getattr(vm, method)(value)
    for value in (-1, 1 << 64, None, "x"):
        with pytest.raises(TypeError):
            getattr(vm, method + "FromAddr")(value)


def test_all_executable_maps(qbdi: Any, guest: Make, cbrt: int) -> None:
    """Every executable map is instrumented, files' and anonymous ones."""
    vm, g = with_stack(qbdi), guest("ret")
    assert vm.instrumentAllExecutableMaps() is True
    assert runs(vm, g.base) is True
    assert runs(vm, cbrt) is True
    vm.removeAllInstrumentedRanges()
    assert runs(vm, cbrt) is False


def test_library_function_computes_right(qbdi: Any) -> None:
    """A function of an instrumented library gives what it gives natively."""
    vm = with_stack(qbdi)
    vm.addInstrumentedModule(LIBM)
    vm.getFPRState().xmm0 = struct.pack("<d", 0.7)
    assert runs(vm, function(LIBM, "sin")) is True
    assert vm.getFPRState().xmm0[:8] == struct.pack("<d", math.sin(0.7))


def test_uninstrumented_library_function_runs(qbdi: Any, guest: Make) -> None:
    """A call into a library that is not instrumented is executed, and comes back."""
    g = guest("mov rdi, -7; mov rax, [rip + data]; call rax\nback: inc rax")
    g.write(0, function("libc.so.6", "labs").to_bytes(8, "little"))
    g.on("PRE", "x", at="back")
    assert g.run() is True
    assert g.get("rax") == 8
    assert g.log == [("x", "back")]


def test_uninstrumented_function_gets_stack_arguments(qbdi: Any, guest: Make) -> None:
    """The native function finds the guest's stack: snprintf with ten arguments."""
    g = guest("""
        lea rdi, [rip + data + 256]; mov esi, 100; lea rdx, [rip + data + 8]
        mov ecx, 1; mov r8d, 2; mov r9d, 3; push 5; push 4; xor eax, eax
        call [rip + data]
        add rsp, 16""")
    g.write(0, function("libc.so.6", "snprintf").to_bytes(8, "little"))
    g.write(8, b"%d-%d-%d-%d-%d\0")
    assert g.run() is True
    assert g.get("rax") == 9
    assert g.read(256, 10) == b"1-2-3-4-5\0"


def test_errno_of_a_native_function(qbdi: Any, guest: Make) -> None:
    """What a native function leaves in errno is what the VM says it is."""
    g = guest("mov edi, -1; call [rip + data]; mov ebx, eax")
    g.write(0, function("libc.so.6", "close").to_bytes(8, "little"))
    assert g.run() is True
    assert g.get("rbx") == 0xFFFFFFFF
    assert g.vm.getErrno() == errno.EBADF
