"""`flags_effect` against the processor, against Capstone, and by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import capstone
import pytest
from capstone import x86_const
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pydbi.x86.flags import (
    AF,
    ALL_FLAGS,
    CF,
    DF,
    OF,
    PF,
    SF,
    STATUS_FLAGS,
    ZF,
    flags_effect,
)
from pydbi.x86.instruction import XOP, Instruction, decode, scan
from pydbi.x86.traits import FLOW_MASK, PLAIN, SSE, X87
from tests.x86.libraries import executable_sections, libraries
from tests.x86.processor import EXECUTED, NOWHERE, Processor

_THOROUGH: Final = os.environ.get("PYDBI_TEST_THOROUGH") == "1"
_EXAMPLES: Final = 50_000 if _THOROUGH else 3_000
_SAMPLE: Final = 500_000 if _THOROUGH else 15_000


@pytest.fixture(scope="module")
def processor() -> Iterator[Processor]:
    """A traced child that executes single instructions; skips where tracing is forbidden."""
    try:
        with Processor() as child:
            yield child
    except OSError as error:
        pytest.skip(f"no traced child: {error}")


# ---- the processor -----------------------------------------------------------------------------

#: Encodings of instructions that touch flags or might be thought to, with register operands.
_ARITHMETIC: Final = st.one_of(
    st.tuples(st.sampled_from([op for op in range(0x40) if op & 7 < 4]), st.integers(0xC0, 0xFF)),
    st.tuples(st.sampled_from([0x63, 0x69, 0x6B, *range(0x80, 0x8C)]), st.integers(0xC0, 0xFF)),
    st.tuples(
        st.sampled_from([0x04, 0x05, 0x90, 0x98, 0x9E, 0x9F, 0xA8, 0xF5, 0xF8, 0xF9, 0xFC, 0xFD]),
        st.just(0),
    ),
    st.tuples(
        st.sampled_from([0xC0, 0xC1, 0xD0, 0xD1, 0xD2, 0xD3, 0xF6, 0xF7, 0xFE, 0xFF, 0xDA, 0xDB]),
        st.integers(0xC0, 0xFF),
    ),
).map(bytes)
_TWO_BYTE: Final = st.tuples(
    st.just(0x0F),
    st.sampled_from(
        [*range(0x40, 0x50), *range(0x90, 0xA0), 0x2E, 0x2F, 0xA3, 0xA4, 0xA5, 0xAB, 0xAC, 0xAD,
         0xAF, 0xB0, 0xB1, 0xB3, 0xB6, 0xB8, 0xBA, 0xBB, 0xBC, 0xBD, 0xBE, 0xC0, 0xC1, 0xC7, 0xC8]
    ),
    st.integers(0xC0, 0xFF),
).map(bytes)  # fmt: skip
_THREE_BYTE: Final = st.tuples(
    st.just(0x0F), st.just(0x38), st.sampled_from([0x17, 0xF0, 0xF1, 0xF6]), st.integers(0xC0, 0xFF)
).map(bytes)
_LEGACY: Final = st.tuples(
    st.sampled_from([b"", b"", b"\x66", b"\xf3", b"\xf2"]),
    st.sampled_from([b"", b"", b"\x48", b"\x41", b"\x4c"]),
    st.one_of(_ARITHMETIC, _TWO_BYTE, _THREE_BYTE),
).map(b"".join)
_BMI: Final = st.tuples(
    st.just(0xC4),
    st.sampled_from([0xE1, 0xE2, 0xE3]),
    st.sampled_from([0x78, 0x79, 0x7A, 0x7B, 0xF8, 0x70, 0xF3]),
    st.sampled_from([0x0E, 0x0F, 0x17, 0x2E, 0x2F, 0x98, 0x99, 0xF0, 0xF2, 0xF3, 0xF5, 0xF6, 0xF7,
                     0x61, 0x63]),
    st.integers(0xC0, 0xFF),
).map(bytes)  # fmt: skip
_VALUES: Final = st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF, 0x8000_0000, 2**63, 2**64 - 1, 0x1234])
_FLAG_SETS: Final = st.integers(0, 127).map(
    lambda bits: sum(
        flag for bit, flag in enumerate((CF, PF, AF, ZF, SF, OF, DF)) if bits >> bit & 1
    )
)
_GENERAL: Final = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r15")


@settings(max_examples=_EXAMPLES, deadline=None, print_blob=True)
@given(
    code=st.one_of(_LEGACY, _LEGACY, _BMI),
    tail=st.binary(min_size=5, max_size=5),
    values=st.lists(_VALUES, min_size=len(_GENERAL), max_size=len(_GENERAL)),
    flags=_FLAG_SETS,
    other_flags=_FLAG_SETS,
)
def test_processor_changes_and_reads_no_other_flags(
    processor: Processor,
    code: bytes,
    tail: bytes,
    values: list[int],
    flags: int,
    other_flags: int,
) -> None:
    """Flags outside may_change keep their value; written ones do not depend on unread flags."""
    instruction = decode(code + tail, 0)
    assume(isinstance(instruction, Instruction))
    assert isinstance(instruction, Instruction)
    assume(instruction.traits & FLOW_MASK == PLAIN)
    registers = dict(zip(_GENERAL, values, strict=True))
    outcome = processor.step(instruction.code, flags, **registers)
    assume(outcome.kind == EXECUTED)
    effect = flags_effect(instruction)
    shown = f"{instruction.code.hex(' ')} {effect}"
    changed = (flags ^ outcome.flags) & ALL_FLAGS
    assert changed & ~effect.may_change == 0, shown
    # The same with other values in the flags that are not read must write the same.
    mixed = flags & effect.read | other_flags & ~effect.read
    again = processor.step(instruction.code, mixed, **registers)
    assert (outcome.flags ^ again.flags) & effect.written == 0, shown


def test_nowhere_is_no_flag() -> None:
    """The registers' default value has no low bits, so a pop of it would set no flag."""
    assert NOWHERE & ALL_FLAGS == 0


