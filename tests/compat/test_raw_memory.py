"""Raw memory, and numbers as bytes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.compat.harness import BASE, either, fate, map_at, wrong

WORD = 0x1122334455667788


@pytest.fixture
def page(qbdi: Any) -> int:
    """Address of a page which the test has to map with `map_at`."""
    return BASE


@pytest.mark.parametrize("align", [8, 16, 64, 4096, 1 << 21])
def test_aligned_alloc(qbdi: Any, align: int) -> None:
    """alignedAlloc gives writable memory at a multiple of the alignment."""
    address = qbdi.alignedAlloc(100, align)
    assert type(address) is int
    assert address > 0
    assert address % align == 0
    qbdi.writeMemory(address, bytes(range(100)))
    assert qbdi.readMemory(address, 100) == bytes(range(100))
    assert qbdi.alignedFree(address) is None


@pytest.mark.parametrize("align", [0, 1, 2, 3, 4, 24, 100])
def test_alignments_that_are_none(qbdi: Any, align: int) -> None:
    """An alignment that is no power of two, or less than a pointer's, gives 0."""
    assert qbdi.alignedAlloc(100, align) == 0


def test_aligned_alloc_of_nothing(qbdi: Any) -> None:
    """No bytes have an address nevertheless; more bytes than there are give 0."""
    assert qbdi.alignedAlloc(0, 16) > 0
    assert qbdi.alignedAlloc(1 << 62, 16) == 0


def test_aligned_alloc_by_name(qbdi: Any) -> None:
    """The parameters are size and align; alignedFree's is ptr."""
    address = qbdi.alignedAlloc(align=64, size=10)
    assert address % 64 == 0
    assert qbdi.alignedFree(ptr=address) is None


def test_freeing_nothing(qbdi: Any) -> None:
    """Address 0 can be freed."""
    assert qbdi.alignedFree(0) is None
    assert qbdi.freeMemory(0) is None


def test_allocate_memory(qbdi: Any) -> None:
    """allocateMemory gives that many writable bytes."""
    address = qbdi.allocateMemory(length=1000)
    qbdi.writeMemory(address, b"x" * 1000)
    assert qbdi.readMemory(address, 1000) == b"x" * 1000
    assert qbdi.freeMemory(address=address) is None


def test_allocate_nothing(qbdi: Any) -> None:
    """No bytes have an address nevertheless; more bytes than there are raise MemoryError."""
    assert qbdi.allocateMemory(0) > 0
    with pytest.raises(MemoryError):
        qbdi.allocateMemory(1 << 62)


def test_allocate_word(qbdi: Any) -> None:
    """allocateRword gives eight bytes."""
    address = qbdi.allocateRword()
    qbdi.writeRword(address, WORD)
    assert qbdi.readRword(address) == WORD
    qbdi.freeMemory(address)


@pytest.mark.parametrize("size", [0, 1, 7, 4096, 65536])
def test_read_what_was_written(qbdi: Any, page: int, size: int) -> None:
    """readMemory returns the bytes of writeMemory."""
    map_at(page)
    values = bytes(n * 7 % 256 for n in range(size))
    assert qbdi.writeMemory(page, values) is None
    assert type(qbdi.readMemory(page, size)) is bytes
    assert qbdi.readMemory(page, size) == values


def test_read_and_write_by_name(qbdi: Any, page: int) -> None:
    """The parameters are address, size, bytes and value."""
    map_at(page)
    qbdi.writeMemory(address=page, bytes=b"abc")
    assert qbdi.readMemory(address=page, size=4) == b"abc\0"
    qbdi.writeRword(address=page, value=WORD)
    assert qbdi.readRword(address=page) == WORD


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"abc", b"abc"), (b"a\0b", b"a\0b"), ("xyz", b"xyz"), ("\xe9\0x", b"\xc3\xa9\0x"),
        (bytearray(b"qq"), b"qq"), (b"", b""), ("", b""),
    ],
)  # fmt: skip
def test_what_can_be_written(qbdi: Any, page: int, value: Any, written: bytes) -> None:
    """Bytes and bytearrays are written as they are, text as UTF-8, without a zero at the end."""
    map_at(page)
    qbdi.writeMemory(page, b"." * 8)
    qbdi.writeMemory(page, value)
    assert qbdi.readMemory(page, 8) == written + b"." * (8 - len(written))


