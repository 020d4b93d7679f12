"""One instruction taken apart: the reference decoder that the block scanner learns from."""

from __future__ import annotations

from typing import Final

from pydbi.errors import DecodeError
from pydbi.tuples import NamedTuple
from pydbi.x86.prefixes import (
    LOCK,
    MAXIMUM_LENGTH,
    NOT_BEFORE_VEX,
    OVERRIDE_GS,
    OVERRIDES,
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
    INVALID,
    LEGACY_MAPS,
    LOCKABLE,
    MODRM,
    NO_MODRM,
    VEX_MAPS,
    XOP_MAPS,
)
from pydbi.x86.traits import AVX, AVX512, FLOW_MASK, RIP, SSE, X87

__all__ = ["EVEX", "LEGACY", "VEX2", "VEX3", "XOP", "Instruction", "scan"]

#: Why there is no instruction: it runs past the buffer, or no processor would execute it.
TRUNCATED: Final = 2
UNDEFINED: Final = 3

#: Encodings (`Instruction.encoding`).
LEGACY: Final = 0
VEX2: Final = 2
VEX3: Final = 3
EVEX: Final = 4
XOP: Final = 5

#: First bytes of EVEX, XOP, VEX3 and VEX2; 8f is pop unless XOP's map field says otherwise.
_VECTOR_ESCAPES: Final = frozenset((0x62, 0x8F, 0xC4, 0xC5))


