"""What LLVM says of each instruction: its operands, its accesses, its kind.

The tables `analysis_one_byte`, `analysis_two_byte`, `analysis_vex` and `analysis_evex` consist of
lines ``opcodes selectors : operands facts``; of the lines that match, the last counts.

Opcodes are hexadecimal numbers and ranges. Selectors: ``np 66 f3 f2`` (mandatory prefix);
``mem reg`` (ModRM's kind); ``/0,2-3`` (its reg field); ``=c1,d0-df`` (the whole ModRM);
``o16 o32 o64`` (operand size); ``w0 w1`` (VEX.W, EVEX.W); ``l0 l1 l2`` (vector length);
``x0 x1`` (EVEX.b); ``r0 r1`` (REX.B).

An operand is ``[access][flag]what[.class][:size]``.

- access: nothing is read, ``=`` written, ``+`` both; ``~`` written, where LLVM does not show that
  a mask leaves parts as they were.
- flag: ``*`` implicit, ``@`` part of an address, ``%`` relative to the next instruction.
- what: ``E`` ModRM's rm field, a register or memory; ``M`` memory alone; ``A`` memory that is only
  an address; ``R`` ModRM's reg field; ``V`` vvvv; ``O`` the opcode's low bits; ``I`` the register
  in the immediate; ``K`` the mask; ``i`` an immediate of so many bytes, with ``s`` sign-extended
  (``iz iv is js`` by operand size); ``0`` no register; or a register's name (``XMM0-7``: several),
  a small first letter of which stands for a size.
- class: of `CLASSES`, or a size: ``v`` 2, 4, 8 by operand size; ``y`` 4 or 8; ``s`` 2 or 8 (stack);
  ``z`` 2 or 4; ``L`` the vector length (``H`` half of it, ``Q`` a quarter, ``E`` an eighth, at
  least an xmm register); ``a`` 4 or 8 by address size. With M it is the class of a vector that is
  the index.
- size: bytes accessed when E is memory, or one of these letters; without it the class's. ``D`` 8
  or 16, ``F`` a far pointer (by operand size), ``P`` 8 or the vector length from 32 on, ``B`` 1
  or 2 by W.

Facts: ``load=`` and ``store=`` (sizes where no E says them), ``flags=r|w|rw``, ``cc`` (condition in
the opcode's low four bits), ``condition=``, ``compare``, ``move_imm``, ``jump``, ``call``,
``return``, ``flow`` (ends a basic block); ``element=`` (EVEX: bytes of a broadcast element, else
4 or 8 by W, 2 in maps 5 and 6); ``scale=`` (EVEX: unit of a one-byte displacement, else what is
accessed).

The source is LLVM's instruction tables as PyQBDI 0.12.1 shows them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Final

from pydbi.host.late import load
from pydbi.tuples import NamedTuple
from pydbi.x86.instruction import EVEX, LEGACY, XOP, Instruction
from pydbi.x86.prefixes import PREFIXES, mandatory_prefix

__all__ = [
    "Form",
    "Token",
    "evex_b",
    "evex_mask",
    "evex_zeroes",
    "find_form",
    "operand_size",
    "same_without_prefix",
    "selecting_prefix",
    "vector_length",
]


class Token(NamedTuple):
    """One operand of a form, as the module's documentation says."""

    access: int
    flag: int
    what: str
    kind: str
    size: str
    merges: bool


class Form(NamedTuple):
    """What a line says behind its colon."""

    operands: tuple[Token, ...]
    load: str | None
    store: str | None
    flags: int
    condition: str
    element: str | None
    scale: str | None
    kinds: frozenset[str]


class _Line(NamedTuple):
    """What a line selects beside opcode and prefix, and its right side."""

    places: int
    modrms: frozenset[int] | None
    variants: int
    text: str


_ACCESSES: Final = {"": 1, "=": 2, "~": 2, "+": 3}
_FLAGS: Final = {"": 0, "@": 1, "%": 2, "*": 8, "@*": 9}
_FLAG_ACCESSES: Final = {"r": 1, "w": 2, "rw": 3}
_TOKEN: Final = re.compile(r"([=~+]?)([@%*]*)([A-Za-z0-9]+)(?:\.(\w+))?(?::(\w+))?")
_PREFIXES: Final = {"np": 0, "66": 1, "f3": 2, "f2": 3}
#: Bits of `_Line.variants`, by word. Each group that a line does not mention is full.
_VARIANTS: Final = {
    "o16": 1, "o32": 2, "o64": 4, "w0": 1 << 3, "w1": 1 << 4,
    "l0": 1 << 5, "l1": 1 << 6, "l2": 1 << 7, "x0": 1 << 8, "x1": 1 << 9,
    "r0": 1 << 10, "r1": 1 << 11,
}  # fmt: skip
_VARIANT_GROUPS: Final = (7, 3 << 3, 7 << 5, 3 << 8, 3 << 10)
_ANY_PLACE: Final = 0xFFFF


