"""The operands of an instruction, in LLVM's order: the fields of ANALYSIS_OPERANDS."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Final

from pydbi.enums import OperandFlag, OperandType, RegisterAccessType
from pydbi.x86.analysis import OperandAnalysis, make_operand
from pydbi.x86.analysis_forms import (
    Form,
    Token,
    evex_mask,
    find_form,
    operand_size,
    vector_length,
)
from pydbi.x86.analysis_registers import CLASSES, REGISTERS
from pydbi.x86.analysis_sizes import BY_LENGTH, evex_scale
from pydbi.x86.instruction import EVEX, LEGACY, VEX2, Instruction, scan
from pydbi.x86.registers import RSP

__all__ = ["operands_of"]

_ADDRESS_SIZE: Final = 0x67
_SEGMENTS: Final = {0x26: "ES", 0x2E: "CS", 0x36: "SS", 0x3E: "DS", 0x64: "FS", 0x65: "GS"}
#: What LLVM gives for an address as an immediate, in bytes.
_ADDRESS: Final = 8

_Operands = tuple[OperandAnalysis, ...]
_known: dict[bytes, tuple[RegisterAccessType, _Operands]] = {}
_LIMIT: Final = 1 << 15


def operands_of(code: bytes) -> tuple[RegisterAccessType, _Operands]:
    """Return the access to the flags, and the operands, of the instruction *code*."""
    result = _known.get(code)
    if result is None:
        if len(_known) >= _LIMIT:
            _known.clear()
        instruction = scan(code)
        form = find_form(instruction)
        operands = tuple(_Builder(instruction, form).operands())
        result = _known[code] = RegisterAccessType(form.flags), operands
    return result


#: Classes of registers by operand size, and by vector length.
_CLASS_BY_SIZE: Final = {"v": "wdq", "y": "ddq", "s": "wqq", "z": "wdd"}
_VECTORS: Final = {16: "x", 32: "Y", 64: "Z"}
#: First letters of implicit registers that stand for a size: what they become.
_NAMES: Final = {
    "r": ("{}", "E{}", "R{}"),
    "y": ("E{}", "E{}", "R{}"),
    "s": ("E{}", "R{}", "R{}"),
    "z": ("{}", "E{}", "E{}"),
}
_NARROW: Final = {"nAX": ("AL", "AX", "EAX")}


@functools.cache
def _register(name: str, flag: int, access: int) -> OperandAnalysis:
    register = REGISTERS[name]
    return make_operand(
        register.type,
        OperandFlag(flag),
        register.number,
        register.size,
        register.offset,
        register.context,
        name,
        RegisterAccessType(access),
    )


@functools.lru_cache(1 << 12)
def _immediate(value: int, size: int, flag: int) -> OperandAnalysis:
    return make_operand(
        OperandType.OPERAND_IMM,
        OperandFlag(flag),
        value,
        size,
        0,
        -1,
        None,
        RegisterAccessType.REGISTER_UNUSED,
    )


@functools.cache
def _nothing(flag: int) -> OperandAnalysis:
    """Return what stands where an address has no register."""
    return make_operand(
        OperandType.OPERAND_INVALID,
        OperandFlag(flag),
        0,
        0,
        0,
        -1,
        None,
        RegisterAccessType.REGISTER_UNUSED,
    )


class _Builder:
    """Turns the tokens of a form into the operands of one instruction."""

    def __init__(self, instruction: Instruction, form: Form) -> None:
        self.instruction = instruction
        self.form = form
        self.imm_at = instruction.imm_offset

    def operands(self) -> Iterator[OperandAnalysis]:
        """Yield the operands."""
        for token in self.form.operands:
            what = token.what
            if what in ("M", "A") or (what == "E" and self.instruction.is_memory):
                yield from self._memory(token)
            elif what in _FIELDS:
                number = _FIELDS[what](self.instruction)
                yield _register(self._name(token.kind, number), token.flag, token.access)
            elif what[0] == "i" or what in _IMMEDIATES:
                yield self._immediate(token)
            elif what == "0":
                yield self._segment(token.flag)
            else:
                yield _register(self._named(token), token.flag, token.access)

    def _name(self, kind: str, number: int) -> str:
        """Return the name of register *number* of a class."""
        if kind in _CLASS_BY_SIZE:
            kind = _CLASS_BY_SIZE[kind][operand_size(self.instruction) >> 2]
        elif kind in BY_LENGTH:
            size = BY_LENGTH[kind] * vector_length(self.instruction) // 16
            kind = _VECTORS[max(size, 16)]
        elif kind == "a":
            kind = "d" if self._narrow_address else "q"
        elif kind == "b" and self.instruction.encoding == LEGACY and not self.instruction.rex:
            kind = "h"
        names = CLASSES[kind]
        return names[number % len(names)]

    def _named(self, token: Token) -> str:
        """Return the name of a register that the form names, at its size."""
        name = token.what
        size = operand_size(self.instruction) >> 2
        if name in _NARROW:
            return _NARROW[name][size]
        if name[0] in _NAMES:
            return _NAMES[name[0]][size].format(name[1:])
        if token.flag & OperandFlag.OPERANDFLAG_ADDR and self._narrow_address:
            return "E" + name[1:]
        if name == "RCX" and self._narrow_address:
            return "ECX"
        return name

    @property
    def _narrow_address(self) -> bool:
        return _ADDRESS_SIZE in self.instruction.prefixes

    def _segment(self, flag: int) -> OperandAnalysis:
        """Return the segment override in force, whether it matters or not."""
        for byte in reversed(self.instruction.prefixes):
            if byte in _SEGMENTS:
                return _register(_SEGMENTS[byte], flag, 1)
        return _nothing(flag)

    def _memory(self, token: Token) -> Iterator[OperandAnalysis]:
        """Yield base, scale, index, displacement and segment."""
        instruction = self.instruction
        flag = 4 if token.what == "A" else 1
        address = "d" if self._narrow_address else "q"
        vector = token.kind if token.what == "M" else ""
        base, index = instruction.base, _index(instruction, vector)
        if instruction.is_rip_relative:
            yield _register("EIP" if self._narrow_address else "RIP", flag, 1)
        elif base is None:
            yield _nothing(flag)
        else:
            yield _register(CLASSES[address][base], flag, 1)
        yield _immediate(instruction.scale, _ADDRESS, flag)
        if index is None:
            yield self._no_index(flag)
        else:
            yield _register(self._name(vector or address, index), flag, 1)
        yield _immediate(self._displacement(), _ADDRESS, flag)
        yield self._segment(flag)

    def _no_index(self, flag: int) -> OperandAnalysis:
        """Return what stands for no index: a name where the SIB byte could have been shorter."""
        instruction = self.instruction
        base = instruction.base
        if instruction.sib is None or (
            instruction.scale == 1 and (base is None or base & 7 == RSP)
        ):
            return _nothing(flag)
        return _register("EIZ" if self._narrow_address else "RIZ", flag, 1)

    def _displacement(self) -> int:
        """Return the displacement in bytes, an EVEX one multiplied."""
        instruction = self.instruction
        displacement = instruction.displacement
        if instruction.encoding == EVEX and instruction.disp_size == 1:
            return displacement * evex_scale(instruction, self.form)
        return displacement

    def _immediate(self, token: Token) -> OperandAnalysis:
        """Return the next immediate; the last one may be shorter than the form says."""
        instruction = self.instruction
        size, signed = _immediate_kind(token.what, instruction)
        if instruction.imm_offset == 0:
            return _immediate(0, size, token.flag)
        end = instruction.imm_offset + instruction.imm_size
        field = instruction.code[self.imm_at : min(self.imm_at + size, end)]
        self.imm_at += size
        if size == _ADDRESS and len(field) < size:
            signed = False  # an absolute address of 4 bytes
        value = int.from_bytes(field, "little", signed=signed)
        if instruction.encoding != LEGACY and any(t.what == "I" for t in self.form.operands):
            value &= 15  # beside a register in the high half
        return _immediate(value, size, token.flag)


def _immediate_kind(what: str, instruction: Instruction) -> tuple[int, bool]:
    """Return the size in bytes that LLVM gives an immediate, and whether it is signed."""
    size = operand_size(instruction) >> 2
    if what in _IMMEDIATES:
        return _IMMEDIATES[what][size]
    return int(what[1]), what.endswith("s")


#: By letter: (size, signed) for operands of 2, 4 and 8 bytes.
_IMMEDIATES: Final = {
    "iz": ((2, False), (4, False), (4, True)),
    "iv": ((2, False), (4, False), (8, True)),
    "is": ((2, False), (4, True), (4, True)),
    "js": ((2, True), (4, True), (4, True)),
}


def _index(instruction: Instruction, kind: str) -> int | None:
    """Return the number of the index register, a vector's where *kind* is given."""
    if not kind:
        return instruction.index
    sib = instruction.sib
    if sib is None:
        return None
    at = instruction.opcode_offset
    first = instruction.code[at - (3 if instruction.encoding == EVEX else 2)]
    number = sib >> 3 & 7 | (0 if instruction.encoding == VEX2 else ~first >> 3 & 8)
    if instruction.encoding == EVEX:
        number |= ~instruction.code[at - 1] << 1 & 16
    return number


def _opcode_register(instruction: Instruction) -> int:
    return instruction.opcode & 7 | (instruction.rex & 1) << 3


def _immediate_register(instruction: Instruction) -> int:
    return instruction.code[instruction.imm_offset] >> 4


_FIELDS: Final = {
    "E": lambda instruction: instruction.rm,
    "R": lambda instruction: instruction.reg,
    "V": lambda instruction: instruction.vvvv,
    "O": _opcode_register,
    "I": _immediate_register,
    "K": evex_mask,
}