# ---- Capstone ----------------------------------------------------------------------------------

_BITS: Final = {"CF": CF, "PF": PF, "AF": AF, "ZF": ZF, "SF": SF, "OF": OF, "DF": DF}


def _constants(*kinds: str) -> dict[int, int]:
    """Return Capstone's constants of these kinds with the flag that each is about."""
    return {
        getattr(x86_const, f"X86_EFLAGS_{kind}_{name}"): flag
        for kind in kinds
        for name, flag in _BITS.items()
        if hasattr(x86_const, f"X86_EFLAGS_{kind}_{name}")
    }


_READ: Final = _constants("TEST")
_WRITTEN: Final = _constants("MODIFY", "RESET", "SET")
_UNDEFINED: Final = _constants("UNDEFINED")


def _words(text: str) -> frozenset[str]:
    """Return the words of *text*."""
    return frozenset(text.split())


#: Mnemonics whose flags Capstone 5 has wrong or leaves out, with the manual's word. Those with
#: registers as operands are held against the processor above.
_CAPSTONE_ERRORS: Final = _words(
    # A count of 0 changes nothing and OF is defined for 1 only (SDM 2, SAL/SAR/SHL/SHR, RCL/RCR/
    # ROL/ROR, SHLD, SHRD); Capstone does not look at the count, and mixes up the two.
    "sal shl sar shr rol ror rcl rcr shld shrd "
    # CF is read (SDM 2, CMC), OF is read (SDM 2, ADOX): Capstone has them written only.
    "cmc adox "
    # DF is read (SDM 1, 7.3.9.2): Capstone knows it for movs, lods and stos only.
    "cmpsb cmpsw cmpsd cmpsq scasb scasw scasd scasq insb insw insd "
    # They read what they store (SDM 2, LAHF, PUSHF): Capstone has nothing.
    "lahf pushf pushfq "
    # SF ZF AF PF are undefined (SDM 2, IMUL): Capstone has SF written.
    "imul "
    # CF and ZF are written (SDM 2, LZCNT): Capstone has ZF only.
    "lzcnt "
    # The memory form of test has no flags in Capstone.
    "test "
    # All six are written, some of them always cleared (SDM 2, COMISD, KORTEST, KTEST): Capstone
    # has nothing for the AVX forms, and half of it for kortest.
    "vcomiss vcomisd vucomiss vucomisd kortestb kortestw kortestd kortestq "
    "ktestb ktestw ktestd ktestq"
)


def _effect_by_capstone(eflags: int) -> tuple[int, int, int]:
    """Return (read, written, undefined) from Capstone's eflags word."""
    read, written, undefined = (
        sum({flag for constant, flag in table.items() if eflags & constant})
        for table in (_READ, _WRITTEN, _UNDEFINED)
    )
    return read, written, undefined


@pytest.mark.parametrize("path", libraries(), ids=lambda path: path.name)
def test_flags_agree_with_capstone(path: Path) -> None:
    """Each distinct opcode in real code reads, writes and undefines what Capstone says."""
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    wrong: dict[str, str] = {}
    compared = 0
    for _, code in executable_sections(path):
        seen = set()
        at = 0
        while at < len(code) and compared < _SAMPLE:
            instruction = decode(code, at)
            if isinstance(instruction, int):
                at += 1
                continue
            at += instruction.length
            key = (
                instruction.prefixes, instruction.encoding, instruction.opcode_map,
                instruction.opcode, instruction.modrm and instruction.modrm & 0xF8,
            )  # fmt: skip
            if key in seen:
                continue
            seen.add(key)
            found = next(disassembler.disasm(instruction.code, 0, 1), None)
            if found is None or found.mnemonic.split()[-1] in _CAPSTONE_ERRORS:
                continue
            # Capstone's word is that of the x87 status word, or of the string instruction of the
            # same name (movsd, cmpsd).
            if instruction.traits & (X87 | SSE):
                continue
            compared += 1
            effect = flags_effect(instruction)
            if effect.conditional:
                continue
            expected = _effect_by_capstone(found.eflags)
            if effect[:3] != expected:
                wrong[found.mnemonic] = f"{instruction.code.hex(' ')}: {effect[:3]} {expected}"
    assert wrong == {}
    assert compared, "nothing was compared"


