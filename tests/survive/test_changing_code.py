"""Code that changes: by itself, through another mapping, and where mappings change."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from typing import Any

import pytest

import pydbi
from pydbi.host.libc import libc
from tests.exec.gnu_as import assemble

SIZE = 1 << 16
ROUNDS = 50
LOOP = """.intel_syntax noprefix
        xor     eax, eax
        xor     ecx, ecx
1:      add     rax, 1
        inc     byte ptr [rdx]          # the immediate of the instruction before
        inc     rcx
        cmp     rcx, rdi
        jne     1b
        ret
"""
IMMEDIATE = 3  # offset in `add rax, 1`
EXPECTED = sum(range(1, ROUNDS + 1))


def mapped_once() -> tuple[int, int]:
    """One mapping, writable and executable: (where it is executed, where it is written)."""
    address = libc.mmap(0, SIZE, 7, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    return address, address


def mapped_twice() -> tuple[int, int]:
    """The same memory, executable at one address and writable at another."""
    descriptor = os.memfd_create("code")
    os.ftruncate(descriptor, SIZE)
    execute = libc.mmap(0, SIZE, 5, mmap.MAP_SHARED, descriptor, 0)
    write = libc.mmap(0, SIZE, 3, mmap.MAP_SHARED, descriptor, 0)
    os.close(descriptor)
    return execute, write


def machine(low: int, counting: bool) -> Any:
    """A VM for the code at *low*."""
    vm = pydbi.VM()
    assert pydbi.allocateVirtualStack(vm.getGPRState(), SIZE)
    vm.addInstrumentedRange(low, low + SIZE)
    if counting:
        vm.addCodeCB(pydbi.PREINST, lambda *_: pydbi.CONTINUE, None)
    return vm


@pytest.mark.parametrize("counting", [False, True])
@pytest.mark.parametrize("mapping", [mapped_once, mapped_twice])
def test_it_changes_itself(mapping: Callable[[], tuple[int, int]], counting: bool) -> None:
    """A loop that rewrites an instruction of its own block runs as on the processor."""
    execute, write = mapping()
    code = bytes(assemble(LOOP))
    place = code.index(b"\x48\x83\xc0\x01") + IMMEDIATE
    vm = machine(execute, counting)
    for _ in range(3):
        ctypes.memmove(write, code, len(code))
        native = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long)
        assert native(execute)(ROUNDS, 0, write + place) == EXPECTED
        ctypes.memmove(write, code, len(code))
        assert vm.call(execute, [ROUNDS, 0, write + place]) == (True, EXPECTED)
    assert vm.stats.stale_blocks > ROUNDS


@pytest.mark.parametrize("mapping", [mapped_once, mapped_twice])
def test_python_changes_it(mapping: Callable[[], tuple[int, int]]) -> None:
    """What Python writes is executed next, without a word about it."""
    execute, write = mapping()
    vm = machine(execute, counting=False)
    for value in range(20):
        ctypes.memmove(write, b"\xb8" + value.to_bytes(4, "little") + b"\xc3", 6)
        assert vm.call(execute, []) == (True, value)


SYSTEM_CALLS = """.intel_syntax noprefix
        push    rbx
        push    r12
        mov     r12, rdi
        mov     ebx, 1
        xor     r13d, r13d
1:      mov     eax, 9                  # mmap
        mov     rdi, r12
        mov     esi, 4096
        mov     edx, 7
        mov     r10d, 0x32              # MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        mov     r8, -1
        xor     r9d, r9d
        syscall
        mov     byte ptr [rax], 0xb8    # mov eax, ebx; ret
        mov     [rax + 1], ebx
        mov     byte ptr [rax + 5], 0xc3
        mov     eax, 10                 # mprotect
        mov     rdi, r12
        mov     esi, 4096
        mov     edx, 5
        syscall
        call    r12
        add     r13, rax
        mov     eax, 11                 # munmap
        mov     rdi, r12
        mov     esi, 4096
        syscall
        inc     ebx
        cmp     ebx, 20
        jbe     1b
        mov     rax, r13
        pop     r12
        pop     rbx
        ret
"""


def test_mappings_change() -> None:
    """Code that the guest maps, makes executable, unmaps, and maps again at the same place."""
    execute, write = mapped_once()
    code = bytes(assemble(SYSTEM_CALLS))
    ctypes.memmove(write, code, len(code))
    place = libc.mmap(0, 4096, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    vm = machine(execute, counting=False)
    vm.addInstrumentedRange(place, place + 4096)
    for _ in range(3):
        assert vm.call(execute, [place]) == (True, sum(range(1, 21)))
    with pytest.raises(pydbi.GuestFault):
        vm.call(place, [])
