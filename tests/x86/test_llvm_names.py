"""LLVM's opcode names: against a table, against PyQBDI, and over the code of this process."""

from __future__ import annotations

import importlib.util
import os
import random
from collections import Counter
from functools import cache
from importlib import import_module
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydbi.errors import DecodeError
from pydbi.x86.instruction import XOP, Instruction, decode, scan
from pydbi.x86.llvm import naming, opcode_name, opcode_name_of
from pydbi.x86.llvm.templates import cells_of, compile_template
from tests.x86.libraries import libraries
from tests.x86.llvm_forms import all_forms
from tests.x86.llvm_names import compare, instructions_of, known_reason, one_for_each_form
from tests.x86.pyqbdi_names import names_of

_THOROUGH: Final = os.environ.get("PYDBI_TEST_THOROUGH") == "1"
_EXAMPLES: Final = 20_000 if _THOROUGH else 1_500
#: Instructions of each section of a library, and forms, unless the run is thorough.
_SAMPLE: Final = 60_000
_FORMS: Final = 1_200
_SEED: Final = 20240607

needs_pyqbdi = pytest.mark.skipif(
    importlib.util.find_spec("pyqbdi") is None, reason="PyQBDI is not installed"
)

#: Family, then lines of an instruction and its name.
FAMILIES: Final = {
    "integer": """
        4801c8        ADD64rr
        4803c8        ADD64rr_REV
        480308        ADD64rm
        f0480108      ADD64mr
        4883c001      ADD64ri8
        83000a        ADD32mi8
        480501000000  ADD64i32
        66050100      ADD16i16
        0401          ADD8i8
        4881c001000000 ADD64ri32
        48c7c001000000 MOV64ri32
        48b80100000000000000 MOV64ri
        b801000000    MOV32ri
        c60001        MOV8mi
        c6c001        MOV8ri_alt
        8d00          LEA64_32r
        488d00        LEA64r
        668d00        LEA16r
        480fafc1      IMUL64rr
        486bc105      IMUL64rri8
        4869c100000000 IMUL64rri32
        69c100000000  IMUL32rri
        0fb6c1        MOVZX32rr8
        480fbe00      MOVSX64rm8
        4863c1        MOVSX64rr32
        d1e0          SHL32r1
        48c1e803      SHR64ri
        d320          SHL32mCL
        480fa4c103    SHLD64rri8
        0fa5c1        SHLD32rrCL
        480fbae105    BT64ri8
        0fabc8        BTS32rr
        f7d8          NEG32r
        48f720        MUL64m
        f7c001000000  TEST32ri
        48f7c001000000 TEST64ri32
        4891          XCHG64ar
        4990          XCHG64ar
        0fc8          BSWAP32r
        480fc8        BSWAP64r
        0f44c1        CMOV32rr
        0f94c0        SETCCr
        f0480fb10a    CMPXCHG64rm
        480fc70e      CMPXCHG16B
        0fc70e        CMPXCHG8B
        a30000000000000000 MOV32o64a
        67a100000000  MOV32ao32
        f30fb8c1      POPCNT32rr
        66f30fbcc1    TZCNT16rr
        f3480fbdc1    LZCNT64rr
        0f38f008      MOVBE32rm
        660f38f108    MOVBE16mr
        f20f38f0c1    CRC32r32r8
        f2480f38f1c1  CRC32r64r64
    """,
    "stack and branches": """
        50            PUSH64r
        6650          PUSH16r
        6a01          PUSH64i8
        6801000000    PUSH64i32
        ff30          PUSH64rmm
        8f00          POP64rmm
        c9            LEAVE64
        c8000000      ENTER
        9c            PUSHF64
        7400          JCC_1
        0f8400000000  JCC_4
        eb00          JMP_1
        e900000000    JMP_4
        e800000000    CALL64pcrel32
        f2e800000000  CALL64pcrel32
        ffe0          JMP64r
        3effe0        JMP64r
        ff10          CALL64m
        ff28          FARJMP32m
        c3            RET64
        f3c3          RET64
        c20800        RETI64
        cb            LRET32
        48cf          IRET64
        e300          JRCXZ
        67e300        JECXZ
        e200          LOOP
        c7f800000000  XBEGIN_4
    """,
    "strings and ports": """
        a4            MOVSB
        f348a5        MOVSQ
        f3ab          STOSL
        66af          SCASW
        f2ae          SCASB
        f3a6          CMPSB
        48ad          LODSQ
        6d            INSL
        e501          IN32ri
        66ed          IN16rr
        ee            OUT8rr
        d7            XLAT
    """,
    "system": """
        90            NOOP
        6690          NOOP
        f390          PAUSE
        0f1f00        NOOPL
        660f1f440000  NOOPW
        f30f1efa      ENDBR64
        f3480f1ec8    RDSSPQ
        0f05          SYSCALL
        0f0b          TRAP
        cc            INT3
        cd80          INT
        f4            HLT
        0fa2          CPUID
        0f31          RDTSC
        0f01f9        RDTSCP
        0f01d0        XGETBV
        0fae20        XSAVE
        480fae20      XSAVE64
        0fc720        XSAVEC
        480fae00      FXSAVE64
        0fae10        LDMXCSR
        0faef0        MFENCE
        0fae38        CLFLUSH
        660fae38      CLFLUSHOPT
        0f1808        PREFETCHT0
        0f0d08        PREFETCHW
        8cd8          MOV32rs
        8e18          MOV16sm
        0fa0          PUSHFS64
        f3480faec0    RDFSBASE64
        0fc7f0        RDRAND32r
        0f20c0        MOV64rc
        0f0108        SIDT64m
        0f01e0        SMSW32r
        0f01d5        XEND
    """,
    "x87": """
        d800          ADD_F32m
        d8c1          ADD_FST0r
        dcc1          ADD_FrST0
        dce1          SUBR_FrST0
        dee9          SUB_FPrST0
        d900          LD_F32m
        db28          LD_F80m
        dd18          ST_FP64m
        df28          ILD_F64m
        db00          ILD_F32m
        dd08          ISTT_FP64m
        d9c9          XCH_F
        d9ee          LD_F0
        d9fe          FSIN
        dfe9          UCOM_FIPr
        dae9          UCOM_FPPr
        da28          SUBR_FI32m
        d93c24        FNSTCW16m
        dfe0          FNSTSW16r
        dd30          FSAVEm
        9b            WAIT
    """,
    "MMX and SSE": """
        0f6fc1        MMX_MOVQ64rr
        0ffcc1        MMX_PADDBrr
        0f6ec1        MMX_MOVD64rr
        480f6ec1      MMX_MOVD64to64rr
        0f77          MMX_EMMS
        0f2ac1        MMX_CVTPI2PSrr
        0f0fc19e      PFADDrr
        0f10c1        MOVUPSrr
        0f1108        MOVUPSmr
        0f29c1        MOVAPSrr_REV
        f30f58c1      ADDSSrr_Int
        f20f5808      ADDSDrm_Int
        f20f5100      SQRTSDm_Int
        0f51c1        SQRTPSr
        f20f2ac1      CVTSI2SDrr_Int
        f2480f2ac1    CVTSI642SDrr_Int
        f3480f2cc1    CVTTSS2SI64rr_Int
        660f6ec1      MOVDI2PDIrr
        66480f6ec1    MOV64toPQIrr
        f30f7ec1      MOVZPQILo2PQIrr
        660fd600      MOVPQI2QImr
        0f12c1        MOVHLPSrr
        0f1200        MOVLPSrm
        0fc2c101      CMPPSrri
        f20fc2c101    CMPSDrri_Int
        660f70c101    PSHUFDri
        660f73d908    PSRLDQri
        660fc4c101    PINSRWrr
        660f3814c1    BLENDVPSrr0
        660f3a0bc101  ROUNDSDri_Int
        660f3a16c101  PEXTRDrr
        660f38dcc1    AESENCrr
        660f3a44c101  PCLMULQDQrri
        0f38cbc1      SHA256RNDS2rr
        660fd7c1      PMOVMSKBrr
    """,
    "AVX and BMI": """
        c5fc1000      VMOVUPSYrm
        c5f8110e      VMOVUPSmr
        c5f458c1      VADDPSYrr
        c5f258c1      VADDSSrr_Int
        c5fe6f00      VMOVDQUYrm
        c5f96ec1      VMOVDI2PDIrr
        c5f877        VZEROUPPER
        c5fc77        VZEROALL
        c4e27d58c1    VPBROADCASTDYrr
        c4e37d39c101  VEXTRACTI128rr
        c4e26d9808    VFMADD132PSYm
        c4e2e999c1    VFMADD132SDr_Int
        c4e27d13c1    VCVTPH2PSYrr
        c4e26d900408  VPGATHERDDYrm
        c4e3754ac120  VBLENDVPSYrrr
        c4e2f0f2c1    ANDN64rr
        c4e2f0f3c9    BLSR64rr
        c4e2f9f7c1    SHLX64rr
        c4e3fbf0c103  RORX64ri
        c4e2fbf6c1    MULX64rr
        c5f447c1      KXORWrr
        c5fb92c1      KMOVDkr
    """,
    "AVX-512": """
        62f17c481000  VMOVUPSZrm
        62f17c281000  VMOVUPSZ256rm
        62f17c081000  VMOVUPSZ128rm
        62f17c491100  VMOVUPSZmrk
        62f17cc910c1  VMOVUPSZrrkz
        62f17c5858c1  VADDPSZrrb
        62f17cd958c1  VADDPSZrrbkz
        62f17c585800  VADDPSZrmb
        62f17e1858c1  VADDSSZrrb_Int
        62f17e0958c1  VADDSSZrr_Intk
        62f17cc9c6c101 VSHUFPSZrrikz
        62f17c58c60001 VSHUFPSZrmbi
        62f17d486fc1  VMOVDQA32Zrr
        62f1fd486fc1  VMOVDQA64Zrr
        62f3754825c101 VPTERNLOGDZrri
        62f375483fc101 VPCMPBZrri
        62f375581f0001 VPCMPDZrmib
        62f17d4874c1  VPCMPEQBZrr
        62f2fd285a00  VBROADCASTI64X2Z128rm
        62f27d285a00  VBROADCASTI32X4Z256rm
        62f27d49900408 VPGATHERDDZrm
        62f2ed182dc1  VSCALEFSDZrrb_Int
        62f5745858c1  VADDPHZrrb
    """,
}


