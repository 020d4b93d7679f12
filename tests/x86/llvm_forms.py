"""Every form of every opcode that the tables of `pydbi.x86.opcode_maps` hold, as instructions.

A form is what may have a name of its own: opcode map, opcode, mandatory prefix, operand and
address size, W, vector length, masking, broadcasting or rounding, ModRM's reg field, memory or
register, and each ModRM byte where opcodes are extended by all of it. Registers are arbitrary
otherwise, displacements and immediates zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice, product
from typing import Final

from pydbi.x86.instruction import Instruction, decode, scan
from pydbi.x86.llvm import opcode_name

__all__ = ["all_forms"]

_PREFIXES: Final = (b"", b"\x66", b"\xf3", b"\xf2")
#: Both prefixes mean something here: popcnt, tzcnt, lzcnt, crc32 of 16 bits.
_WITH_BOTH: Final = (
    (b"\x66\xf3", b"\x0f", (0xB8, 0xBC, 0xBD)),
    (b"\x66\xf2", b"\x0f\x38", (0xF1,)),
)
_REX: Final = (b"", b"\x41", b"\x48")
_ESCAPES: Final = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")
#: ModRM bytes: [rax + rcx] for every reg field, so that vector indices work, and rcx.
_MEMORY: Final = tuple(0x04 | reg << 3 for reg in range(8))
_ONE_REGISTER: Final = tuple(0xC1 | reg << 3 for reg in range(8))
_ALL_REGISTERS: Final = tuple(range(0xC0, 0x100))
_SIB: Final = 0x08
_OPCODES: Final = range(256)
#: EVEX opcodes that ModRM's reg field extends: shifts, prefetching gathers and scatters.
_EVEX_GROUPS: Final = (0x71, 0x72, 0x73, 0xC6, 0xC7)


def _complete(head: bytes) -> bytes | None:
    """Return *head* with the SIB byte, displacement and immediate that it needs, or None."""
    instruction = decode(head + bytes(15), 0)
    return instruction.code if isinstance(instruction, Instruction) else None


def all_forms() -> Iterator[bytes]:
    """Yield the instructions, each once."""
    seen: set[bytes] = set()
    for head in (*_legacy(), *_3dnow(), *_vex(), *_xop(), *_evex()):
        code = _complete(head)
        if code is not None and code not in seen:
            seen.add(code)
            yield code


def _with_modrm(head: bytes, *, all_registers: bool = False) -> Iterator[bytes]:
    """Yield *head* with memory operands, and with one or with all registers in rm."""
    for modrm in _MEMORY:
        yield head + bytes((modrm, _SIB))
    for modrm in _ALL_REGISTERS if all_registers else _ONE_REGISTER:
        yield head + bytes((modrm,))


def _legacy() -> Iterator[bytes]:
    for address, prefix, rex, escape in product((b"", b"\x67"), _PREFIXES, _REX, _ESCAPES):
        for opcode in filter(partial(_is_opcode, escape), _OPCODES):
            head = address + prefix + rex + escape + bytes((opcode,))
            yield from _with_modrm(head, all_registers=not address and not rex)
    for (prefixes, escape, opcodes), rex in product(_WITH_BOTH, _REX):
        for opcode in opcodes:
            yield from _with_modrm(prefixes + rex + escape + bytes((opcode,)))


def _is_opcode(escape: bytes, opcode: int) -> bool:
    """Tell whether *opcode* is none that begins something else: a prefix, an escape."""
    if not escape:
        return opcode not in b"\x0f\x26\x2e\x36\x3e\x62\x64\x65\x66\x67\xc4\xc5\xf0\xf2\xf3" and (
            opcode & 0xF0 != 0x40
        )
    return escape != b"\x0f" or opcode not in (0x0F, 0x38, 0x3A)


def _3dnow() -> Iterator[bytes]:
    for modrm, suffix in product((0x00, 0xC1), _OPCODES):
        yield bytes((0x0F, 0x0F, modrm, suffix))


def _vex() -> Iterator[bytes]:
    for length, prefix, opcode in product((0, 1), range(4), _OPCODES):
        yield from _with_modrm(bytes((0xC5, 0xF8 | length << 2 | prefix, opcode)))
        for number, wide in product((1, 2, 3), (0, 1)):
            payload = wide << 7 | 0x78 | length << 2 | prefix
            yield from _with_modrm(bytes((0xC4, 0xE0 | number, payload, opcode)))


def _xop() -> Iterator[bytes]:
    """Yield what AMD defines; the tables of `pydbi.x86` hold every opcode."""
    for number, wide, length, opcode in product((8, 9, 10), (0, 1), (0, 1), _OPCODES):
        payload = wide << 7 | 0x78 | length << 2
        for head in _with_modrm(bytes((0x8F, 0xE0 | number, payload, opcode))):
            if not opcode_name(scan(head + bytes(15))).startswith("UNKNOWN"):
                yield head


def _evex() -> Iterator[bytes]:
    for number, prefix, wide in product((1, 2, 3, 5, 6), range(4), (0, 1)):
        for length, embedded, masking in product(range(3), (0, 0x10), (0, 0x01, 0x81)):
            first = bytes((0x62, 0xF0 | number, wide << 7 | 0x7C | prefix))
            payload = first + bytes((length << 5 | embedded | 0x08 | masking,))
            for opcode in _OPCODES:
                heads = _with_modrm(payload + bytes((opcode,)))
                yield from heads if opcode in _EVEX_GROUPS else islice(heads, 0, None, 8)