@functools.cache
def parse_form(text: str) -> Form:
    """Return the form that the right side of a line describes."""
    operands: list[Token] = []
    facts: dict[str, str] = {}
    kinds: set[str] = set()
    for word in text.split():
        name, equals, value = word.partition("=")
        if equals and name:
            facts[name] = value
        elif word in ("cc", "compare", "move_imm", "jump", "call", "return", "flow"):
            kinds.add(word)
        else:
            operands += _parse_tokens(word)
    return Form(
        tuple(operands),
        facts.get("load"),
        facts.get("store"),
        _FLAG_ACCESSES.get(facts.get("flags", ""), 0),
        facts.get("condition", ""),
        facts.get("element"),
        facts.get("scale"),
        frozenset(kinds),
    )


def _parse_tokens(word: str) -> Iterator[Token]:
    """Yield the tokens of *word*: one, or one for each number of a range of registers."""
    start, dash, last = word.partition("-")
    if dash:
        name = start.rstrip("0123456789")
        for number in range(int(start[len(name) :]), int(last) + 1):
            yield from _parse_tokens(f"{name}{number}")
        return
    match = _TOKEN.fullmatch(word)
    if match is None:
        raise ValueError(f"no operand: {word!r}")
    access, flag, what, kind, size = match.groups(default="")
    merges = access == "=" and kind != "k"
    yield Token(_ACCESSES[access], _FLAGS[flag], what, kind, size, merges)


def _numbers(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first, 16), int(last or first, 16) + 1)


def _places(kind: str, fields: str) -> int:
    """Return a bit for each (kind of ModRM, reg field): memory 0-7, registers 8-15."""
    regs = [n for part in (fields or "0-7").split(",") for n in _numbers(part)]
    places = sum(1 << reg for reg in regs)
    return {"mem": places, "reg": places << 8}.get(kind, places | places << 8)


def _parse_left(words: list[str]) -> tuple[list[int], list[int], int, frozenset[int] | None, int]:
    """Return (opcodes, prefixes, places, ModRM bytes, variants) of a line's left side."""
    opcodes: list[int] = []
    prefixes: list[int] = []
    kind = fields = ""
    modrms: frozenset[int] | None = None
    variants = 0
    for word in words:
        if opcodes and word in _PREFIXES:
            prefixes.append(_PREFIXES[word])
        elif word in ("mem", "reg"):
            kind = word
        elif word[0] == "/":
            fields = word[1:]
        elif word[0] == "=":
            modrms = frozenset(n for part in word[1:].split(",") for n in _numbers(part))
        elif word in _VARIANTS:
            variants |= _VARIANTS[word]
        else:
            opcodes.extend(_numbers(word))
    for group in _VARIANT_GROUPS:
        if not variants & group:
            variants |= group
    return opcodes, prefixes or [0, 1, 2, 3], _places(kind, fields), modrms, variants


_Table = dict[tuple[int, int], list[_Line]]


@functools.cache
def _parse(specification: str) -> _Table:
    """Return the lines by (mandatory prefix, opcode), the last one first."""
    table: _Table = {}
    for text in filter(None, reversed(specification.split("\n"))):
        left, _, right = text.partition(":")
        opcodes, prefixes, places, modrms, variants = _parse_left(left.split())
        line = _Line(places, modrms, variants, right.strip())
        for opcode in opcodes:
            for prefix in prefixes:
                table.setdefault((prefix, opcode), []).append(line)
    return table


