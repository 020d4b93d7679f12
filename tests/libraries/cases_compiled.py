"""Code that the tests compile: C and C++ with what engines fail at."""

from __future__ import annotations

import ctypes
import random
import struct
from typing import Any

from tests.libraries.guest import Guest, double_bytes

LIBRARIES = ("libplain-O0.so", "libplain-O2.so", "libplain-O3-native.so")
_PROGRAM = bytes([1, 3, 4, 2, 1, 7, 3, 4, 6, 5, 200, 2, 1, 5, 2, 0])


def _each(guest: Guest) -> list[ctypes.CDLL]:
    return [guest.library(name) for name in LIBRARIES]


def qsort_and_bsearch(guest: Guest) -> None:
    """libc's qsort and bsearch call the instrumented comparator; its callbacks are counted."""
    for library in _each(guest):
        values = random.Random(2).choices(range(-1000, 1000), k=300)
        array = (ctypes.c_int * len(values))(*values)
        before = guest.counted
        guest.call(library.sort_ints, array, len(values))
        assert list(array) == sorted(values)
        # Sorting takes at least n log2 n - 1.44 n comparisons, each of several instructions.
        assert guest.mode != "counting" or guest.counted - before > 3 * 2000
        for key in (values[0], values[7], 5000):
            found = guest.call(library.find_int, array, len(values), key & 0xFFFFFFFF)
            assert (found != 0) == (key in values)
            assert not found or ctypes.c_int.from_address(found).value == key


def longjmp(guest: Guest) -> None:
    """longjmp leaves many frames, libc's qsort among them, and is done hundreds of times."""
    for library in _each(guest):
        for depth in (0, 1, 5, 200):
            assert guest.signed(library.jump_out, depth) == 42 + 3 * depth
        array = (ctypes.c_int * 100)(*random.Random(4).choices(range(1000), k=100))
        assert guest.signed(library.jump_out_of_qsort, array, 100) == 20
        assert guest.signed(library.jump_often, 300) == sum(range(300))


def interpreters(guest: Guest) -> None:
    """Computed gotos and switch tables."""
    for library in _each(guest):
        for name in ("interpret_goto", "interpret_switch"):
            function = getattr(library, name)
            function.restype = ctypes.c_int64
            expected = function(_PROGRAM)
            assert ctypes.c_int64(guest.call(function, _PROGRAM)).value == expected


def recursion(guest: Guest) -> None:
    """Deep and wide recursion."""
    small = guest.mode == "counting"
    for library in _each(guest):
        assert guest.call(library.fibonacci, 12 if small else 22) == (144 if small else 17711)
        assert guest.call(library.ackermann, 2, 9) == 21
        library.by_pointers.restype = library.variable_arguments.restype = ctypes.c_int64
        assert guest.call(library.by_pointers, 77, 100) == library.by_pointers(77, 100)
        assert guest.call(library.variable_arguments, 5) == library.variable_arguments(5)


def thread_local_and_errno(guest: Guest) -> None:
    """__thread variables are this thread's own; errno is the guest's across callbacks."""
    for library in _each(guest):
        library.thread_local_variables.restype = ctypes.c_uint64
        first = library.thread_local_variables(b"abc")
        assert guest.call(library.thread_local_variables, b"defgh") == first + 5
        assert library.thread_local_variables(b"") == first + 5
        assert guest.signed(library.error_number, 33) == 33 * 1000 + 9  # EBADF


def floating_point(guest: Guest) -> None:
    """Doubles and floats in xmm registers, long doubles on the x87 stack and through snprintf."""
    for library in _each(guest):
        library.polynomial.restype = ctypes.c_double
        library.polynomial.argtypes = [ctypes.c_double, ctypes.c_float]
        packed = struct.unpack("<d", struct.pack("<ff", 0.75, 0))[0]
        expected = double_bytes(library.polynomial(1.25, 0.75))
        assert guest.call_for_double(library.polynomial, 1.25, packed) == expected
        native, translated = (ctypes.create_string_buffer(200) for _ in range(2))
        size = library.x87_digits(100, native, ctypes.c_size_t(200))
        assert guest.signed(library.x87_digits, 100, translated, 200) == size
        assert translated.raw == native.raw
        guest.call(library.x87_series, 100)
        st0 = guest.vm.getFPRState().stmm0
        wanted = ctypes.create_string_buffer(16)
        library.x87_store(100, wanted)
        assert st0.st == wanted.raw[:10]
        fpr = guest.vm.getFPRState()
        fpr.ftw = 0  # the result is taken off the x87 stack, as a caller would
        fpr.rfsw = 0
        guest.vm.setFPRState(fpr)


