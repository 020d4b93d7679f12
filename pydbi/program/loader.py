"""Mapping a program and its interpreter, as the kernel's ELF loader does."""

from __future__ import annotations

import ctypes
import os

from pydbi.host.libc import (
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from pydbi.host.maps import read_mappings
from pydbi.host.memory import page_ceil, page_floor
from pydbi.program import initial_stack
from pydbi.program.address_space import (
    EEXIST,
    MAP_FIXED,
    MAP_GROWSDOWN,
    SHARED_WITH_HOST,
    AddressSpace,
)
from pydbi.program.command import Command, check_executable
from pydbi.program.elf_image import ElfImage, Segment, read_image
from pydbi.program.errors import ProgramError
from pydbi.program.kernel import note
from pydbi.program.mappings import Area
from pydbi.tuples import NamedTuple

_ENOMEM = 12
_MAP_STACK = 0x20000
_SET_ID = 0o6000


class Loaded(NamedTuple):
    """A program, ready to begin."""

    image: ElfImage
    interpreter: ElfImage | None
    bias: int
    """What is added to the program's addresses."""
    base: int
    """What is added to the interpreter's; 0 without one."""
    start: int
    """App address of the first instruction: the interpreter's entry, if there is one."""
    rsp: int
    auxiliary: bytes
    """The auxiliary vector as it is on the stack."""

    @property
    def entry(self) -> int:
        """App address of the program's own entry."""
        return self.image.entry + self.bias


def read_images(command: Command) -> tuple[ElfImage, ElfImage | None]:
    """Read the headers of a program and of its interpreter.

    Raises:
        ProgramError: one of them cannot be run.
    """
    image = read_image(command.path)
    if os.stat(command.path).st_mode & _SET_ID:
        note("%s runs without the rights of its owner", os.fsdecode(command.path))
    if not image.interpreter:
        return image, None
    try:
        check_executable(image.interpreter)
    except ProgramError as error:
        reason = f"its interpreter is missing: {error}"
        raise ProgramError(error.errno or _ENOMEM, command.path, reason) from None
    return image, read_image(image.interpreter)


def load(
    space: AddressSpace,
    command: Command,
    images: tuple[ElfImage, ElfImage | None],
) -> Loaded:
    """Map the program of *command*, its interpreter and its stack.

    Raises:
        ProgramError: the address that it is linked at is taken, or there is no memory.
    """
    image, interpreter = images
    bias = _load_image(space, image)
    base = _load_image(space, interpreter) if interpreter else 0
    start = interpreter.entry + base if interpreter else image.entry + bias
    found = {
        initial_stack.AT_PHDR: image.headers_address and image.headers_address + bias,
        initial_stack.AT_PHENT: image.header_size,
        initial_stack.AT_PHNUM: image.header_count,
        initial_stack.AT_BASE: base,
        initial_stack.AT_ENTRY: image.entry + bias,
    }
    _note_vdso(space)
    rsp, auxiliary = _make_stack(space, command, image, found)
    return Loaded(image, interpreter, bias, base, start, rsp, auxiliary)


def _load_image(space: AddressSpace, image: ElfImage) -> int:
    """Map the segments of *image* and return its load address."""
    path = os.path.realpath(image.path)
    size = image.high - image.low
    flags = MAP_PRIVATE | MAP_FIXED
    if image.is_fixed:
        bias = 0
        flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE
    else:
        place = space.find_place(size, image.alignment)
        if not place:
            raise ProgramError(_ENOMEM, image.path, f"no room for its {size:#x} bytes")
        bias = place - image.low
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for segment in image.segments:
            _load_segment(space, image, segment, bias, flags, (descriptor, os.fsdecode(path)))
    finally:
        os.close(descriptor)
    return bias


def _load_segment(
    space: AddressSpace,
    image: ElfImage,
    segment: Segment,
    bias: int,
    flags: int,
    file: tuple[int, str],
) -> None:
    """Map what of *segment* is in *file*, a descriptor and its path, and zeros behind it."""
    start = page_floor(segment.address)
    file_end = segment.address + segment.file_size
    end = page_ceil(segment.address + segment.memory_size)
    mapped_end = page_ceil(file_end) if segment.file_size else start
    if segment.file_size:
        offset = page_floor(segment.offset)
        size = file_end - start
        result = space.map(start + bias, size, segment.protection, flags, file[0], offset, file[1])
        _check(image, result, start + bias)
        rest = mapped_end - file_end
        if rest and segment.memory_size > segment.file_size and segment.protection & PROT_WRITE:
            ctypes.memset(file_end + bias, 0, rest)
    if end > mapped_end:
        flags |= MAP_ANONYMOUS
        size = end - mapped_end
        result = space.map(mapped_end + bias, size, segment.protection, flags)
        _check(image, result, mapped_end + bias)


def _check(image: ElfImage, result: int, address: int) -> None:
    if result == -EEXIST:
        raise ProgramError(
            EEXIST,
            image.path,
            f"it is linked at {address:#x}, where this process has something of its own; run it "
            "under a Python that is a position-independent executable (file says 'pie executable')",
        )
    if result < 0:
        reason = f"cannot be mapped at {address:#x}: {os.strerror(-result)}"
        raise ProgramError(-result, image.path, reason)


def _make_stack(
    space: AddressSpace,
    command: Command,
    image: ElfImage,
    found: dict[int, int],
) -> tuple[int, bytes]:
    """Map the stack and fill it; return rsp and the auxiliary vector."""
    size, guard = initial_stack.stack_size()
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | _MAP_STACK
    # The kernel keeps other mappings away from below one that grows; this one is full grown.
    base = space.map(0, guard + size, PROT_NONE, flags)
    if base < 0:
        raise ProgramError(-base, command.path, f"no memory for a stack of {size:#x} bytes")
    top = base + guard + size
    protection = PROT_READ | PROT_WRITE | (PROT_EXEC if image.executable_stack else 0)
    flags |= MAP_FIXED | MAP_GROWSDOWN
    space.map(base + guard, size, protection, flags, path="[stack]")
    space.unmap(base, guard)
    rsp, content, auxiliary = initial_stack.build(
        top,
        size,
        command.arguments,
        command.environment,
        command.executed,
        initial_stack.auxiliary_vector(found),
    )
    ctypes.memmove(rsp, content, len(content))
    return rsp, auxiliary


def _note_vdso(space: AddressSpace) -> None:
    """Enter in the guest's mappings what the kernel gives every process."""
    for mapping in read_mappings():
        if mapping.path in SHARED_WITH_HOST:
            protection = int(mapping.permission)
            space.mappings.add(Area(mapping.start, mapping.end, protection, mapping.path))
