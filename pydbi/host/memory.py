"""Pages, room near an address, and raw memory.

Reads and writes go through ``process_vm_readv`` and ``process_vm_writev`` on the own process, where
a bad address is an error and not a fault.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any, SupportsFloat, SupportsIndex

from pydbi.enums.integers import Integer, signed, unsigned
from pydbi.errors import CacheError, GuestMemoryError
from pydbi.host.libc import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    IoVector,
    last_error,
    libc,
)
from pydbi.host.maps import gaps

PAGE_SIZE = 4096

# A displacement is relative to the end of its instruction, which is at most 15 bytes long.
_REACH = (1 << 31) - 16
_WORD = struct.Struct("<Q")


def page_floor(address: int) -> int:
    """Round *address* down to the start of its page."""
    return address & -PAGE_SIZE


def page_ceil(address: int) -> int:
    """Round *address* up to the next start of a page."""
    return -(-address // PAGE_SIZE) * PAGE_SIZE


def map_memory(
    size: int,
    protection: int = PROT_READ | PROT_WRITE,
    address: int = 0,
    *,
    fixed_noreplace: bool = False,
) -> int:
    """Map *size* bytes of zeroed private memory and return their address.

    Args:
        size: bytes, rounded up to whole pages.
        protection: `PROT_` values of `pydbi.host.libc`.
        address: where it should lie (0: anywhere); the kernel may choose another place.
        fixed_noreplace: exactly there, or not at all; what is mapped there already stays.

    Raises:
        OSError: the kernel refused; the message names address and size.
    """
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    if fixed_noreplace:
        flags |= MAP_FIXED_NOREPLACE
    size = page_ceil(size)
    result = map_pages(size, protection, address, flags)
    if fixed_noreplace and result != address:
        # Linux before 4.17 takes the unknown flag for a hint.
        unmap_memory(result, size)
        raise OSError(17, f"mapping {size:#x} bytes at {address:#x}: the address is in use")
    return result


def map_pages(size: int, protection: int, address: int, flags: int, descriptor: int = -1) -> int:
    """Call mmap with `PROT_` and `MAP_` values of `pydbi.host.libc`, and return the address.

    Raises:
        OSError: the kernel refused; the message names address and size.
    """
    result: int = libc.mmap(address, size, protection, flags, descriptor, 0)
    if result == MAP_FAILED:
        where = f" at {address:#x}" if address else ""
        raise last_error(f"mapping {size:#x} bytes{where}")
    return result


def unmap_memory(address: int, size: int) -> None:
    """Give memory of `map_memory` back.

    Raises:
        OSError: the kernel refused; the message names address and size.
    """
    if libc.munmap(address, page_ceil(size)) != 0:
        raise last_error(f"unmapping {size:#x} bytes at {address:#x}")


def protect_memory(address: int, size: int, protection: int) -> None:
    """Change the access rights of mapped pages.

    Raises:
        OSError: the kernel refused; the message names address and size.
    """
    if libc.mprotect(address, page_ceil(size), protection) != 0:
        raise last_error(f"protecting {size:#x} bytes at {address:#x}")


def map_near(low: int, high: int, size: int, protection: int = PROT_READ | PROT_WRITE) -> int:
    """Map *size* bytes as close to [*low*, *high*) as possible and return their address.

    Code anywhere in either of the two regions reaches every byte of the other with a signed 32-bit
    displacement: that is what makes RIP-relative operands and branches relocatable.

    Raises:
        CacheError: all such places are taken, or the range and *size* are too large together.
        OSError: the kernel refused for another reason.
    """
    size = page_ceil(size)
    lowest, highest = high - _REACH, low + _REACH - size  # of the region's first address
    candidates = []
    for start, end in gaps():
        first = max(page_ceil(start), page_ceil(max(lowest, 0)))
        last = min(page_floor(end - size), page_floor(highest))
        if first <= last:
            place = min(max(first, page_floor(low - size)), last)
            distance = max(low - (place + size), place - high, 0)
            candidates.append((distance, place))
    for _, place in sorted(candidates):
        try:
            return map_memory(size, protection, place, fixed_noreplace=True)
        except FileExistsError:
            continue  # another thread took it since the maps were read
    raise CacheError(
        f"no free {size:#x} bytes within 2 GiB of all of {low:#x}-{high:#x}; "
        "instrument a smaller range, or ask for a smaller cache",
        app_address=low,
    )


def view(address: int, size: int) -> memoryview:
    """Return raw memory as a writable view of bytes, without a check and without keeping it alive.

    Touching it where nothing is mapped kills the process: it is for pages that pydbi mapped.
    """
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


def _transfer(function: str, verb: str, address: int, buffer: int, size: int) -> None:
    """Copy between *address*, which may be bad, and *buffer*, which is ours."""
    done = 0
    while done < size:
        local = IoVector(buffer + done, size - done)
        remote = IoVector(address + done, size - done)
        count = getattr(libc, function)(
            os.getpid(), ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0
        )
        if count <= 0:
            reason = os.strerror(ctypes.get_errno())
            raise GuestMemoryError(
                f"cannot {verb} {size} bytes at {address:#x}: {reason} at {address + done:#x}",
                address=address + done,
            )
        done += count


def readMemory(address: Integer, size: Integer) -> bytes:
    """Return *size* bytes of memory.

    Raises:
        GuestMemoryError: not all of them are readable; it names the first bad address.
    """
    start, length = unsigned(address, "address"), unsigned(size, "size")
    try:
        buffer = ctypes.create_string_buffer(length)
    except (OverflowError, ValueError):
        raise MemoryError(f"cannot allocate {length} bytes") from None
    _transfer("process_vm_readv", "read", start, ctypes.addressof(buffer), length)
    return buffer.raw


def writeMemory(address: Integer, bytes: bytes | bytearray | memoryview | str) -> None:
    """Write *bytes* to memory; text is written as UTF-8, without a final zero.

    Raises:
        GuestMemoryError: not all of it is writable; it names the first bad address, and what lies
            before that has been written.
    """
    start = unsigned(address, "address")
    try:
        data = bytes.encode() if isinstance(bytes, str) else bytes
        buffer = (ctypes.c_char * len(data)).from_buffer_copy(data)
    except (TypeError, UnicodeEncodeError) as error:
        raise TypeError(f"bytes or text must be written, not {bytes!r}: {error}") from None
    _transfer("process_vm_writev", "write", start, ctypes.addressof(buffer), len(data))


def readRword(address: Integer) -> int:
    """Return the unsigned 64-bit integer at *address*.

    Raises:
        GuestMemoryError: it is not readable.
    """
    word: int = _WORD.unpack(readMemory(address, 8))[0]
    return word


def writeRword(address: Integer, value: Integer) -> None:
    """Write an unsigned 64-bit integer to *address*.

    Raises:
        GuestMemoryError: it is not writable.
    """
    writeMemory(address, _WORD.pack(unsigned(value)))


def allocateMemory(length: Integer) -> int:
    """Return the address of *length* new bytes; `freeMemory` gives them back.

    Raises:
        MemoryError: there is not so much memory.
    """
    address: int = libc.malloc(unsigned(length, "length"))
    if not address:
        raise MemoryError(f"cannot allocate {length} bytes")
    return address


def allocateRword() -> int:
    """Return the address of eight new bytes; `freeMemory` gives them back."""
    return allocateMemory(8)


def freeMemory(address: Integer) -> None:
    """Give memory of `allocateMemory` or `allocateRword` back; 0 is ignored."""
    libc.free(unsigned(address, "address"))


def alignedAlloc(size: Integer, align: Integer) -> int:
    """Return the address of *size* new bytes at a multiple of *align*, or 0.

    It is 0, as PyQBDI's, if *align* is not a power of two of at least 8, or the memory is not
    there. `alignedFree` gives it back.
    """
    length, boundary = unsigned(size, "size"), unsigned(align, "align")
    if boundary < 8 or boundary & (boundary - 1):
        return 0
    address: int = libc.aligned_alloc(max(boundary, 16), length)
    return address


def alignedFree(ptr: Integer) -> None:
    """Give memory of `alignedAlloc` or `allocateVirtualStack` back; 0 is ignored."""
    address = unsigned(ptr, "ptr")
    stack = _stacks.pop(address, None)
    if stack is None:
        libc.free(address)
    else:
        unmap_memory(*stack)


STACK_GAP = 1 << 20
"""Bytes below a stack that cannot be accessed: larger than the frames of most functions."""
_stacks: dict[int, tuple[int, int]] = {}


def map_stack(size: int) -> int:
    """Map a stack of *size* bytes and return its lowest address, for `alignedFree`.

    Raises:
        OSError: there is no memory.
    """
    whole = STACK_GAP + page_ceil(size)
    mapping = map_memory(whole)
    protect_memory(mapping, STACK_GAP, PROT_NONE)
    base = mapping + STACK_GAP
    _stacks[base] = (mapping, whole)
    return base


def is_below_stack(address: int) -> bool:
    """Whether *address* lies in the gap below a stack of `map_stack`."""
    return any(mapping <= address < mapping + STACK_GAP for mapping, _ in _stacks.values())


def _real(value: SupportsFloat | SupportsIndex) -> float:
    """Return *value* as a float; TypeError if it is text, complex or too large, as in PyQBDI."""
    if isinstance(value, (str, bytes, bytearray)):
        raise TypeError(f"val must be a number, not {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise TypeError(f"val must be a number: {error}") from None


def _reinterpret(source: str, target: str, value: float) -> Any:
    """Return *value*'s bytes as another type; both are format characters of `struct`."""
    return struct.unpack("<" + target, struct.pack("<" + source, value))[0]


