"""How many bytes an operand has, and an instruction reads and writes."""

from __future__ import annotations

from typing import Final

from pydbi.x86.analysis_forms import Form, evex_b, operand_size, vector_length
from pydbi.x86.instruction import Instruction

__all__ = ["BY_LENGTH", "access_sizes", "evex_scale", "size_in_bytes"]

#: By letter: sizes for operands of 2, 4 and 8 bytes (size >> 2 is 0, 1, 2).
_BY_OPERAND_SIZE: Final = {
    "v": (2, 4, 8),
    "y": (4, 4, 8),
    "s": (2, 8, 8),
    "z": (2, 4, 4),
    "b": (1, 1, 1),
    "w": (2, 2, 2),
    "d": (4, 4, 4),
    "q": (8, 8, 8),
    "D": (8, 8, 16),
    "F": (4, 6, 10),
    "B": (1, 1, 2),
    "x": (16, 16, 16),
    "Y": (32, 32, 32),
    "Z": (64, 64, 64),
    "m": (8, 8, 8),
}
#: By letter: bytes for a vector of 16.
BY_LENGTH: Final = {"L": 16, "H": 8, "Q": 4, "E": 2}


def size_in_bytes(letter: str, instruction: Instruction) -> int:
    """Return the size that a number or a letter of the tables stands for."""
    if letter.isdigit():
        return int(letter)
    size = operand_size(instruction)
    if letter in _BY_OPERAND_SIZE:
        return _BY_OPERAND_SIZE[letter][size >> 2]
    length = vector_length(instruction)
    if letter == "P":
        return 8 if length == 16 else length
    return BY_LENGTH[letter] * length // 16


def evex_scale(instruction: Instruction, form: Form) -> int:
    """Return by how much EVEX multiplies a displacement of one byte."""
    if form.scale is not None:
        return size_in_bytes(form.scale, instruction)
    load, store = access_sizes(instruction, form)
    return load or store or 1


def access_sizes(instruction: Instruction, form: Form) -> tuple[int, int]:
    """Return how many bytes of memory are (read, written)."""
    load = 0 if form.load is None else size_in_bytes(form.load, instruction)
    store = 0 if form.store is None else size_in_bytes(form.store, instruction)
    if instruction.is_memory:
        for token in form.operands:
            if token.what == "E":
                size = size_in_bytes(token.size or token.kind, instruction)
                if evex_b(instruction):
                    size = _element_size(instruction, form)
                load += size if token.access & 1 else 0
                store += size if token.access & 2 else 0
    return load, store


def _element_size(instruction: Instruction, form: Form) -> int:
    """Return the size in bytes of the element that EVEX.b broadcasts."""
    if form.element is not None:
        return size_in_bytes(form.element, instruction)
    return 2 if instruction.opcode_map >= 5 else 8 if instruction.wide else 4