def _table(instruction: Instruction) -> _Table:
    """Return the table of an instruction's opcode map; imported when it is first needed."""
    opcode_map = instruction.opcode_map
    if instruction.encoding == LEGACY:
        if opcode_map == 0:
            load("pydbi.x86.analysis_one_byte")
            from pydbi.x86.analysis_one_byte import ONE_BYTE

            return _parse(ONE_BYTE)
        load("pydbi.x86.analysis_two_byte")
        from pydbi.x86 import analysis_two_byte as two

        return _parse((two.TWO_BYTE, two.THREE_BYTE_38, two.THREE_BYTE_3A)[opcode_map - 1])
    if instruction.encoding == EVEX:
        load("pydbi.x86.analysis_evex")
        from pydbi.x86.analysis_evex import EVEX_MAPS

        return _parse(EVEX_MAPS.get(opcode_map, ""))
    load("pydbi.x86.analysis_vex")
    from pydbi.x86.analysis_vex import VEX_MAPS, XOP_MAPS

    maps = XOP_MAPS if instruction.encoding == XOP else VEX_MAPS
    return _parse(maps.get(opcode_map, ""))


def find_form(instruction: Instruction) -> Form:
    """Return the form of *instruction*; an empty one if the tables have none."""
    prefix = selecting_prefix(instruction)
    lines = _table(instruction).get((prefix, instruction.opcode), ())
    modrm = instruction.modrm
    place = _ANY_PLACE
    if modrm is not None:
        place = 1 << ((0 if instruction.is_memory else 8) | modrm >> 3 & 7)
    wanted = _variants(instruction)
    for line in lines:
        if (
            line.places & place
            and line.variants & wanted == wanted
            and (line.modrms is None or modrm in line.modrms)
        ):
            form = parse_form(line.text)
            return masked_form(form, instruction) if evex_mask(instruction) else form
    return parse_form("")


_MASK: Final = Token(1, 0, "K", "k", "", False)


def masked_form(form: Form, instruction: Instruction) -> Form:
    """Return *form* with its mask, which comes second: what it excludes stays, or is zeroed."""
    operands = form.operands
    if not operands or any(token.what == "K" for token in operands):
        return form
    first = operands[0]
    is_memory = first.what == "M" or (first.what == "E" and instruction.is_memory)
    if first.merges and not evex_zeroes(instruction) and not is_memory:
        first = first._replace(access=3)
    return form._replace(operands=(first, _MASK, *operands[1:]))


def evex_mask(instruction: Instruction) -> int:
    """Return the number of the mask register of an EVEX instruction; 0 is none."""
    if instruction.encoding != EVEX:
        return 0
    return instruction.code[instruction.opcode_offset - 1] & 7


def _variants(instruction: Instruction) -> int:
    size = {2: 1, 4: 2, 8: 4}[operand_size(instruction)]
    wide = 1 << (4 if instruction.wide else 3)
    length = 1 << 5 + vector_length(instruction) // 32
    broadcast = 1 << (9 if evex_b(instruction) else 8)
    return size | wide | length | broadcast | 1 << 10 + (instruction.rex & 1)


def evex_zeroes(instruction: Instruction) -> bool:
    """Tell whether an EVEX instruction zeroes what its mask excludes."""
    return bool(instruction.code[instruction.opcode_offset - 1] & 0x80)


def selecting_prefix(instruction: Instruction) -> int:
    """Return the mandatory prefix that chose the instruction's opcode, as a pp number."""
    if instruction.encoding != LEGACY:
        return instruction.payload_prefix
    flags = 0
    for byte in instruction.prefixes:
        clear, bits = PREFIXES.get(byte, (0, 0))
        flags = flags & ~clear | bits
    return mandatory_prefix(flags)


def same_without_prefix(instruction: Instruction) -> bool:
    """Tell whether F2 or F3, which the instruction has, makes no difference to it."""
    table, opcode = _table(instruction), instruction.opcode
    return table.get((selecting_prefix(instruction), opcode)) == table.get((0, opcode))


def operand_size(instruction: Instruction) -> int:
    """Return 2, 4 or 8: the size in bytes that prefixes give general operands."""
    if instruction.wide:
        return 8
    return 2 if instruction.encoding == LEGACY and 0x66 in instruction.prefixes else 4


def evex_b(instruction: Instruction) -> bool:
    """Tell whether EVEX.b is set: a broadcast from memory, or a rounding mode."""
    return instruction.encoding == EVEX and bool(
        instruction.code[instruction.opcode_offset - 1] & 16
    )


def vector_length(instruction: Instruction) -> int:
    """Return 16, 32 or 64: the bytes of a vector, 16 for legacy encodings."""
    code = instruction.code
    before = code[instruction.opcode_offset - 1]
    if instruction.encoding == LEGACY:
        return 16
    if instruction.encoding != EVEX:
        return 32 if before & 4 else 16
    if before & 0x10 and not instruction.is_memory:
        return 64
    return 16 << min(before >> 5 & 3, 2)