@cache
def _forms() -> list[bytes]:
    """Return all forms of all opcodes."""
    return list(all_forms())


def _lines(family: str) -> list[tuple[bytes, str]]:
    """Return (instruction, name) for each line of a family."""
    pairs = []
    for line in filter(None, map(str.strip, FAMILIES[family].split("\n"))):
        code, name = line.rsplit(None, 1)
        pairs.append((bytes.fromhex(code.replace(" ", "")), name))
    return pairs


@pytest.mark.parametrize("family", FAMILIES)
def test_names_of_a_family(family: str) -> None:
    """Each instruction of the family has the name that the table gives it."""
    pairs = _lines(family)
    assert [(code.hex(), opcode_name(scan(code))) for code, _ in pairs] == [
        (code.hex(), name) for code, name in pairs
    ]


@needs_pyqbdi
def test_the_table_states_facts() -> None:
    """PyQBDI gives the same names."""
    pairs = [pair for family in FAMILIES for pair in _lines(family)]
    theirs = names_of([code for code, _ in pairs])
    assert list(zip((code.hex() for code, _ in pairs), theirs, strict=True)) == [
        (code.hex(), name) for code, name in pairs
    ]


@needs_pyqbdi
def test_names_in_the_libraries_agree_with_pyqbdi() -> None:
    """By number of instructions 99.9 %, and by number of names 99 %, are what PyQBDI gives."""
    found: Counter[bytes] = Counter()
    for path in libraries():
        counts = instructions_of(path) if _THOROUGH else instructions_of(path, _SAMPLE)
        found.update(counts if _THOROUGH else one_for_each_form(counts))
    comparison = compare(found)
    assert comparison.instructions > 10_000
    assert comparison.by_instructions >= 0.999, comparison.differences
    assert comparison.by_names >= 0.99, comparison.differences
    assert not [
        (pair, example.hex())
        for pair, (example, _) in comparison.differences.items()
        if known_reason(scan(example)) is None
    ]


