"""The language in which names are written: templates, and the lines that assign them to opcodes.

A line of a table reads ``opcodes selectors : bases : form``. Opcodes and selectors are those of
`pydbi.x86.opcode_maps`, and ``W0`` and ``W1``; later lines override earlier ones here too. There is
one base for all opcodes, or one for each, or with a single opcode one for each selected ModRM byte.
The template of an opcode is its base with the form appended; without a form the bases are the
templates.

A template is literal text and choices. What a choice depends on is told by its brackets:

======== ================================= ===========================================
choice   depends on                        values
======== ================================= ===========================================
<a|b>    ModRM.mod                         memory, register
[a|b]    REX.W, VEX.W, EVEX.W              0, 1
(a|b)    VEX.L, EVEX.L'L; 67 prefix        0, 1 (2)
{a|...}  ModRM.reg                         0 to 7
/a|b|c/  the operand size                  16, 32, 64
\\*        the operand size                  16, 32, 64
%        the size of its full immediate    16, 32, 32
#        the same, where LLVM leaves out   nothing, nothing, 32
         what equals the operand's size
$        the vector length                 nothing, Y (VEX); Z128, Z256, Z (EVEX)
^        EVEX.b                            nothing, b
&        EVEX.b of a memory operand        nothing, b: the element is broadcast
~        EVEX.b of a register operand      nothing, b: rounding or exceptions are controlled
!        EVEX.b of a register operand      nothing, b_Int
@        EVEX.aaa and EVEX.z               nothing, k, kz
======== ================================= ===========================================

The choices that only one encoding has are empty in the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from pydbi.x86.instruction import EVEX, LEGACY, VEX2, VEX3, XOP
from pydbi.x86.tables import parse_lines

__all__ = ["Axes", "Cell", "Part", "cells_of", "compile_template"]


#: What the choices of a template depend on: for each axis, the number of the choice to take.
Axes = tuple[int, int, int, int, int, int, int, int, int]
#: One piece of a template: the axis that it depends on, and what it is for each value of it.
Part = tuple[int, tuple[str, ...]]
#: One line's word on an opcode: for which ModRM bytes and which W it is (None: all), the template.
Cell = tuple[frozenset[int] | None, int | None, str]

#: The axes.
_FORM, _WIDE, _LENGTH, _REG, _SIZE, _EMBEDDED, _BROADCAST, _ROUNDING, _MASKING = range(9)
_BRACKETS: Final = {"<": _FORM, "[": _WIDE, "(": _LENGTH, "{": _REG, "/": _SIZE}
_SIGNS: Final[dict[str, Part]] = {
    "*": (_SIZE, ("16", "32", "64")),
    "%": (_SIZE, ("16", "32", "32")),
    "#": (_SIZE, ("", "", "32")),
    "^": (_EMBEDDED, ("", "b")),
    "&": (_BROADCAST, ("", "b")),
    "~": (_ROUNDING, ("", "b")),
    "!": (_ROUNDING, ("", "b_Int")),
    "@": (_MASKING, ("", "k", "kz")),
}
_LENGTHS: Final = {
    LEGACY: ("", ""),
    VEX2: ("", "Y"),
    VEX3: ("", "Y"),
    XOP: ("", "Y"),
    EVEX: ("Z128", "Z256", "Z", "Z"),
}
#: Patterns; `re` compiles them when they are needed, and import does not.
_PIECES: Final = r"[<\[({/]([^>\])}/]*)[>\])}/]|[*%#$^&~!@]|[^<\[({/*%#$^&~!@]+"
_WIDE_SELECTOR: Final = r" W([01])(?= )"


@cache
def compile_template(template: str, encoding: int) -> tuple[Part, ...]:
    """Return the parts of *template*, for instructions of *encoding*."""
    return tuple(_parts(template, encoding))


def _parts(template: str, encoding: int) -> Iterator[Part]:
    """Yield the parts of *template*."""
    for piece in re.finditer(_PIECES, template):
        text = piece.group()
        if text[0] in _BRACKETS:
            choices = tuple(piece.group(1).split("|"))
            # A choice that has fewer values than its axis ends in its last one.
            yield _BRACKETS[text[0]], choices + choices[-1:] * (8 - len(choices))
        elif text == "$":
            yield _LENGTH, _LENGTHS[encoding]
        else:
            yield _SIGNS.get(text) or (_EMBEDDED, (text, text))


def cells_of(specification: str) -> dict[int, list[Cell]]:
    """Return, by ``prefix << 8 | opcode``, the cells of *specification*, the one in force first."""
    cells: dict[int, list[Cell]] = {}
    for text in filter(None, specification.split("\n")):
        wide = re.search(_WIDE_SELECTOR, text)
        for opcodes, prefixes, modrms, words in parse_lines(re.sub(_WIDE_SELECTOR, "", text)):
            bases, form = (words[:-2], words[-1]) if ":" in words else (words, "")
            for opcode, selected, base in _assign(opcodes, modrms, bases):
                cell = selected, int(wide.group(1)) if wide else None, base + form
                for prefix in prefixes:
                    cells.setdefault(prefix << 8 | opcode, []).insert(0, cell)
    return cells


def _assign(
    opcodes: list[int], modrms: frozenset[int] | None, bases: list[str]
) -> Iterator[tuple[int, frozenset[int] | None, str]]:
    """Yield (opcode, ModRM bytes, base) for a line: which base belongs to what."""
    if len(opcodes) == 1 and len(bases) > 1 and modrms is not None:
        for modrm, base in zip(sorted(modrms), bases, strict=True):
            yield opcodes[0], frozenset((modrm,)), base
        return
    each = bases * len(opcodes) if len(bases) == 1 else bases
    for opcode, base in zip(opcodes, each, strict=True):
        yield opcode, modrms, base