# ---- by hand -----------------------------------------------------------------------------------

_BY_HAND: Final = (
    ("add", "4801d8", (0, STATUS_FLAGS, 0, 0)),
    ("and", "4821d8", (0, STATUS_FLAGS & ~AF, AF, 0)),
    ("adc", "4811d8", (CF, STATUS_FLAGS, 0, 0)),
    ("inc", "48ffc0", (0, STATUS_FLAGS & ~CF, 0, 0)),
    ("not", "48f7d0", (0, 0, 0, 0)),
    ("neg", "48f7d8", (0, STATUS_FLAGS, 0, 0)),
    ("div", "48f7f3", (0, 0, STATUS_FLAGS, 0)),
    ("mul", "48f7e3", (0, CF | OF, SF | ZF | AF | PF, 0)),
    ("shl rax, 1", "48d1e0", (0, STATUS_FLAGS & ~AF, AF, 0)),
    ("shl rax, 0", "48c1e000", (0, 0, 0, 0)),
    ("shl rax, 64", "48c1e040", (0, 0, 0, 0)),
    ("shl eax, 32", "c1e020", (0, 0, 0, 0)),
    ("shl rax, 5", "48c1e005", (0, CF | ZF | SF | PF, AF | OF, 0)),
    ("shl al, 9", "c0e009", (0, ZF | SF | PF, AF | OF | CF, 0)),
    ("sar al, 9", "c0f809", (0, CF | ZF | SF | PF, AF | OF, 0)),
    ("shl rax, cl", "48d3e0", (0, 0, 0, STATUS_FLAGS)),
    ("rcl rax, cl", "48d3d0", (CF, 0, 0, CF | OF)),
    ("rol rax, 3", "48c1c003", (0, CF, OF, 0)),
    ("shld ax, bx, 17", "660fa4d811", (0, 0, STATUS_FLAGS, 0)),
    ("jle", "7e00", (ZF | SF | OF, 0, 0, 0)),
    ("seta", "0f97c0", (CF | ZF, 0, 0, 0)),
    ("cmovp", "0f4ac3", (PF, 0, 0, 0)),
    ("loope", "e100", (ZF, 0, 0, 0)),
    ("loop", "e200", (0, 0, 0, 0)),
    ("call", "e800000000", (0, 0, 0, 0)),
    ("movs", "a4", (DF, 0, 0, 0)),
    ("cmpsb", "a6", (DF, STATUS_FLAGS, 0, 0)),
    ("repe cmpsb", "f3a6", (DF, 0, 0, STATUS_FLAGS)),
    ("cld", "fc", (0, DF, 0, 0)),
    ("popf", "9d", (0, ALL_FLAGS, 0, 0)),
    ("pushf", "9c", (ALL_FLAGS, 0, 0, 0)),
    ("sahf", "9e", (0, STATUS_FLAGS & ~OF, 0, 0)),
    ("syscall", "0f05", (ALL_FLAGS, 0, 0, ALL_FLAGS)),
    ("bsf", "0fbcc3", (0, ZF, STATUS_FLAGS & ~ZF, 0)),
    ("tzcnt", "f30fbcc3", (0, CF | ZF, STATUS_FLAGS & ~(CF | ZF), 0)),
    ("popcnt", "f30fb8c3", (0, STATUS_FLAGS, 0, 0)),
    ("mulx", "c4e2fbf6c3", (0, 0, 0, 0)),
    ("shlx", "c4e2f9f7c3", (0, 0, 0, 0)),
    ("andn", "c4e2f8f2c3", (0, CF | ZF | SF | OF, AF | PF, 0)),
    ("vucomisd evex", "62f1fd082ec1", (0, STATUS_FLAGS, 0, 0)),
    ("adcx", "660f38f6c3", (CF, CF, 0, 0)),
    ("adox", "f30f38f6c3", (OF, OF, 0, 0)),
    ("lea", "488d4001", (0, 0, 0, 0)),
)


@pytest.mark.parametrize(
    ("code", "expected"), [case[1:] for case in _BY_HAND], ids=[case[0] for case in _BY_HAND]
)
def test_effects_by_hand(code: str, expected: tuple[int, int, int, int]) -> None:
    """The manual's word for the instructions that matter most, and for the difficult ones."""
    assert tuple(flags_effect(scan(bytes.fromhex(code)))) == expected


def test_xop_is_taken_to_write_flags_perhaps() -> None:
    """Nothing is certain about AMD's withdrawn XOP instructions."""
    instruction = scan(bytes.fromhex("8fe97801c8"))
    assert instruction.encoding == XOP
    assert flags_effect(instruction) == (0, 0, 0, STATUS_FLAGS)
