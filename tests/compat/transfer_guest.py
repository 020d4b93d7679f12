"""Code that calls what is not instrumented, for tests of transfers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from tests.compat.test_events import EventGuest

TEXT = """
    mov rdi, rbx
    call [rip + data]
back:
    add rax, 1
    jmp end
alternative:
    add rax, 500
    jmp end
deep:
    call tail
returned:
    jmp end
tail:
    jmp [rip + data]
loop:
    mov ecx, 2
turn:
    push rcx
    call double
counted:
    pop rcx
    dec ecx
    jnz turn
    jmp end
choice:
    call chooses
chosen:
    jmp end
chooses:
    test rdi, rdi
    jnz double
    ret
pushes:
    call pusher
pushed:
    jmp end
pusher:
    lea rax, [rip + double]
    push rax
    ret
vectors:
    call sum
added:
    jmp end
inside:
    mov rax, 7
    ret
outer:
    mov rbx, rax
    jmp [rip + data]
outside:
    nop
double:
    lea rax, [rdi + rdi]
    ret
sum:
    addsd xmm0, xmm1
    ret
calling:
    call inside
    ret
"""
STEPS = ["10 start-back double", "32 double-double double", "64 double-double back"]


class TransferGuest(EventGuest):
    """Code of which all from ``outside`` on is not instrumented; ``[data]`` has its address."""

    def __init__(self, qbdi: Any, target: str = "double") -> None:
        super().__init__(qbdi, TEXT)
        self.vm.removeInstrumentedRange(self["outside"], self["end"])
        self.write(0, struct.pack("<Q", self[target]))
        self.set(rbx=21, rdi=21)


Make = Callable[..., TransferGuest]