@pytest.mark.parametrize("value", [5, None, [1, 2], 1.5])
def test_what_cannot_be_written(qbdi: Any, page: int, value: object) -> None:
    """Anything else raises TypeError."""
    map_at(page)
    with pytest.raises(TypeError):
        qbdi.writeMemory(page, value)


def test_words_are_little_endian(qbdi: Any, page: int) -> None:
    """readRword and writeRword take eight bytes, at any address."""
    map_at(page)
    qbdi.writeRword(page, WORD)
    assert qbdi.readMemory(page, 9) == b"\x88\x77\x66\x55\x44\x33\x22\x11\0"
    assert qbdi.readRword(page + 1) == WORD >> 8
    qbdi.writeRword(page + 3, (1 << 64) - 1)
    assert qbdi.readRword(page + 3) == (1 << 64) - 1


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.5, "1", None])
def test_what_is_no_word(qbdi: Any, page: int, value: object) -> None:
    """Words are unsigned 64-bit integers; anything else raises TypeError and writes nothing."""
    map_at(page)
    with pytest.raises(TypeError):
        qbdi.writeRword(page, value)
    assert qbdi.readRword(page) == 0


@pytest.mark.parametrize(
    "function",
    ["readMemory", "writeMemory", "readRword", "writeRword", "alignedAlloc", "alignedFree",
     "allocateMemory", "freeMemory"],
)  # fmt: skip
def test_what_is_no_address_or_size(qbdi: Any, function: str) -> None:
    """Addresses and sizes are unsigned 64-bit integers; anything else raises TypeError."""
    more: dict[str, tuple[object, ...]] = {
        "readMemory": (1,), "writeMemory": (b"x",), "writeRword": (1,), "alignedAlloc": (16,),
    }  # fmt: skip
    for value in (-1, 1 << 64, 1.5, "1", None):
        with pytest.raises(TypeError):
            getattr(qbdi, function)(value, *more.get(function, ()))


@pytest.mark.parametrize("function", ["readMemory", "writeMemory", "readRword", "writeRword"])
def test_bad_addresses(qbdi: Any, function: str) -> None:
    """Where nothing is mapped, pydbi raises an OSError."""
    more: dict[str, tuple[object, ...]] = {
        "readMemory": (1,), "writeMemory": (b"x",), "writeRword": (1,),
    }  # fmt: skip
    for address in (8, BASE, 1 << 63, (1 << 64) - 1):
        if wrong(qbdi, "a bad address kills the process"):
            assert fate(getattr(qbdi, function), address, *more.get(function, ())) == "SIGSEGV"
        else:
            with pytest.raises(OSError, match=f"{address:#x}"):
                getattr(qbdi, function)(address, *more.get(function, ()))


def test_reading_at_address_zero(qbdi: Any) -> None:
    """Nothing is mapped at 0 either."""
    if wrong(qbdi, "it returns what happens to be in the new bytes object"):
        assert len(qbdi.readMemory(0, 5)) == 5
    else:
        with pytest.raises(OSError, match="0x0"):
            qbdi.readMemory(0, 5)


def test_reading_across_the_end_of_a_map(qbdi: Any, page: int) -> None:
    """A read that begins in a map and ends behind it fails as a whole."""
    map_at(page, 4096)
    assert qbdi.readMemory(page + 4090, 6) == bytes(6)
    if wrong(qbdi, "a bad address kills the process"):
        assert fate(qbdi.readMemory, page + 4090, 7) == "SIGSEGV"
    else:
        with pytest.raises(OSError, match=f"{page + 4096:#x}"):
            qbdi.readMemory(page + 4090, 7)


def test_reading_more_than_there_can_be(qbdi: Any, page: int) -> None:
    """So many bytes that no object could hold them are an error, not a crash."""
    map_at(page)
    reason = "it is a RuntimeError, not a MemoryError"
    with pytest.raises(either(qbdi, pyqbdi=RuntimeError, right=MemoryError, reason=reason)):
        qbdi.readMemory(page, 1 << 62)


