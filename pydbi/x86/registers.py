"""The general purpose registers by their encoding: the number that ModRM, SIB and opcodes use."""

from __future__ import annotations

from typing import Final

__all__ = [
    "GENERAL_REGISTER_NAMES",
    "R8",
    "R9",
    "R10",
    "R11",
    "R12",
    "R13",
    "R14",
    "R15",
    "RAX",
    "RBP",
    "RBX",
    "RCX",
    "RDI",
    "RDX",
    "RSI",
    "RSP",
]

#: Encoding numbers (Intel SDM volume 2, section 2.2.1.2 and table 2-2); 8-15 need a REX, VEX or
#: EVEX bit beside the three bits in the instruction.
RAX: Final = 0
RCX: Final = 1
RDX: Final = 2
RBX: Final = 3
RSP: Final = 4
RBP: Final = 5
RSI: Final = 6
RDI: Final = 7
R8: Final = 8
R9: Final = 9
R10: Final = 10
R11: Final = 11
R12: Final = 12
R13: Final = 13
R14: Final = 14
R15: Final = 15

#: The 64-bit names, indexed by the encoding number.
GENERAL_REGISTER_NAMES: Final = (
    "rax",
    "rcx",
    "rdx",
    "rbx",
    "rsp",
    "rbp",
    "rsi",
    "rdi",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
)