class Instruction(NamedTuple):
    """One instruction and where its parts are.

    All offsets count from the instruction's first byte; 0 means that the part is absent.

    Attributes:
        address: the app address of the first byte, as given to `scan`.
        code: the instruction's own bytes.
        prefixes: the legacy prefixes in their order (and REX prefixes that are not in force,
            because a legacy prefix follows).
        rex: the REX prefix that is in force (0x40-0x4f), or 0.
        encoding: LEGACY, VEX2, VEX3, EVEX or XOP.
        opcode_map: 0 one-byte, 1 0f, 2 0f 38, 3 0f 3a; else the map field of the encoding.
        opcode: the opcode byte.
        imm_size: the size of all immediates together (enter has 3 bytes, extrq 2).
        traits: the bits of `pydbi.x86.traits`, all of them.
        segment: 0x64 (FS) or 0x65 (GS) where such an override is in force, else 0.
    """

    address: int
    code: bytes
    prefixes: bytes
    rex: int
    encoding: int
    opcode_map: int
    opcode: int
    opcode_offset: int
    modrm_offset: int
    sib_offset: int
    disp_offset: int
    disp_size: int
    imm_offset: int
    imm_size: int
    traits: int
    segment: int

    @property
    def length(self) -> int:
        """The size in bytes, 1 to 15."""
        return len(self.code)

    @property
    def flow(self) -> int:
        """The flow kind: one of the low names of `pydbi.x86.traits`."""
        return self.traits & FLOW_MASK

    @property
    def vector_class(self) -> int:
        """The trait of the youngest register file it uses: AVX512, AVX, SSE, X87, or 0."""
        for trait in (AVX512, AVX, SSE, X87):
            if self.traits & trait:
                return trait
        return 0

    @property
    def modrm(self) -> int | None:
        """The ModRM byte, or None."""
        return self.code[self.modrm_offset] if self.modrm_offset else None

    @property
    def sib(self) -> int | None:
        """The SIB byte, or None."""
        return self.code[self.sib_offset] if self.sib_offset else None

    @property
    def is_memory(self) -> bool:
        """Whether ModRM names memory: an access, but also lea, prefetches and long no-ops."""
        modrm = self.modrm
        return modrm is not None and modrm < 0xC0 and not self._modrm_names_registers

    @property
    def is_rip_relative(self) -> bool:
        """Whether the memory operand is relative to the next instruction's address."""
        return bool(self.traits & RIP)

    @property
    def reg(self) -> int | None:
        """The number in ModRM's reg field, extended by the R bits: 0-15, or 0-31 under EVEX."""
        modrm = self.modrm
        if modrm is None:
            return None
        number = modrm >> 3 & 7 | self._extension(2) << 3
        if self.encoding == EVEX:
            number |= ~self._payload(1) & 0x10
        return number

    @property
    def rm(self) -> int | None:
        """The register in ModRM's rm field, extended, or None where the operand is memory."""
        modrm = self.modrm
        if modrm is None or self.is_memory:
            return None
        number = modrm & 7 | self._extension(0) << 3
        if self.encoding == EVEX:
            number |= self._extension(1) << 4
        return number

    @property
    def base(self) -> int | None:
        """The base register of the memory operand, or None (absolute or RIP-relative)."""
        modrm = self.modrm
        if modrm is None or not self.is_memory:
            return None
        sib = self.sib
        low = (modrm if sib is None else sib) & 7
        if low == 5 and modrm < 0x40:
            return None
        return low | self._extension(0) << 3

    @property
    def index(self) -> int | None:  # type: ignore[override]
        """The index register of the memory operand, or None.

        The gather and scatter instructions (VSIB) have a vector register there, whose number this
        is, without EVEX.V'; and for those number 4 is a register too.
        """
        sib = self.sib
        if sib is None:
            return None
        number = sib >> 3 & 7 | self._extension(1) << 3
        return None if number == 4 else number

    @property
    def scale(self) -> int:
        """The factor of the index register: 1, 2, 4 or 8."""
        sib = self.sib
        return 1 if sib is None else 1 << (sib >> 6)

    @property
    def displacement(self) -> int:
        """The signed displacement as encoded (EVEX scales a one-byte one), or 0."""
        field = self.code[self.disp_offset : self.disp_offset + self.disp_size]
        return int.from_bytes(field, "little", signed=True)

    @property
    def immediate(self) -> int:
        """The signed immediate, of imm_size bytes, or 0."""
        field = self.code[self.imm_offset : self.imm_offset + self.imm_size]
        return int.from_bytes(field, "little", signed=True)

    @property
    def vvvv(self) -> int | None:
        """The register in the vvvv field (with EVEX.V'): 0-31; None without VEX, EVEX or XOP."""
        if self.encoding == LEGACY:
            return None
        payload = self._payload(1 if self.encoding == VEX2 else 2)
        number = ~payload >> 3 & 15
        if self.encoding == EVEX:
            number |= (~self._payload(3) & 8) << 1
        return number

    @property
    def payload_prefix(self) -> int:
        """The pp field, which stands for a mandatory prefix: 0 none, 1 66, 2 F3, 3 F2.

        0 for a legacy encoding, whose prefixes are in `prefixes`.
        """
        if self.encoding == LEGACY:
            return 0
        return self._payload(1 if self.encoding == VEX2 else 2) & 3

    @property
    def wide(self) -> bool:
        """Whether REX.W, VEX.W or EVEX.W is set."""
        if self.encoding == LEGACY:
            return bool(self.rex & 8)
        return self.encoding != VEX2 and bool(self._payload(2) & 0x80)

    @property
    def _modrm_names_registers(self) -> bool:
        """Whether the operand is a register under any mod: moves of control and debug registers."""
        return self.encoding == LEGACY and self.opcode_map == 1 and 0x20 <= self.opcode <= 0x23

    def _payload(self, number: int) -> int:
        """Return payload byte *number* (from 1) of VEX, EVEX or XOP."""
        count = {VEX2: 1, VEX3: 2, XOP: 2, EVEX: 3}[self.encoding]
        return self.code[self.opcode_offset - 1 - count + number]

    def _extension(self, bit: int) -> int:
        """Return bit R (2), X (1) or B (0) of REX, or of VEX, EVEX and XOP, which invert it."""
        if self.encoding == LEGACY:
            return self.rex >> bit & 1
        if self.encoding == VEX2 and bit != 2:
            return 0
        return ~self._payload(1) >> bit + 5 & 1


def decode(code: bytes, start: int, address: int = 0) -> Instruction | int:
    """Take the instruction at *start* apart, or return TRUNCATED or UNDEFINED."""
    window = code[start : start + MAXIMUM_LENGTH]
    try:
        return _decode(window, address)
    except IndexError:
        return UNDEFINED if len(window) == MAXIMUM_LENGTH else TRUNCATED