def test_nothing_is_read_anywhere(qbdi: Any) -> None:
    """No bytes can be read at every address."""
    assert qbdi.readMemory(0, 0) == b""


INFINITY = math.inf
SINGLES = [
    (0, 0), (0.0, 0), (-0.0, 0x80000000), (1, 0x3F800000), (-1.5, 0xBFC00000), (0.1, 0x3DCCCCCD),
    (1e39, 0x7F800000), (-1e300, 0xFF800000), (INFINITY, 0x7F800000), (-INFINITY, 0xFF800000),
    (1e-45, 1), (1e-46, 0), (3.4028235e38, 0x7F7FFFFF), (3.4028236e38, 0x7F800000),
    (True, 0x3F800000), (math.nan, 0x7FC00000), (1 << 70, 0x62800000),
]  # fmt: skip
DOUBLES = [
    (0, 0), (-0.0, 1 << 63), (1, 0x3FF0000000000000), (-1.5, 0xBFF8000000000000),
    (0.1, 0x3FB999999999999A), (INFINITY, 0x7FF0000000000000), (-INFINITY, 0xFFF0000000000000),
    (5e-324, 1), (math.nan, 0x7FF8000000000000), (1.7976931348623157e308, 0x7FEFFFFFFFFFFFFF),
]  # fmt: skip


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def test_encode_float(qbdi: Any) -> None:
    """Rounded to single precision, infinite beyond its range; signed or unsigned."""
    for number, code in SINGLES:
        assert (number, qbdi.encodeFloatU(number)) == (number, code)
        assert (number, qbdi.encodeFloat(number)) == (number, signed(code, 32))


def test_encode_double(qbdi: Any) -> None:
    """The 64 bits as a signed or unsigned integer."""
    for number, code in DOUBLES:
        assert (number, qbdi.encodeDoubleU(number)) == (number, code)
        assert (number, qbdi.encodeDouble(number)) == (number, signed(code, 64))


def test_decode_float(qbdi: Any) -> None:
    """decodeFloat takes signed 32-bit integers, decodeFloatU unsigned ones."""
    codes = [0, 1, 0x3F800000, 0x7F800000, 0xFF800000, 1 << 31, 0x7FFFFFFF, 0xFFFFFFFF]
    texts = ["0.0", "1.401298464324817e-45", "1.0", "inf", "-inf", "-0.0", "nan", "nan"]
    assert [repr(qbdi.decodeFloatU(code)) for code in codes] == texts
    assert [repr(qbdi.decodeFloat(signed(code, 32))) for code in codes] == texts


def test_decode_double(qbdi: Any) -> None:
    """decodeDouble takes signed 64-bit integers, decodeDoubleU unsigned ones."""
    for number, code in DOUBLES:
        assert repr(qbdi.decodeDoubleU(code)) == repr(float(number))
        assert repr(qbdi.decodeDouble(signed(code, 64))) == repr(float(number))


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [("decodeFloat", -(1 << 31), 1 << 31), ("decodeFloatU", 0, 1 << 32),
     ("decodeDouble", -(1 << 63), 1 << 63), ("decodeDoubleU", 0, 1 << 64)],
)  # fmt: skip
def test_limits_of_decoding(qbdi: Any, function: str, low: int, high: int) -> None:
    """Integers outside the type's range, and what is no integer, raise TypeError."""
    decode = getattr(qbdi, function)
    assert isinstance(decode(low), float)
    assert isinstance(decode(high - 1), float)
    for value in (low - 1, high, 1.5, "1", None):
        with pytest.raises(TypeError):
            decode(value)


@pytest.mark.parametrize(
    "function", ["encodeFloat", "encodeFloatU", "encodeDouble", "encodeDoubleU"]
)
def test_what_is_no_number(qbdi: Any, function: str) -> None:
    """What is no number, or none that a double can hold, raises TypeError."""
    for value in ("1", None, b"1", 10**400):
        with pytest.raises(TypeError):
            getattr(qbdi, function)(value)
