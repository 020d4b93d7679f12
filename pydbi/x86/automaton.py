"""The automaton that tells an instruction's length from its first bytes, for the block scanner.

It is a set of rows, lists of 256 numbers, one row for each thing that the bytes read so far can
mean (such as: REX.W and 0f were read, an opcode follows). A number below 16 is the length of an
instruction that is copied verbatim: that is the common case. Numbers from there up to FIRST_ROW
are records, which describe a special instruction. The others are the next rows.

The rows are learned, not written down. An entry that was never needed says UNKNOWN; when
it is, the scanner asks the reference decoder and calls `learn`, which fills the entry in for all
opcodes of the same form. So importing costs nothing, there is one source of truth, and code that
is met once costs no more than the forms it has: about 250 rows and 150 records serve libc.

Threads may learn at the same time without a lock: rows and records are only ever added, complete
before they are published; at worst something is learned twice.
"""

from __future__ import annotations

from typing import Final

from pydbi.x86.instruction import EVEX, LEGACY, VEX2, VEX3, Instruction
from pydbi.x86.prefixes import (
    LOCK,
    MAXIMUM_LENGTH,
    NOT_BEFORE_VEX,
    PREFIXES,
    REX_W,
    evex_allows,
    immediate_size,
    mandatory_prefix,
    resolve_traits,
)
from pydbi.x86.tables import (
    EVEX_MAPS,
    FIRST_GROUP,
    FORMS,
    GROUPS,
    LEGACY_MAPS,
    LOCKABLE,
    MODRM,
    NO_MODRM,
    VEX_MAPS,
)
from pydbi.x86.traits import AVX, AVX512, ENDS_BLOCK, FLOW_MASK, RIP, VERBATIM

__all__ = ["FIRST", "FIRST_ROW", "RECORDS", "ROWS", "UNKNOWN", "learn", "record_of"]

#: Numbers in rows: lengths below UNKNOWN, records between, rows from FIRST_ROW on.
UNKNOWN: Final = 16
FIRST_ROW: Final = 2048

#: (length, traits, ModRM offset or 0, offset of a RIP displacement or 0, ends the block?).
Record = tuple[int, int, int, int, bool]
Row = list[int]

#: Records by their number.
RECORDS: Final[list[Record]] = [(0, 0, 0, 0, True)] * (UNKNOWN + 1)
_RECORD_NUMBERS: Final[dict[Record, int]] = {}

#: Rows by their number.
ROWS: Final[list[Row]] = [[]] * FIRST_ROW
_ROW_NUMBERS: Final[dict[tuple[object, ...], int]] = {}

#: The row for the second byte, by the first byte: saves the lookup in the root row and a test.
FIRST: Final[list[Row]] = [[UNKNOWN] * 256 for _ in range(256)]

#: What byte a row is for: an opcode or prefix, or a payload byte of VEX or EVEX.
_OPCODE, _VEX_MAP, _VEX_LAST, _EVEX_MAP, _EVEX_PP, _EVEX_LAST, _IMPOSSIBLE = range(7)

#: What the bytes before a row mean: kind, their number, prefix flags, encoding, map, pp.
_State = tuple[int, int, int, int, int, int]
_STATES: Final[dict[int, _State]] = {}

#: A prefix flag beside those of `pydbi.x86.prefixes`: the byte before was a REX prefix.
_AFTER_REX: Final = 1 << 8

#: No rows are kept for longer runs of prefixes, so that odd code cannot fill the memory.
_MAXIMUM_CONSUMED: Final = 10

#: Traits that stand for "there is no such form" and "ModRM's mod field does not matter".
_NO_FORM: Final = -1
_ONLY_REGISTERS: Final = -2

#: (map, byte) of bytes that are no opcodes but prefixes, escapes, VEX or EVEX.
_NOT_OPCODES: Final = {
    *((0, byte) for byte in (*PREFIXES, *range(0x40, 0x50), 0x0F, 0x62, 0xC4, 0xC5)),
    (1, 0x38),
    (1, 0x3A),
}
_MAPS: Final = {
    LEGACY: LEGACY_MAPS,
    VEX2: VEX_MAPS,
    VEX3: VEX_MAPS,
    EVEX: EVEX_MAPS,
}
_EXTRA_TRAITS: Final = {LEGACY: 0, VEX2: AVX, VEX3: AVX, EVEX: AVX512}


