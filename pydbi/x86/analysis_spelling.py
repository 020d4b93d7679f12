"""Where LLVM's words for an instruction differ from Capstone's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pydbi.x86.analysis_forms import same_without_prefix, selecting_prefix
from pydbi.x86.instruction import LEGACY, Instruction

__all__ = ["spell"]

_REPEATS: Final = {2: "rep", 3: "repne"}
#: On xchg the repeat prefixes are hints for lock elision.
_ELISION: Final = {2: "xrelease", 3: "xacquire"}
_EXCHANGES: Final = frozenset((0x86, 0x87, *range(0x91, 0x98)))
_PAUSE: Final = 0x90
#: One-byte opcodes of string instructions and of moves with an absolute address: they take
#: segment and address prefixes without ModRM. jrcxz takes the latter.
_IMPLIED_MEMORY: Final = frozenset(
    (*range(0x6C, 0x70), *range(0xA0, 0xA8), *range(0xAA, 0xB0), 0xD7)
)
_JRCXZ: Final = 0xE3
#: fcmovcc, fucomi, fcomi, fucomip, fcomip: opcode and ModRM's reg field.
_WITH_TOP: Final = frozenset(
    (
        *((opcode, operation) for opcode in (0xDA, 0xDB) for operation in range(4)),
        *((opcode, operation) for opcode in (0xDB, 0xDF) for operation in (5, 6)),
    )
)
_FNSTSW: Final = 0xDF
#: String instructions that write to, or compare with, es:[rdi].
_TO_EXTRA: Final = frozenset((0x6C, 0x6D, *range(0xA4, 0xA8), 0xAA, 0xAB, 0xAE, 0xAF))
#: Capstone's sizes of the operands that LLVM gives none: environments and far pointers.
_UNSIZED: Final = frozenset(
    ("fldenv", "fnstenv", "frstor", "fnsave", "fxsave", "fxrstor", "fxsave64", "fxrstor64",
     "xsave", "xrstor", "xsave64", "xrstor64", "xsaveopt", "xsavec", "xsavec64", "xsaveopt64",
     "lcall", "lss", "lfs", "lgs", "ljmp", "lgdt", "lidt", "sgdt", "sidt")
)  # fmt: skip
_EXTRA: Final = re.compile(r"(?:%?es:)?(\[[re]di\]|\(%[re]di\))")
#: Conversions from a register, to which Capstone gives the suffix of their memory form.
_SUFFIXED: Final = re.compile(r"(v?cvtu?si2s[sdh])[lq]")
_SIZE: Final = re.compile(r"^(?:\w+ )?ptr ")


def spell(
    instruction: Instruction, words: str, parts: list[str], att_syntax: bool
) -> tuple[str, str]:
    """Return (mnemonic with its prefixes, operands) in LLVM's spelling.

    Args:
        instruction: what it is about.
        words: Capstone's mnemonic, prefixes included.
        parts: the operands, with numbers and memory in LLVM's spelling.
        att_syntax: they are in AT&T's syntax.
    """
    *said, name = words.split()
    if att_syntax and not instruction.is_memory:
        name = _SUFFIXED.sub(r"\1", name)
    prefixes = list(_prefixes(instruction, said))
    if instruction.encoding == LEGACY:
        if instruction.opcode_map == 0:
            parts = _one_byte(instruction, parts, att_syntax)
        elif instruction.opcode in (0x2E, 0x2F) and 0x66 in instruction.prefixes:
            parts = [part.replace("xmmword", "qword") for part in parts]
        if name in _UNSIZED or (instruction.is_memory and _is_far(instruction)):
            parts = [_SIZE.sub("", part) for part in parts]
    return "".join(f"{prefix}\t\t" for prefix in prefixes) + name, ", ".join(parts)


def _is_far(instruction: Instruction) -> bool:
    modrm = instruction.modrm or 0
    return instruction.opcode_map == 0 and instruction.opcode == 0xFF and modrm >> 3 & 7 in (3, 5)


def _prefixes(instruction: Instruction, said: list[str]) -> Iterator[str]:
    """Yield the prefixes that are written out: those that mean nothing, too."""
    for word in said:
        if word not in ("bnd", "rep", "repe", "repz", "repne", "repnz", "notrack"):
            yield word
    one_byte = instruction.encoding == LEGACY and instruction.opcode_map == 0
    if one_byte and not set(said) & {"xacquire", "xrelease"}:
        words = _ELISION if instruction.opcode in _EXCHANGES else _REPEATS
        repeat = words.get(selecting_prefix(instruction))
        if repeat and instruction.opcode != _PAUSE and same_without_prefix(instruction):
            yield repeat
    if instruction.is_memory or (one_byte and instruction.opcode in _IMPLIED_MEMORY):
        return
    if 0x67 in instruction.prefixes and (
        instruction.opcode_map != 0 or instruction.opcode != _JRCXZ
    ):
        yield "addr32"


def _one_byte(instruction: Instruction, parts: list[str], att_syntax: bool) -> list[str]:
    """Return the operands of a one-byte opcode."""
    opcode = instruction.opcode
    if 0xD8 <= opcode <= 0xDF:
        return _x87(instruction, parts, att_syntax)
    if opcode in (0xD0, 0xD1):
        return parts[1:] if att_syntax and len(parts) == 2 else parts[:1]
    if 0x90 <= opcode <= 0x97 or (opcode in (0x86, 0x87) and not instruction.is_memory):
        return parts[::-1]
    if opcode in _TO_EXTRA:
        return [_EXTRA.sub(r"%es:\1" if att_syntax else r"es:\1", part) for part in parts]
    return parts


def _x87(instruction: Instruction, parts: list[str], att_syntax: bool) -> list[str]:
    """Return the operands of an x87 instruction: LLVM names st where it takes part."""
    modrm = instruction.modrm or 0
    if modrm < 0xC0:
        if att_syntax:
            return [part.removeprefix("tbyte ptr ") for part in parts]
        return [part.replace("xword", "tbyte") for part in parts]
    if not parts or (instruction.opcode == _FNSTSW and modrm == 0xE0):
        return parts
    percent = "%" if att_syntax else ""
    top, other = f"{percent}st", f"{percent}st({modrm & 7})"
    operation = modrm >> 3 & 7
    opcode = instruction.opcode
    if opcode == 0xD8:
        pair = [other] if operation in (2, 3) else [top, other]
    elif opcode in (0xDC, 0xDE):
        pair = [other, top]
    elif (opcode, operation) in _WITH_TOP:
        pair = [top, other]
    else:
        pair = [other]
    return pair[::-1] if att_syntax else pair
