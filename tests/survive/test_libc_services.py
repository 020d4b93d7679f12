"""The larger services of libc, instrumented in the process that Python runs in."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pydbi
from tests.survive.test_libc import LIBC, call, machine, text


def call_for_pointer(vm: Any, function: Any, *arguments: Any) -> int:
    """Call a C function and return its result as an address."""
    call(vm, function, *arguments)
    return int(vm.getGPRState().rax)


def look_up_hosts(vm: Any, folder: Path) -> None:
    """getaddrinfo, which reads files, opens sockets and loads libraries."""
    for host in (b"localhost", b"127.0.0.1"):
        found = ctypes.c_size_t()
        assert call(vm, LIBC.getaddrinfo, text(host), 0, 0, found) == 0
        address = ctypes.c_size_t.from_address(found.value + 24).value  # ai_addr
        assert address
        call(vm, LIBC.freeaddrinfo, found.value)


def match_patterns(vm: Any, folder: Path) -> None:
    """regcomp, regexec and regfree."""
    pattern = text(b"", 200)
    assert call(vm, LIBC.regcomp, pattern, text(b"^a(b+)c[[:digit:]]$"), 1) == 0
    assert call(vm, LIBC.regexec, pattern, text(b"abbbc7"), 0, 0, 0) == 0
    assert call(vm, LIBC.regexec, pattern, text(b"ac7"), 0, 0, 0) == 1
    call(vm, LIBC.regfree, pattern)


def convert_text(vm: Any, folder: Path) -> None:
    """iconv, which loads its tables as libraries; setlocale."""
    assert call_for_pointer(vm, LIBC.setlocale, 6, text(b"C.UTF-8"))
    converter = call_for_pointer(vm, LIBC.iconv_open, text(b"UTF-16LE"), text(b"UTF-8"))
    source, target = text("héllo".encode()), text(b"", 40)
    places = [ctypes.c_size_t(ctypes.addressof(buffer)) for buffer in (source, target)]
    left = [ctypes.c_size_t(6), ctypes.c_size_t(40)]
    assert call(vm, LIBC.iconv, converter, places[0], left[0], places[1], left[1]) == 0
    assert target.raw[: 40 - left[1].value].decode("utf-16le") == "héllo"
    assert call(vm, LIBC.iconv_close, converter) == 0
    assert call_for_pointer(vm, LIBC.setlocale, 6, text(b"C"))


def load_libraries(vm: Any, folder: Path) -> None:
    """dlopen, dlsym and dlclose: the loader is translated too."""
    dlerror = LIBC.dlerror  # looking it up forgets errors
    handle = call_for_pointer(vm, LIBC.dlopen, text(b"libz.so.1"), 2)
    assert handle
    address = call_for_pointer(vm, LIBC.dlsym, handle, text(b"crc32"))
    assert address == ctypes.cast(ctypes.CDLL("libz.so.1").crc32, ctypes.c_void_p).value
    assert call_for_pointer(vm, LIBC.dlsym, handle, text(b"no such function")) == 0
    assert b"no such function" in ctypes.string_at(call_for_pointer(vm, dlerror))
    assert call(vm, LIBC.dlclose, handle) == 0


def start_processes(vm: Any, folder: Path) -> None:
    """system, popen, fork and waitpid: the guest's side of the fork runs on, under its VM."""
    assert call(vm, LIBC.system, text(b"exit 3")) >> 8 == 3
    stream = call_for_pointer(vm, LIBC.popen, text(b"echo some text"), text(b"r"))
    line = text(b"", 50)
    assert call_for_pointer(vm, LIBC.fgets, line, 50, stream)
    assert line.value == b"some text\n"
    assert call(vm, LIBC.pclose, stream) == 0


def read_lines(vm: Any, folder: Path) -> None:
    """getline, which reallocates; fseek, ungetc, fread, feof."""
    path = folder / "lines"
    path.write_bytes(b"".join(b"%d %s\n" % (n, b"x" * n) for n in range(300)))
    stream = call_for_pointer(vm, LIBC.fopen, text(bytes(path)), text(b"r"))
    line, size = ctypes.c_size_t(), ctypes.c_size_t()
    for number in range(300):
        length = call(vm, LIBC.getline, line, size, stream)
        assert ctypes.string_at(line.value, length) == b"%d %s\n" % (number, b"x" * number)
    assert call(vm, LIBC.getline, line, size, stream) == -1
    assert call(vm, LIBC.feof, stream)
    assert call(vm, LIBC.fseek, stream, 2, 0) == 0
    assert call(vm, LIBC.ungetc, ord("!"), stream) == ord("!")
    part = text(b"", 7)
    assert call(vm, LIBC.fread, part, 1, 6, stream) == 6
    assert part.raw[:6] == b"!" + path.read_bytes()[2:7]
    assert call(vm, LIBC.fclose, stream) == 0
    call(vm, LIBC.free, line.value)


def print_to_standard_output(vm: Any, folder: Path) -> None:
    """printf, puts and fflush of the process's own stdout, which Python does not use."""
    path = folder / "out"
    with path.open("wb") as file:
        saved = LIBC.dup(1)
        LIBC.dup2(file.fileno(), 1)
        try:
            assert call(vm, LIBC.printf, text(b"%d-%s;"), 77, text(b"seven")) == 9
            assert call(vm, LIBC.puts, text(b"a line")) >= 0
            assert call(vm, LIBC.fflush, 0) == 0
        finally:
            LIBC.dup2(saved, 1)
            LIBC.close(saved)
    assert path.read_bytes() == b"77-seven;a line\n"


def sort_words(vm: Any, folder: Path) -> None:
    """qsort with a comparator of libc's, strtok_r, and scandir with alphasort."""
    words = [text(b"%05d" % (number * 7919 % 1000)) for number in range(100)]
    table = (ctypes.c_size_t * 100)(*map(ctypes.addressof, words))
    values = (ctypes.c_char * 600)(*b"".join(word.value + b"\0" for word in words))
    call(vm, LIBC.qsort, values, 100, 6, ctypes.cast(LIBC.strcmp, ctypes.c_void_p).value)
    assert values.raw == b"".join(sorted(word.value + b"\0" for word in words))
    assert table[3] == ctypes.addressof(words[3])
    for name in ("b", "a", "c"):
        (folder / name).touch()
    found = ctypes.c_size_t()
    alphasort = ctypes.cast(LIBC.alphasort, ctypes.c_void_p).value
    count = call(vm, LIBC.scandir, text(bytes(folder)), found, 0, alphasort)
    assert count >= 5
    entries = (ctypes.c_size_t * count).from_address(found.value)
    names = [ctypes.string_at(entry + 19) for entry in entries]  # d_name
    assert names == sorted(names)
    for entry in entries:
        call(vm, LIBC.free, entry)
    call(vm, LIBC.free, found.value)


USES = (look_up_hosts, match_patterns, convert_text, load_libraries, start_processes, read_lines,
        print_to_standard_output, sort_words)  # fmt: skip


@pytest.mark.parametrize("counting", [False, True])
@pytest.mark.parametrize("what", ["libc", "everything"])
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_services(
    use: Callable[[Any, Path], None], what: str, counting: bool, tmp_path: Path
) -> None:
    """They do what they do natively, again and again, and Python's heap and files are sound."""
    seen = [0]
    vm = machine(pydbi, what, seen if counting else None)
    for _ in range(2):
        use(vm, tmp_path)
    assert bool(seen[0]) == counting
    assert len({str(number) * 5 for number in range(5000)}) == 5000
    assert (tmp_path / "new").write_text("text") == 4
