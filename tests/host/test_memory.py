"""Pages, room near an address, raw memory."""

from __future__ import annotations

import math
import pickle

import pytest

import pydbi
from pydbi.host import memory
from pydbi.host.libc import PROT_NONE, PROT_READ
from pydbi.host.maps import executable_ranges

PAGE = memory.PAGE_SIZE


@pytest.fixture
def page() -> int:
    """The first of two pages, of which the second cannot be accessed."""
    address = memory.map_memory(2 * PAGE)
    memory.protect_memory(address + PAGE, PAGE, PROT_NONE)
    yield address
    memory.unmap_memory(address, 2 * PAGE)


def test_mapped_memory_is_zero_and_writable(page: int) -> None:
    """New memory is zeroed, and a view on it reads and writes it."""
    view = memory.view(page, PAGE)
    assert bytes(view) == bytes(PAGE)
    view[3] = 7
    assert pydbi.readMemory(page, 4) == b"\0\0\0\7"


def test_occupied_address_is_refused(page: int) -> None:
    """A fixed address that is in use is an error that names it, and what is there stays."""
    pydbi.writeMemory(page, b"kept")
    with pytest.raises(FileExistsError, match=f"{page:#x}"):
        memory.map_memory(PAGE, address=page, fixed_noreplace=True)
    assert pydbi.readMemory(page, 4) == b"kept"


def test_impossible_size_is_refused() -> None:
    """More memory than there can be is an error that names the size."""
    with pytest.raises(OSError, match="0x1000000000000000 bytes"):
        memory.map_memory(1 << 60)


@pytest.mark.parametrize("size", [1, PAGE, 64 << 20])
def test_near_memory_is_in_reach(size: int) -> None:
    """Memory near a module is within a signed 32-bit displacement of all of it, and back."""
    for low, high, _ in executable_ranges():
        if high > 1 << 47:
            continue  # the vsyscall page, near which nothing can be mapped
        place = memory.map_near(low, high, size)
        try:
            assert place % PAGE == 0
            assert max(high, place + size) - min(low, place) <= 1 << 31
        finally:
            memory.unmap_memory(place, size)


def test_range_wider_than_the_reach_is_refused() -> None:
    """Near a range of 4 GiB there is no place, and the error says so."""
    with pytest.raises(pydbi.CacheError, match="2 GiB") as caught:
        memory.map_near(0x5000_0000_0000, 0x5001_0000_0000, PAGE)
    assert isinstance(caught.value, MemoryError)


@pytest.mark.parametrize(
    ("access", "bad"),
    [
        (lambda page: pydbi.readMemory(page + PAGE - 4, 8), PAGE),
        (lambda page: pydbi.readRword(page + PAGE), PAGE),
        (lambda page: pydbi.writeMemory(page + PAGE - 4, b"12345"), PAGE),
        (lambda page: pydbi.writeRword(page + PAGE + 8, 1), PAGE + 8),
    ],
)
def test_bad_address_is_named(page: int, access: object, bad: int) -> None:
    """Reading or writing where that is not possible raises an error with the first bad address."""
    with pytest.raises(pydbi.GuestMemoryError, match=f"{page + bad:#x}") as caught:
        access(page)  # type: ignore[operator]
    assert caught.value.address == page + bad
    assert isinstance(caught.value, OSError)
    assert pickle.loads(pickle.dumps(caught.value)).address == page + bad


def test_read_only_memory_is_not_written(page: int) -> None:
    """Writing respects the page's rights."""
    memory.protect_memory(page, PAGE, PROT_READ)
    with pytest.raises(pydbi.GuestMemoryError):
        pydbi.writeMemory(page, b"x")


def test_what_is_written_is_read(page: int) -> None:
    """Bytes, buffers and text (as UTF-8) are written; words are unsigned and little-endian."""
    pydbi.writeMemory(page, b"hello")
    pydbi.writeMemory(page + 5, bytearray(b" you"))
    pydbi.writeMemory(page + 9, "\u00e9")
    pydbi.writeMemory(page, b"")
    assert pydbi.readMemory(page, 11) == b"hello you\xc3\xa9"
    pydbi.writeRword(page, 2**64 - 2)
    assert pydbi.readRword(page) == 2**64 - 2
    assert pydbi.readMemory(page, 8) == b"\xfe" + b"\xff" * 7
    assert pydbi.readMemory(page, 0) == b""


@pytest.mark.parametrize("value", [-1, 2**64, 1.5, "1"])
def test_words_have_64_bits(page: int, value: object) -> None:
    """What is no unsigned 64-bit integer raises TypeError, as address and as value."""
    with pytest.raises(TypeError):
        pydbi.writeRword(page, value)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        pydbi.readMemory(value, 1)  # type: ignore[arg-type]


def test_allocation() -> None:
    """Allocated memory can be used and given back; giving 0 back does nothing."""
    for address in (pydbi.allocateMemory(100), pydbi.allocateRword()):
        pydbi.writeRword(address, 42)
        assert pydbi.readRword(address) == 42
        pydbi.freeMemory(address)
    pydbi.freeMemory(0)
    pydbi.alignedFree(0)
    with pytest.raises(MemoryError):
        pydbi.allocateMemory(1 << 62)


@pytest.mark.parametrize("align", [8, 16, 64, 4096])
def test_aligned_allocation(align: int) -> None:
    """An aligned block lies at a multiple of a power of two."""
    address = pydbi.alignedAlloc(100, align)
    assert address
    assert address % align == 0
    pydbi.alignedFree(address)


@pytest.mark.parametrize(("size", "align"), [(100, 3), (100, 0), (100, 4), (1 << 62, 16)])
def test_impossible_aligned_allocation(size: int, align: int) -> None:
    """Where there can be no such block the address is 0, as PyQBDI's."""
    assert pydbi.alignedAlloc(size, align) == 0


VALUES = [0.0, -0.0, 1.0, -1.0, 0.1, 1e300, -1e300, math.inf, -math.inf, math.nan, -math.nan, 3]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["Float", "FloatU", "Double", "DoubleU"])
def test_encoding_is_that_of_pyqbdi(name: str, value: float) -> None:
    """Floating-point numbers become the same integers as with PyQBDI, and numbers again."""
    pyqbdi = pytest.importorskip("pyqbdi")
    encoded = getattr(pydbi, f"encode{name}")(value)
    assert encoded == getattr(pyqbdi, f"encode{name}")(value)
    decoded = getattr(pydbi, f"decode{name}")(encoded)
    assert repr(decoded) == repr(getattr(pyqbdi, f"decode{name}")(encoded))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decodeFloat", 2**31),
        ("decodeFloatU", -1),
        ("decodeFloatU", 2**32),
        ("decodeDouble", 2**63),
        ("decodeDoubleU", -1),
        ("decodeDouble", 1.5),
        ("encodeDouble", "x"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: object) -> None:
    """A value outside the range of its type raises TypeError."""
    with pytest.raises(TypeError):
        getattr(pydbi, name)(value)