def learn(instruction: Instruction) -> None:
    """Fill in the entries that lead to *instruction*, as far as the automaton holds its kind."""
    number = _ROOT
    for byte in instruction.code:
        following = ROWS[number][byte]
        if following == UNKNOWN:
            following = _step(number, byte)
        if following < FIRST_ROW:
            return
        number = following


def record_of(instruction: Instruction) -> Record:
    """Return the record that describes *instruction*; its traits are 0 if it is not special."""
    displacement = instruction.disp_offset if instruction.traits & RIP else 0
    return _make_record(
        instruction.length, instruction.traits, instruction.modrm_offset, displacement
    )


def _make_record(length: int, traits: int, modrm: int, displacement: int) -> Record:
    """Return the record with these parts, without the traits of no consequence."""
    traits &= ~VERBATIM
    return length, traits, modrm, displacement, bool(ENDS_BLOCK >> (traits & FLOW_MASK) & 1)


def _step(number: int, byte: int) -> int:
    """Fill in entry *byte* of row *number*, and those like it, and return it."""
    state = _STATES.get(number)
    if state is None or state[1] >= _MAXIMUM_CONSUMED:
        return UNKNOWN
    kind, consumed, flags, encoding, opcode_map, pp = state
    if kind != _OPCODE:
        following = _step_payload(byte, state)
    elif encoding == LEGACY and (opcode_map, byte) in _NOT_OPCODES:
        following = _step_prefix(byte, state)
    else:
        forms = _MAPS[encoding][opcode_map][pp]
        form_number = forms[byte]
        following = _form_entry(form_number, consumed + 1, flags, _EXTRA_TRAITS[encoding])
        for opcode in range(256):
            if forms[opcode] == form_number and ROWS[number][opcode] == UNKNOWN:
                _set_entry(number, opcode, following)
        return following
    _set_entry(number, byte, following)
    return following


def _set_entry(number: int, byte: int, following: int) -> None:
    """Enter *following* in a row and, for the root row, in the table for the first byte."""
    ROWS[number][byte] = following
    if number == _ROOT:
        FIRST[byte] = ROWS[following] if following >= FIRST_ROW else [following] * 256


def _step_prefix(byte: int, state: _State) -> int:
    """Return the row behind a prefix, an escape byte or the first byte of VEX or EVEX."""
    _, consumed, flags, _, opcode_map, _ = state
    consumed += 1
    if opcode_map == 1:
        opcode_map = 2 if byte == 0x38 else 3
    elif byte == 0x0F:
        opcode_map = 1
    elif byte in PREFIXES:
        clear, bits = PREFIXES[byte]
        flags = flags & ~(clear | _AFTER_REX | REX_W) | bits
    elif byte & 0xF0 == 0x40:
        flags = flags & ~REX_W | _AFTER_REX | (REX_W if byte & 8 else 0)
    elif flags & (_AFTER_REX | NOT_BEFORE_VEX):
        return UNKNOWN
    elif byte == 0xC5:
        return _row((_VEX_LAST, consumed, flags, VEX2, 1, 0))
    elif byte == 0xC4:
        return _row((_VEX_MAP, consumed, flags, VEX3, 0, 0))
    else:
        return _row((_EVEX_MAP, consumed, flags, EVEX, 0, 0))
    return _row((_OPCODE, consumed, flags, LEGACY, opcode_map, mandatory_prefix(flags)))


def _step_payload(byte: int, state: _State) -> int:
    """Return the row behind a payload byte of VEX or EVEX."""
    kind, consumed, flags, encoding, opcode_map, pp = state
    if kind == _VEX_MAP:
        opcode_map = byte & 0x1F
        kind = _VEX_LAST if opcode_map in VEX_MAPS else _IMPOSSIBLE
    elif kind == _EVEX_MAP:
        opcode_map = byte & 7
        kind = _EVEX_PP if opcode_map in EVEX_MAPS and not byte & 8 else _IMPOSSIBLE
    elif kind == _VEX_LAST:
        kind = _OPCODE
        pp = byte & 3
    elif kind == _EVEX_PP:
        kind = _EVEX_LAST if byte & 4 else _IMPOSSIBLE
        pp = byte & 3
    else:
        # Rounding modes (0x60) depend on ModRM: too rare to be learned.
        kind = _OPCODE if evex_allows(byte) and byte & 0x60 != 0x60 else _IMPOSSIBLE
    if kind == _IMPOSSIBLE:
        return UNKNOWN
    return _row((kind, consumed + 1, flags, encoding, opcode_map, pp))