@needs_pyqbdi
def test_all_forms_have_pyqbdi_s_names() -> None:
    """Of all forms of all opcodes, those that differ do so for a reason that is documented."""
    forms = _forms()
    if not _THOROUGH:
        forms = random.Random(_SEED).sample(forms, _FORMS)
    comparison = compare(dict.fromkeys(forms, 1))
    assert comparison.instructions > len(forms) / 2
    assert not [
        (pair, example.hex())
        for pair, (example, _) in comparison.differences.items()
        if known_reason(scan(example)) is None
    ]


@settings(max_examples=_EXAMPLES, deadline=None)
@given(st.binary(min_size=1, max_size=15), st.binary(min_size=15, max_size=15))
def test_the_name_depends_on_nothing_behind_modrm(head: bytes, tail: bytes) -> None:
    """Every instruction has a name; SIB, displacement and immediate do not change it."""
    instruction = decode(head + bytes(15), 0)
    if not isinstance(instruction, Instruction):
        return
    name = opcode_name(instruction)
    assert name.replace("_", "").isalnum()
    if (instruction.opcode_map, instruction.opcode) == (1, 0x0F):
        return  # 3DNow! has its opcode at the end
    kept = max(instruction.modrm_offset, instruction.opcode_offset) + 1
    other = decode(instruction.code[:kept] + tail + bytes(15), 0)
    assert isinstance(other, Instruction)
    assert opcode_name(other) == name
    assert opcode_name_of(other.code) == opcode_name_of(instruction.code) == name


