"""The jump at a hooked function's entry, and the island near it that the jump leads to.

The jump has a 32-bit displacement, and the island is mapped within its reach:

    push [record]              which hook it is
    jmp  [stub]                hook_entry of asm_stubs/x86_64/hook.S
    ...                        the function's first instructions, moved
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

from pydbi.errors import CacheError
from pydbi.hooks.errors import HookError
from pydbi.hooks.relocation import JUMP_SIZE, Moved, jumps_into, move_entry
from pydbi.hooks.targets import Target
from pydbi.host.libc import PROT_EXEC, PROT_READ, PROT_WRITE, syscall
from pydbi.host.maps import read_mappings
from pydbi.host.memory import (
    PAGE_SIZE,
    map_near,
    page_ceil,
    page_floor,
    protect_memory,
    readMemory,
    view,
)
from pydbi.jit.app_memory import overlay
from pydbi.types import Permission

_PUSH_RECORD = b"\xff\x35" + (10).to_bytes(4, "little")  # push [rip + 10]
_JUMP_STUB = b"\xff\x25" + (12).to_bytes(4, "little")  # jmp [rip + 12]
_RECORD_AT, _STUB_AT, _MOVED_AT = 16, 24, 32
_ENTRY_WINDOW = 64
_WORD = 8
_SPIN = 0xFEEB  # jmp to itself, as a 16-bit word
_SYS_MEMBARRIER = 324
_REGISTER_SYNC_CORE, _SYNC_CORE = 1 << 6, 1 << 5  # MEMBARRIER_CMD_..., <linux/membarrier.h>

_islands: dict[int, int] = {}
"""By function. A thread may be in one at any time, so they are used again, never unmapped."""


class Patch:
    """The jump at one function's entry.

    Attributes:
        moved: the function's first instructions, in the island.
    """

    def __init__(self, target: Target, record: int, stub: int) -> None:
        self._target = target
        code = _readable(target.address, max(target.size, _ENTRY_WINDOW))
        from_where = jumps_into(target.address, code[: target.size])
        if from_where:
            raise HookError(
                f"{target.name} jumps back to its own first bytes, from {from_where:#x}: they "
                "cannot make room for a jump",
                app_address=target.address,
            )
        self._original = code[:JUMP_SIZE]
        self._island = _islands.get(target.address) or _map_island(target)
        self.moved: Moved = move_entry(target.name, target.address, code, self._island + _MOVED_AT)
        _write_island(self._island, record, stub, self.moved.code)
        _islands[target.address] = self._island

    @property
    def original(self) -> int:
        """Where to call the function, the jump bypassed."""
        return self._island + _MOVED_AT

    def native_address(self, app: int) -> int:
        """Return where to execute natively what is at *app*, an instruction of any function."""
        return self.moved.places.get(app, app)

    def apply(self) -> None:
        """Write the jump; guests go on seeing what was there."""
        address = self._target.address
        overlay(address, self._original)
        distance = self._island - address - JUMP_SIZE
        try:
            _write_code(address, b"\xe9" + distance.to_bytes(4, "little", signed=True))
        except OSError as error:
            overlay(address, b"")
            raise HookError(
                f"{self._target.name} cannot be written to: {error}", app_address=address
            ) from error

    def undo(self) -> None:
        """Write back what was there."""
        _write_code(self._target.address, self._original)
        overlay(self._target.address, b"")


def _readable(address: int, size: int) -> bytes:
    """Return *size* bytes, or as many as there are on the mapping; patched ones as they were."""
    end = next(m.end for m in read_mappings() if m.start <= address < m.end)
    return readMemory(address, min(size, end - address))


def _map_island(target: Target) -> int:
    try:
        return map_near(target.address, target.address + JUMP_SIZE, PAGE_SIZE)
    except CacheError as error:
        raise HookError(
            f"no memory within 2 GiB of {target.name} is free", app_address=target.address
        ) from error


def _write_island(island: int, record: int, stub: int, moved: bytes) -> None:
    protect_memory(island, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC)
    memory = view(island, PAGE_SIZE)
    code = (_PUSH_RECORD + _JUMP_STUB).ljust(_RECORD_AT, b"\xcc")
    code += record.to_bytes(_WORD, "little") + stub.to_bytes(_WORD, "little") + moved
    memory[: len(code)] = code
    protect_memory(island, PAGE_SIZE, PROT_READ | PROT_EXEC)


def _write_code(address: int, code: bytes) -> None:
    """Write *code* where other threads may be executing.

    One store, if it lies in one aligned word, as functions' entries usually do. Else threads that
    come by are held at the first two bytes until the others are written.
    """
    low, high = page_floor(address), page_ceil(address + len(code))
    permission = next(m.permission for m in read_mappings() if m.start <= address < m.end)
    protect_memory(low, high - low, PROT_READ | PROT_WRITE | PROT_EXEC)
    try:
        place = address % _WORD
        if place + len(code) <= _WORD:
            word = ctypes.c_uint64.from_address(address - place)
            bytes_there = bytearray(word.value.to_bytes(_WORD, "little"))
            bytes_there[place : place + len(code)] = code
            word.value = int.from_bytes(bytes_there, "little")
        else:
            head = ctypes.c_uint16.from_address(address)
            head.value = _SPIN
            _synchronize()
            view(address + 2, len(code) - 2)[:] = code[2:]
            _synchronize()
            head.value = int.from_bytes(code[:2], "little")
    finally:
        protect_memory(low, high - low, _protection(permission))
    _synchronize()


def _synchronize() -> None:
    """Let every processor that runs a thread of ours fetch its instructions anew."""
    with suppress(OSError):  # Linux before 4.16; changing the protection has done the same
        syscall(_SYS_MEMBARRIER, _REGISTER_SYNC_CORE, 0)
        syscall(_SYS_MEMBARRIER, _SYNC_CORE, 0)


def _protection(permission: Permission) -> int:
    bits = {Permission.PF_READ: PROT_READ, Permission.PF_WRITE: PROT_WRITE}
    bits[Permission.PF_EXEC] = PROT_EXEC
    return sum(value for bit, value in bits.items() if permission & bit)