def formatting_by_c(guest: Guest) -> None:
    """A C function that calls snprintf with arguments of all kinds."""
    for library in _each(guest):
        for number, value in ((5, 3.14159), (-77, -1e-300), (1 << 40, 1e21)):
            buffer = ctypes.create_string_buffer(600)
            results = []
            for natively in (True, False):
                ctypes.memset(buffer, 0, 600)
                if natively:
                    words = (ctypes.c_size_t(600), b"hello", ctypes.c_int64(number))
                    size = library.format_all(buffer, *words, ctypes.c_double(value))
                else:
                    size = guest.signed(library.format_all, buffer, 600, b"hello", number, value)
                results.append((size, buffer.raw))
            assert results[0] == results[1]
            assert results[0][0] > 50


def vectorised(guest: Guest) -> None:
    """Loops vectorised for this CPU (AVX2 or AVX-512), with odd lengths and alignments."""
    rng = random.Random(6)
    for library in _each(guest):
        library.vector_sums.restype = ctypes.c_uint64
        for length in (1, 7, 33, 100, 259):
            data: dict[str, Any] = {}
            for natively in (True, False):
                rng.seed(length)
                floats = [
                    (ctypes.c_float * length)(*(rng.uniform(-9, 9) for _ in range(length)))
                    for _ in range(3)
                ]
                ints = [
                    (ctypes.c_int32 * length)(*(rng.randrange(500) for _ in range(length)))
                    for _ in range(2)
                ]
                doubles = (ctypes.c_double * length)(*(rng.uniform(-9, 9) for _ in range(length)))
                octets = (ctypes.c_ubyte * length)(*rng.randbytes(length))
                sums = (ctypes.c_double * 2)()
                first: tuple[Any, ...] = (*floats, *ints)
                second: tuple[Any, ...] = (octets, doubles)
                if natively:
                    library.vector_work(*first, ctypes.c_size_t(length))
                    total = library.vector_sums(*second, ctypes.c_size_t(length), sums)
                else:
                    guest.call(library.vector_work, *first, length)
                    total = guest.call(library.vector_sums, *second, length, sums)
                results = (total, bytes(sums), *map(bytes, first))
                assert data.setdefault("results", results) == results, length
        size = 17
        left, right, native, translated = (
            (ctypes.c_double * (size * size))(*(rng.uniform(-9, 9) for _ in range(size * size)))
            for _ in range(4)
        )
        library.matrix_product(left, right, native, size)
        guest.call(library.matrix_product, left, right, translated, size)
        assert bytes(native) == bytes(translated)


def exceptions(guest: Guest) -> None:
    """C++ exceptions pass instrumented and other frames, run destructors, and are rethrown."""
    library = guest.library("libexceptions.so")
    for depth in (0, 1, 10, 100):
        assert guest.signed(library.catch_deep, depth) == 17 * 100 + 1
    array = (ctypes.c_int * 50)(*range(50, 0, -1))
    assert guest.signed(library.throw_through_qsort, array, 50) == 800
    assert guest.signed(library.rethrow, 12) == library.rethrow(12)
    for text in (b"123", b"-45xyz", b"nothing", b"99999999999999"):
        assert guest.signed(library.from_libstdcxx, text) == library.from_libstdcxx(text)


def objects(guest: Guest) -> None:
    """Virtual functions, lambdas, maps, streams."""
    library = guest.library("libexceptions.so")
    library.virtual_calls.restype = ctypes.c_double
    expected = double_bytes(library.virtual_calls(30))
    assert guest.call_for_double(library.virtual_calls, 30) == expected
    library.containers.restype = ctypes.c_size_t
    native, translated = (ctypes.create_string_buffer(5000) for _ in range(2))
    size = library.containers(50, native, ctypes.c_size_t(5000))
    assert guest.call(library.containers, 50, translated, 5000) == size
    assert native.raw == translated.raw


CASES = (
    qsort_and_bsearch, longjmp, interpreters, recursion, thread_local_and_errno, floating_point,
    formatting_by_c, vectorised, exceptions, objects,
)  # fmt: skip