def test_names_are_remembered() -> None:
    """`opcode_name_of` gives what `opcode_name` gives, at the first time and later."""
    codes = random.Random(_SEED).sample(_forms(), 1000)
    expected = [opcode_name(scan(code)) for code in codes]
    assert [opcode_name_of(code) for code in codes] == expected
    assert [opcode_name_of(code) for code in codes] == expected


def test_the_memory_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of the two dictionaries grows beyond the limit."""
    monkeypatch.setattr(naming, "_names", {})
    monkeypatch.setattr(naming, "_names_by_head", {})
    monkeypatch.setattr(naming, "_LIMIT", 16)
    for number in range(100):
        assert opcode_name_of(bytes((0x48, 0x81, 0xC0 | number & 7, number, 0, 0, 0))) == (
            "ADD64ri32"
        )
        assert opcode_name_of(bytes((0x89, 0xC0 | number & 0x3F))) == "MOV32rr"
        assert len(naming._names) <= 16
        assert len(naming._names_by_head) <= 16


@pytest.mark.parametrize("code", [b"", b"\x06", b"\x0f", b"\x48", b"\x66" * 15, b"\xc4\xe2"])
def test_what_is_no_instruction_has_no_name(code: bytes) -> None:
    """Bytes that do not begin with an instruction raise DecodeError."""
    with pytest.raises(DecodeError):
        opcode_name_of(code)


def test_what_llvm_does_not_know_is_named_after_its_encoding() -> None:
    """A 3DNow! opcode that AMD never defined has the name of its place in the opcode map."""
    assert opcode_name_of(bytes.fromhex("0f0fc177")) == "UNKNOWN_0F_0Frr"


def test_the_tables_are_well_formed() -> None:
    """Each line's number of bases fits its opcodes, and all choices have values for their axis."""
    for (encoding, _), tables in naming._TABLES.items():
        for module, table in tables:
            specification = getattr(import_module(f"pydbi.x86.llvm.{module}"), table)
            for cells in cells_of(specification).values():
                for _, _, template in cells:
                    assert compile_template(template, encoding)
                    assert all(template.count(a) == template.count(b) for a, b in ("<>", "[]"))
                    assert all(template.count(a) == template.count(b) for a, b in ("()", "{}"))


def test_all_opcodes_that_exist_are_named() -> None:
    """No form of an opcode is named after its encoding, except what was never defined."""
    unnamed = {
        (instruction.encoding, instruction.opcode_map, instruction.opcode)
        for instruction in map(scan, _forms())
        if opcode_name(instruction).startswith("UNKNOWN") and instruction.encoding != XOP
    }
    assert unnamed == {(0, 1, 0x0F)}
