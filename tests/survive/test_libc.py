"""Instrumenting libc itself, or everything executable, in the process that Python runs in."""

from __future__ import annotations

import ctypes
import os
import random
from pathlib import Path
from typing import Any

import pytest

import pydbi
from tests.compat.harness import fate, wrong

LIBC = ctypes.CDLL("libc.so.6")
LIBM = ctypes.CDLL("libm.so.6")


def libc_name() -> str:
    """The basename of the C library's file, as maps show it."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        name = os.path.basename(line.split()[-1])
        if name.startswith(("libc.so", "libc-")):
            return name
    raise LookupError("no libc is mapped")


def machine(qbdi: Any, what: str, seen: list[int] | None = None) -> Any:
    """A VM that instruments libc, or all executable maps; callbacks count in *seen*."""
    vm = qbdi.VM()
    gpr = vm.getGPRState()
    assert qbdi.allocateVirtualStack(gpr, 1 << 20)
    vm.setGPRState(gpr)
    if what == "libc":
        assert vm.addInstrumentedModule(libc_name())
    else:
        assert vm.instrumentAllExecutableMaps()
    if seen is not None:

        def count(vm: Any, gpr: Any, fpr: Any, data: Any) -> Any:
            data[0] += 1
            return qbdi.CONTINUE

        vm.addCodeCB(qbdi.PREINST, count, seen)
    return vm


def call(vm: Any, function: Any, *arguments: Any) -> int:
    """Call a C function and return its int; al says that there are no floats."""
    address = ctypes.cast(function, ctypes.c_void_p).value
    words = []
    for argument in arguments:
        if not isinstance(argument, int):
            argument = ctypes.addressof(argument)
        words.append(argument & (1 << 64) - 1)
    gpr = vm.getGPRState()
    gpr.rax = 0
    vm.setGPRState(gpr)
    done, result = vm.call(address, words)
    assert done
    return ctypes.c_int(result & 0xFFFFFFFF).value


def text(value: bytes, size: int = 0) -> Any:
    """A C string."""
    return ctypes.create_string_buffer(value, size or len(value) + 1)


def format_text(vm: Any, turn: int) -> None:
    """snprintf with integers and strings."""
    ours, native = text(b"", 500), text(b"", 500)
    format_ = text(b"%d|%5s|%-8lx|%c|%%|%llu|%08d")
    arguments = (turn * 7919, text(b"abc"), 0xABCD * turn, 65, 1 << 40, -turn)
    length = call(vm, LIBC.snprintf, ours, 500, format_, *arguments)
    converted = [
        ctypes.c_size_t(value & (1 << 64) - 1) if isinstance(value, int) else value
        for value in arguments
    ]
    assert LIBC.snprintf(native, ctypes.c_size_t(500), format_, *converted) == length
    assert ours.raw == native.raw


def scan_text(vm: Any, turn: int) -> None:
    """sscanf and strtol."""
    number, word = ctypes.c_int(), text(b"", 50)
    source, format_ = text(b"%d some words" % (turn * 31)), text(b"%d %40s")
    assert call(vm, LIBC.sscanf, source, format_, number, word) == 2
    assert (number.value, word.value) == (turn * 31, b"some")
    assert call(vm, LIBC.strtol, text(b"-%d" % turn), 0, 10) == -turn


def copy_memory(vm: Any, turn: int) -> None:
    """memcpy, memmove, memset, memcmp, of many lengths."""
    rng = random.Random(turn)
    for length in (0, 1, 7, 16, 33, 64, 127, 500, 2000, 9000):
        source = text(rng.randbytes(length + 8))
        target = text(b"", length + 9)
        call(vm, LIBC.memcpy, target, source, length)
        assert target.raw[:length] == source.raw[:length]
        assert call(vm, LIBC.memcmp, target, source, length) == 0
        expected = bytearray(source.raw)
        expected[3 : 3 + length] = source.raw[:length]
        call(vm, LIBC.memmove, ctypes.addressof(source) + 3, source, length)
        assert source.raw == bytes(expected)
        call(vm, LIBC.memset, target, 77, length)
        assert target.raw[:length] == b"M" * length


def search_text(vm: Any, turn: int) -> None:
    """strlen, strchr, strstr, strcmp, whose code is chosen by the processor."""
    words = b"the quick brown fox " * (turn + 1) + b"jumps"
    buffer = text(words)
    assert call(vm, LIBC.strlen, buffer) == len(words)
    address = ctypes.addressof(buffer)
    for function, key in (("strchr", ord("j")), ("strstr", text(b"jumps")), ("strrchr", ord("j"))):
        found = call(vm, getattr(LIBC, function), buffer, key)
        assert found == ctypes.c_int(address + words.index(b"jumps") & 0xFFFFFFFF).value
    assert call(vm, LIBC.strcmp, buffer, text(words)) == 0


def use_the_heap(vm: Any, turn: int) -> None:
    """malloc, calloc, realloc, strdup, free."""
    rng = random.Random(turn)
    kept: list[int] = []
    for _ in range(40):
        address = ctypes.cast(LIBC.malloc, ctypes.c_void_p).value
        done, block = vm.call(address, [rng.randrange(1, 3000)])
        assert done
        ctypes.memset(block, 0x5A, 1)
        kept.append(block)
        if rng.random() < 0.5:
            call(vm, LIBC.free, kept.pop(rng.randrange(len(kept))))
    for block in kept:
        call(vm, LIBC.free, block)
    done, copy = vm.call(ctypes.cast(LIBC.strdup, ctypes.c_void_p).value, [
        ctypes.addressof(buffer := text(b"to be copied %d" % turn))])  # fmt: skip
    assert ctypes.string_at(copy) == buffer.value
    call(vm, LIBC.free, copy)


def print_to_a_file(vm: Any, turn: int) -> None:
    """fprintf, fflush and fclose of a stream on a pipe."""
    reader, writer = os.pipe()
    mode = text(b"w")
    open_stream = ctypes.cast(LIBC.fdopen, ctypes.c_void_p).value
    done, stream = vm.call(open_stream, [writer, ctypes.addressof(mode)])
    assert done
    assert stream
    length = call(vm, LIBC.fprintf, stream, text(b"line %d of %s\n"), turn, text(b"text"))
    assert length == len(b"line %d of text\n" % turn)
    assert call(vm, LIBC.fclose, stream) == 0
    assert os.read(reader, 100) == b"line %d of text\n" % turn
    os.close(reader)


def know_the_world(vm: Any, turn: int) -> None:
    """getenv, getpid, time, gmtime_r, strftime, getcwd, access."""
    assert call(vm, LIBC.getpid) == os.getpid()
    value = text(b"", 4000)
    call(vm, LIBC.getcwd, value, 4000)
    assert value.value == os.getcwd().encode()
    moment, parts = ctypes.c_long(turn * 86_400 * 400), text(b"", 100)
    call(vm, LIBC.gmtime_r, moment, parts)
    call(vm, LIBC.strftime, value, 100, text(b"%Y-%m-%d %H:%M"), parts)
    again = text(b"", 100)
    LIBC.strftime(again, ctypes.c_size_t(100), b"%Y-%m-%d %H:%M", parts)
    assert value.value == again.value
    assert call(vm, LIBC.access, text(b"/nowhere at all"), 0) == -1


USES = (format_text, scan_text, copy_memory, search_text, use_the_heap, print_to_a_file,
        know_the_world)  # fmt: skip


@pytest.mark.parametrize("counting", [False, True])
@pytest.mark.parametrize("what", ["libc", "everything"])
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_in_process(use: Any, what: str, counting: bool) -> None:
    """It computes what it does natively, and Python is as well as before."""
    seen = [0]
    vm = machine(pydbi, what, seen if counting else None)
    for turn in range(1, 4 if counting else 12):
        use(vm, turn)
        if turn % 3 == 0:
            vm.clearAllCache()
    assert bool(seen[0]) == counting
    assert len({str(number) * 5 for number in range(5000)}) == 5000  # Python's heap is sound


@pytest.mark.parametrize("use", [format_text, use_the_heap], ids=lambda use: use.__name__)
def test_fates(qbdi: Any, use: Any) -> None:
    """PyQBDI, whose callbacks use the very libc that it runs, corrupts the heap or hangs."""

    def run() -> None:
        seen = [0]
        vm = machine(qbdi, "libc", seen)
        for turn in range(1, 4):
            use(vm, turn)
        assert seen[0]

    how = fate(run, timeout=1.5 if qbdi is not pydbi else 10)
    if wrong(qbdi, "libc is not re-entrant"):
        assert how in ("SIGABRT", "SIGSEGV", "hangs", "raises AssertionError")
    else:
        assert how == "lives"


def test_the_host_is_left_alone() -> None:
    """With all executable maps instrumented, Python and what runs it are run natively."""
    seen = [0]
    vm = machine(pydbi, "everything", seen)
    calls = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    def function(value: int) -> int:
        calls.append(sorted(range(value))[-1])
        return value * 2

    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address
    vm.addInstrumentedRange(address, address + 32)
    for value in range(1, 200):
        assert vm.call(address, [value]) == (True, value * 2)
    assert calls == list(range(199))
    assert seen[0] < 200 * 60  # the entry that ctypes has made, not what it leads to
    assert vm.stats.native_calls >= 199