def _single(value: SupportsFloat | SupportsIndex) -> float:
    """Round to single precision, with infinity beyond its range as the processor does."""
    return ctypes.c_float(_real(value)).value


def encodeFloat(val: SupportsFloat | SupportsIndex) -> int:
    """Return the bytes of a single-precision number as a signed 32-bit integer."""
    return int(_reinterpret("f", "i", _single(val)))


def encodeFloatU(val: SupportsFloat | SupportsIndex) -> int:
    """Return the bytes of a single-precision number as an unsigned 32-bit integer."""
    return int(_reinterpret("f", "I", _single(val)))


def decodeFloat(val: Integer) -> float:
    """Return the single-precision number whose bytes are a signed 32-bit integer."""
    return float(_reinterpret("i", "f", signed(val, "val", 32)))


def decodeFloatU(val: Integer) -> float:
    """Return the single-precision number whose bytes are an unsigned 32-bit integer."""
    return float(_reinterpret("I", "f", unsigned(val, "val", 32)))


def encodeDouble(val: SupportsFloat | SupportsIndex) -> int:
    """Return the bytes of a double-precision number as a signed 64-bit integer."""
    return int(_reinterpret("d", "q", _real(val)))


def encodeDoubleU(val: SupportsFloat | SupportsIndex) -> int:
    """Return the bytes of a double-precision number as an unsigned 64-bit integer."""
    return int(_reinterpret("d", "Q", _real(val)))


def decodeDouble(val: Integer) -> float:
    """Return the double-precision number whose bytes are a signed 64-bit integer."""
    return float(_reinterpret("q", "d", signed(val, "val")))


def decodeDoubleU(val: Integer) -> float:
    """Return the double-precision number whose bytes are an unsigned 64-bit integer."""
    return float(_reinterpret("Q", "d", unsigned(val, "val")))