def _row(state: _State) -> int:
    """Return the number of the row for *state*, a new empty one if need be."""
    number = _ROW_NUMBERS.get(state)
    if number is None:
        number = _add_row(state, [UNKNOWN] * 256)
        _STATES[number] = state
    return number


def _add_row(key: tuple[object, ...], row: Row) -> int:
    """Publish *row*, remember its number under *key*, and return the number."""
    ROWS.append(row)
    number = len(ROWS) - 1
    while ROWS[number] is not row:  # another thread has added one meanwhile
        number -= 1
    _ROW_NUMBERS[key] = number
    return number


def _form_entry(form_number: int, consumed: int, flags: int, extra: int) -> int:
    """Return the entry for an opcode of the form or group *form_number*."""
    if form_number < FIRST_GROUP:
        return _simple_form_entry(form_number, consumed, flags, extra)
    key = ("group", form_number, consumed, flags, extra)
    number = _ROW_NUMBERS.get(key)
    if number is None:
        group = GROUPS[form_number - FIRST_GROUP]
        rows = {
            member: ROWS[_simple_form_entry(member, consumed, flags, extra)]
            for member in set(group)
            if FORMS[member] is not None
        }
        impossible = [UNKNOWN] * 256
        row = [rows.get(member, impossible)[modrm] for modrm, member in enumerate(group)]
        number = _add_row(key, row)
    return number


def _simple_form_entry(form_number: int, consumed: int, flags: int, extra: int) -> int:
    """Return the length, the record number or the number of the ModRM row of a form."""
    form = FORMS[form_number]
    if form is None:
        return UNKNOWN
    immediate = immediate_size(form.immediate, flags)
    traits = resolve_traits(form, flags, False, False) | extra
    if form.modrm == NO_MODRM:
        return UNKNOWN if flags & LOCK else _leaf(consumed + immediate, traits, 0, 0)
    register_traits = _NO_FORM if flags & LOCK else traits
    memory_traits = rip_traits = _NO_FORM
    if form.modrm != MODRM:
        memory_traits = _ONLY_REGISTERS
    elif not flags & LOCK or form.traits & LOCKABLE:
        memory_traits = resolve_traits(form, flags, True, False) | extra
        rip_traits = resolve_traits(form, flags, True, True) | extra
    key = ("modrm", consumed, immediate, register_traits, memory_traits, rip_traits)
    number = _ROW_NUMBERS.get(key)
    if number is None:
        row = _modrm_row(consumed, immediate, register_traits, memory_traits, rip_traits)
        number = _add_row(key, row)
    return number


def _modrm_row(
    modrm: int, immediate: int, register_traits: int, memory_traits: int, rip_traits: int
) -> Row:
    """Return the row for a ModRM byte at offset *modrm* (SDM volume 2, table 2-2)."""
    least = modrm + 1 + immediate
    register = _leaf(least, register_traits, modrm, 0)
    if memory_traits == _ONLY_REGISTERS:
        return [register] * 256
    row: Row = []
    for displacement in (0, 1, 4):
        entries = [_leaf(least + displacement, memory_traits, modrm, 0)] * 8
        entries[4] = _leaf(least + 1 + displacement, memory_traits, modrm, 0)
        if displacement == 0:
            entries[4] = _sib_row(entries[4], _leaf(least + 5, memory_traits, modrm, 0))
            entries[5] = _leaf(least + 4, rip_traits, modrm, modrm + 1)
        row += entries * 8
    return row + [register] * 64


def _sib_row(usual: int, base_5: int) -> int:
    """Return the number of the row for a SIB byte under mod 0, where base 5 means disp32."""
    key = ("sib", usual, base_5)
    number = _ROW_NUMBERS.get(key)
    if number is None:
        number = _add_row(key, ([usual] * 5 + [base_5] + [usual] * 2) * 32)
    return number


def _leaf(length: int, traits: int, modrm: int, displacement: int) -> int:
    """Return the number that stands for a complete instruction."""
    if traits < 0 or length > MAXIMUM_LENGTH:
        return UNKNOWN
    record = _make_record(length, traits, modrm, displacement)
    if record[1] == 0:
        return length
    number = _RECORD_NUMBERS.get(record)
    if number is None:
        if len(RECORDS) >= FIRST_ROW - 64:  # room for what other threads add at the same time
            return UNKNOWN
        RECORDS.append(record)
        number = len(RECORDS) - 1
        while RECORDS[number] is not record:
            number -= 1
        _RECORD_NUMBERS[record] = number
    return number


_ROOT: Final = _row((_OPCODE, 0, 0, LEGACY, 0, 0))
