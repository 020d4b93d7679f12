"""An instruction as text, in PyQBDI's layout and LLVM's spelling; the words are Capstone's.

Capstone is imported when the first text is asked for: it takes longer than all of pydbi. It names
the instruction, the registers and the sizes; numbers and memory operands are written here, since
LLVM's differ: always hexadecimal, immediates and displacements signed, ``4*rcx`` for ``rcx*4``,
branches by their raw displacement.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pydbi.enums import OperandFlag, OperandType
from pydbi.errors import DecodeError
from pydbi.host.late import load, undisturbed
from pydbi.x86.analysis_forms import evex_mask, evex_zeroes, find_form
from pydbi.x86.analysis_operands import operands_of
from pydbi.x86.analysis_sizes import access_sizes
from pydbi.x86.analysis_spelling import spell
from pydbi.x86.instruction import LEGACY, Instruction, scan

if TYPE_CHECKING:
    from capstone import Cs

    from pydbi.x86.analysis import OperandAnalysis

__all__ = ["memory_displacement", "text_of"]

_LIMIT: Final = 1 << 15
_known: dict[tuple[bytes, bool], str] = {}
#: What LLVM's names have behind the instruction's: the form.
_FORM: Final = re.compile(r"(?:Z128|Z256|Z|Y)?(?:[rmbkzi]|_Int|_REV)+(?:32|64)?$")
_SIZES: Final = {
    1: "byte", 2: "word", 4: "dword", 8: "qword", 16: "xmmword", 32: "ymmword", 64: "zmmword",
}  # fmt: skip
_ENTER: Final = 0xC8
_NUMBER: Final = re.compile(r"-?(?:0x[0-9a-f]+|\d+)")
_ATT_NUMBER: Final = re.compile(r"\$-?(?:0x[0-9a-f]+|\d+)")
_ATT_MEMORY: Final = re.compile(
    r"(\*?)(?:%[c-gs]s:)?(?:-?(?:0x[0-9a-f]+|\d+)(?:\([^)]*\))?|\([^)]*\))"
)


@functools.cache
def _disassembler(att_syntax: bool) -> Cs:
    load("capstone")
    import capstone

    with undisturbed():  # it tries to import something, and hides any exception
        disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    if att_syntax:
        disassembler.syntax = capstone.CS_OPT_SYNTAX_ATT
    return disassembler


def text_of(code: bytes, att_syntax: bool) -> str:
    """Return the text of the instruction *code*, remembered for the same bytes elsewhere."""
    key = (code, att_syntax)
    text = _known.get(key)
    if text is None:
        if len(_known) >= _LIMIT:
            _known.clear()
        text = _known[key] = _text(code, att_syntax)
    return text


def _text(code: bytes, att_syntax: bool) -> str:
    operands = operands_of(code)[1]
    instruction = scan(code)
    for _, _, words, rest in _disassembler(att_syntax).disasm_lite(code, 0, 1):
        write = _write_att if att_syntax else _write_intel
        mnemonic, parts = spell(instruction, words, write(instruction, operands, rest), att_syntax)
        return f"\t{mnemonic}\t{parts}" if parts else f"\t{mnemonic}"
    return _without_capstone(instruction, operands, att_syntax)


def _immediates(operands: tuple[OperandAnalysis, ...]) -> Iterator[int]:
    """Yield the immediates that are written out, not those of an address."""
    for operand in operands:
        if operand.type == OperandType.OPERAND_IMM and not (
            operand.flag & (OperandFlag.OPERANDFLAG_ADDR | OperandFlag.OPERANDFLAG_UNDEFINED_EFFECT)
        ):
            yield operand.value


def _hex(value: int) -> str:
    return f"-{-value:#x}" if value < 0 else f"{value:#x}"


def _address(operands: tuple[OperandAnalysis, ...]) -> tuple[OperandAnalysis, ...]:
    """Return base, scale, index, displacement and segment."""
    mask = OperandFlag.OPERANDFLAG_ADDR | OperandFlag.OPERANDFLAG_UNDEFINED_EFFECT
    return tuple(operand for operand in operands if operand.flag & mask)


def _name(register: OperandAnalysis) -> str:
    return register.regName.lower() if register.regName else ""


def _write_intel(
    instruction: Instruction, operands: tuple[OperandAnalysis, ...], rest: str
) -> list[str]:
    """Return the operands of Capstone's text *rest*, each in LLVM's spelling."""
    if not rest:
        return []
    immediates = _immediates(operands)
    parts = rest.split(", ")
    for place, part in enumerate(parts):
        if "[" in part:
            parts[place] = _intel_memory(instruction, operands, part)
        elif _NUMBER.fullmatch(part):
            parts[place] = _hex(next(immediates, int(part, 0)))
    return parts


def _intel_memory(
    instruction: Instruction, operands: tuple[OperandAnalysis, ...], part: str
) -> str:
    size, _, behind = part.partition("[")
    address = _address(operands)
    if not instruction.is_memory or len(address) != 5:
        inner, _, behind = behind.partition("]")
        if _NUMBER.fullmatch(inner):
            inner = _hex(address[0].value)
        return f"{size}[{inner}]{behind}"
    base, scale, index, displacement, segment = address
    size = re.sub(r"[c-gs]s:$", "", size)
    if segment.regName:
        size += f"{_name(segment)}:"
    terms = [_name(base)] if base.regName else []
    if index.regName:
        factor = "" if terms and scale.value == 1 else f"{scale.value}*"
        terms.append(factor + _name(index))
    inner = " + ".join(terms)
    value = displacement.value
    if not terms:
        inner = _hex(value)
    elif value:
        inner += f" - {-value:#x}" if value < 0 else f" + {value:#x}"
    return f"{size}[{inner}]{behind.partition(']')[2]}"


def _write_att(
    instruction: Instruction, operands: tuple[OperandAnalysis, ...], rest: str
) -> list[str]:
    """Return the operands of Capstone's AT&T text *rest*, each in LLVM's spelling."""
    if not rest:
        return []
    immediates = list(_immediates(operands))
    if instruction.opcode != _ENTER or instruction.opcode_map:
        immediates.reverse()
    parts = re.split(r", (?![^(]*\))", rest)
    for place, part in enumerate(parts):
        if _ATT_NUMBER.fullmatch(part) and immediates:
            parts[place] = f"${_hex(immediates.pop(0))}"
        elif immediates and instruction.flow and _NUMBER.fullmatch(part):
            parts[place] = _hex(immediates.pop(0))
        elif "%" not in part[:1] or "(" in part or ":" in part:
            parts[place] = _ATT_MEMORY.sub(
                lambda match: match[1] + _att_memory(instruction, operands, match[0]),
                part,
                count=1,
            )
    return parts


def _att_memory(instruction: Instruction, operands: tuple[OperandAnalysis, ...], part: str) -> str:
    address = _address(operands)
    if not instruction.is_memory or len(address) != 5:
        if len(address) == 2 and address[0].type == OperandType.OPERAND_IMM:
            override = f"%{_name(address[1])}:" if address[1].regName else ""
            return f"{override}{_hex(address[0].value)}"
        return part.lstrip("*")
    base, scale, index, displacement, segment = address
    text = f"%{_name(segment)}:" if segment.regName else ""
    value = displacement.value
    if value or not (base.regName or index.regName):
        text += _hex(value)
    if base.regName or index.regName:
        inner = f"%{_name(base)}" if base.regName else ""
        if index.regName:
            inner += f",%{_name(index)}"
            inner += f",{scale.value}" if scale.value != 1 else ""
        text += f"({inner})"
    return text


def _without_capstone(
    instruction: Instruction, operands: tuple[OperandAnalysis, ...], att_syntax: bool
) -> str:
    """Return a text for what Capstone does not know, from LLVM's name and the operands."""
    load("pydbi.x86.llvm")
    from pydbi.x86.llvm import opcode_name_of

    name = _FORM.sub("", opcode_name_of(instruction.code)).lower()
    if instruction.encoding == LEGACY:
        name = name.rstrip("0123468")  # the operands' size
    parts: list[str] = []
    for operand in operands:
        if operand.flag & OperandFlag.OPERANDFLAG_IMPLICIT:
            continue
        if operand.flag:
            if not parts or "\0" not in parts:
                parts.append("\0")
        elif operand.regName:
            parts.append(("%" if att_syntax else "") + _name(operand))
        else:
            parts.append(("$" if att_syntax else "") + _hex(operand.value))
    write = _att_memory if att_syntax else _intel_memory
    memory = f"{_size_word(instruction)}[]"
    parts = [write(instruction, operands, memory) if part == "\0" else part for part in parts]
    if len(parts) > 1 and evex_mask(instruction):
        parts[0] += f" {{{parts.pop(1)}}}" + (" {z}" if evex_zeroes(instruction) else "")
    if att_syntax:
        parts.reverse()
    return "\t" + "\t".join(filter(None, (name, ", ".join(parts))))


def _size_word(instruction: Instruction) -> str:
    """Return Intel's word for the size of the memory operand, with a space behind, or nothing."""
    word = _SIZES.get(max(access_sizes(instruction, find_form(instruction))))
    return f"{word} ptr " if word else ""


def memory_displacement(code: bytes) -> int:
    """Return the displacement of an instruction's memory operand, in bytes.

    Raises:
        DecodeError: *code* is no valid instruction, or has no memory operand.
    """
    instruction = scan(code)
    address = _address(operands_of(instruction.code)[1])
    if len(address) != 5:
        raise DecodeError(0, code[:15], "no memory operand")
    return address[3].value