def _decode(code: bytes, address: int) -> Instruction | int:
    """Do the work of `decode` on at most 15 bytes; IndexError says that they do not suffice."""
    at, flags, rex = _scan_prefixes(code)
    prefixes = code[: at - 1] if rex else code[:at]
    byte = code[at]
    encoding = LEGACY
    opcode_map = extra = 0
    if byte == 0x0F:
        opcode_map = 1
        at += 1
        if code[at] == 0x38 or code[at] == 0x3A:
            opcode_map = 2 if code[at] == 0x38 else 3
            at += 1
        number = LEGACY_MAPS[opcode_map][mandatory_prefix(flags)][code[at]]
    elif byte in _VECTOR_ESCAPES and (byte != 0x8F or code[at + 1] & 0x1F >= 8):
        if rex or flags & NOT_BEFORE_VEX:
            return UNDEFINED
        encoding, opcode_map, at, number = _scan_payload(code, at)
        extra = AVX512 if encoding == EVEX else AVX
    else:
        number = LEGACY_MAPS[0][mandatory_prefix(flags)][byte]
    opcode_offset = at
    at += 1
    if number >= FIRST_GROUP:
        number = GROUPS[number - FIRST_GROUP][code[at]]
    form = FORMS[number]
    if form is None or (flags & LOCK and not form.traits & LOCKABLE):
        return UNDEFINED
    modrm_offset = sib_offset = disp_offset = disp_size = 0
    is_memory = is_rip_relative = False
    if form.modrm != NO_MODRM:
        modrm_offset = at
        modrm = code[at]
        at += 1
        is_memory = modrm < 0xC0 and form.modrm == MODRM
        if flags & LOCK and not is_memory:
            return UNDEFINED
        if is_memory:
            mod = modrm >> 6
            base = modrm & 7
            disp_size = (0, 1, 4)[mod]
            if base == 4:
                sib_offset = at
                base = code[at] & 7
                at += 1
            if mod == 0 and base == 5:
                disp_size = 4
                is_rip_relative = not sib_offset
            if disp_size:
                disp_offset = at
                at += disp_size
    imm_size = immediate_size(form.immediate, flags)
    imm_offset = at if imm_size else 0
    at += imm_size
    if at > len(code):
        raise IndexError
    return Instruction(
        address,
        code[:at],
        prefixes,
        rex,
        encoding,
        opcode_map,
        code[opcode_offset],
        opcode_offset,
        modrm_offset,
        sib_offset,
        disp_offset,
        disp_size,
        imm_offset,
        imm_size,
        resolve_traits(form, flags, is_memory, is_rip_relative) | extra,
        (0x65 if flags & OVERRIDE_GS else 0x64) if flags & OVERRIDES else 0,
    )


def _scan_prefixes(code: bytes) -> tuple[int, int, int]:
    """Return (offset behind the prefixes, what they mean, the REX prefix in force or 0)."""
    at = flags = rex = 0
    while True:
        byte = code[at]
        prefix = PREFIXES.get(byte)
        if prefix is not None:
            clear, bits = prefix
            flags = flags & ~clear | bits
            rex = 0  # a REX prefix counts only right before the opcode
        elif byte & 0xF0 == 0x40:
            rex = byte
        else:
            return at, flags | REX_W if rex & 8 else flags, rex
        at += 1


def _scan_payload(code: bytes, at: int) -> tuple[int, int, int, int]:
    """Return (encoding, map, offset of the opcode, form number) of VEX, EVEX or XOP at *at*."""
    byte = code[at]
    payload = code[at + 1]
    if byte == 0xC5:
        return VEX2, 1, at + 2, VEX_MAPS[1][payload & 3][code[at + 2]]
    if byte == 0x62:
        opcode_map = payload & 7
        if payload & 8 or opcode_map not in EVEX_MAPS:
            return EVEX, opcode_map, at, INVALID
        selector = code[at + 2]
        if not selector & 4 or not evex_allows(code[at + 3]):
            return EVEX, opcode_map, at, INVALID
        number = EVEX_MAPS[opcode_map][selector & 3][code[at + 4]]
        # A rounding mode stands where the vector length would: not with memory operands.
        if code[at + 3] & 0x60 == 0x60 and code[at + 5] < 0xC0:
            number = INVALID
        return EVEX, opcode_map, at + 4, number
    encoding, maps = (VEX3, VEX_MAPS) if byte == 0xC4 else (XOP, XOP_MAPS)
    opcode_map = payload & 0x1F
    if opcode_map not in maps:
        return encoding, opcode_map, at, INVALID
    return encoding, opcode_map, at + 3, maps[opcode_map][code[at + 2] & 3][code[at + 3]]


def scan(code: bytes, offset: int = 0, address: int = 0) -> Instruction:
    """Return the instruction at *offset* in *code*, completely described.

    Raises:
        DecodeError: the bytes are no instruction, or it runs past the end of *code*.
    """
    instruction = decode(code, offset, address)
    if isinstance(instruction, int):
        reason = "it runs past the bytes given" if instruction == TRUNCATED else ""
        raise DecodeError(address, code[offset : offset + MAXIMUM_LENGTH], reason)
    return instruction
