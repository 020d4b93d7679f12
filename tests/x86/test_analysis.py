"""The text, the facts, the operands and the names of an instruction."""

from __future__ import annotations

import copy
import ctypes
import pickle
import pydoc

import pytest

import pydbi
from pydbi.x86 import analysis as analysis_module
from pydbi.x86.analysis import (
    InstAnalysis,
    OperandAnalysis,
    add_symbol,
    analyse,
    ask,
    make_analysis,
    memory_displacement,
    set_patch,
)

ADD = bytes.fromhex("48 03 43 08")
GROUPS = {
    pydbi.ANALYSIS_INSTRUCTION: {
        "address", "instSize", "mnemonic", "affectControlFlow", "isBranch", "isCall", "isReturn",
        "isCompare", "isPredicable", "isMoveImm", "mayLoad", "mayStore", "loadSize", "storeSize",
        "condition",
    },
    pydbi.ANALYSIS_DISASSEMBLY: {"disassembly"},
    pydbi.ANALYSIS_OPERANDS: {"flagsAccess", "numOperands", "operands"},
    pydbi.ANALYSIS_SYMBOL: {"moduleName", "symbolName", "symbolOffset", "module", "symbol"},
    pydbi.ANALYSIS_JIT: {"patchAddress", "patchSize", "patchInstOffset", "patchInstSize"},
}  # fmt: skip
FIELDS = {name for name in dir(InstAnalysis) if name[0] != "_"}


def test_text_and_size() -> None:
    """An instruction's size is its own, whatever follows; its text is Intel's, after a tab."""
    analysis = analyse(bytes.fromhex("64 48 8b 04 25 28 00 00 00 c3"), 0x1000)
    assert (analysis.address, analysis.instSize, analysis.mnemonic) == (0x1000, 9, "MOV64rm")
    assert analysis.disassembly == "\tmov\trax, qword ptr fs:[0x28]"
    assert analyse(b"\xc3", 0x1000).disassembly == "\tret"


def test_att_syntax() -> None:
    """AT&T's syntax is given on request, and does not stick."""
    code = bytes.fromhex("48 89 d8")
    assert analyse(code, 0, att_syntax=True).disassembly == "\tmovq\t%rbx, %rax"
    assert analyse(code, 0).disassembly == "\tmov\trax, rbx"


@pytest.mark.parametrize("code", [b"", b"\x06", b"\x48", b"\x0f\x04"])
def test_what_is_no_instruction_is_refused(code: bytes) -> None:
    """Bytes that are no instruction raise an error with the address and the bytes."""
    with pytest.raises(pydbi.DecodeError, match="0x1234") as caught:
        analyse(code, 0x1234)
    assert (caught.value.app_address, caught.value.code) == (0x1234, code)


@pytest.mark.parametrize(
    ("code", "displacement"),
    [
        ("62 f1 7c 48 11 48 01", 0x40),  # vmovups [rax+0x40], zmm1
        ("62 f1 7c 28 11 48 ff", -0x20),  # vmovups [rax-0x20], ymm1
        ("62 f1 7c 58 58 48 01", 4),  # vaddps zmm1, zmm0, dword ptr [rax+4]{1to16}
        ("62 f1 ff 08 10 48 02", 0x10),  # vmovsd xmm1, qword ptr [rax+0x10]
        ("62 f2 7d 48 31 48 01", 0x10),  # vpmovzxbd zmm1, xmmword ptr [rax+0x10]
        ("62 f2 7d 48 8a 48 01", 4),  # vcompressps [rax+4], zmm1
        ("62 f2 fd 49 93 44 08 01", 8),  # vgatherqpd zmm0{k1}, [rax+zmm1+8]
        ("62 f3 fd 58 ce 48 01 00", 8),  # vgf2p8affineqb zmm1, zmm0, qword ptr [rax+8]{1to8}, 0
        ("62 f1 7c 48 11 88 40 00 00 00", 0x40),  # vmovups [rax+0x40], zmm1, 32 bits
        ("48 8b 48 f8", -8),  # mov rcx, [rax-8]
        ("8d 48 f8", -8),  # lea ecx, [rax-8]
    ],
)
def test_scaled_displacement(code: str, displacement: int) -> None:
    """EVEX's scaled displacement is given in bytes."""
    assert memory_displacement(bytes.fromhex(code)) == displacement


@pytest.mark.parametrize("code", ["48 89 d8", "c3", "a4", "a1 00 00 00 00 00 00 00 00"])
def test_no_memory_operand_no_displacement(code: str) -> None:
    """What has no memory operand of ModRM is refused, implied memory too."""
    with pytest.raises(pydbi.DecodeError, match="no memory operand"):
        memory_displacement(bytes.fromhex(code))


def test_names() -> None:
    """Module and function are those of the address; the old field names give the same."""
    address = ctypes.cast(ctypes.CDLL(None).qsort, ctypes.c_void_p).value
    assert address
    analysis = analyse(pydbi.readMemory(address, 15), address)
    assert (analysis.moduleName, analysis.symbolName, analysis.symbolOffset) == (None, None, None)
    add_symbol(analysis)
    assert analysis.module == analysis.moduleName == "libc.so.6"
    assert analysis.symbol == analysis.symbolName == "qsort"
    assert analysis.symbolOffset == 0


def test_an_address_without_a_symbol() -> None:
    """What lies in no file has neither module nor symbol; the offset is 0 then."""
    analysis = analyse(ADD, 0x1000, pydbi.ANALYSIS_SYMBOL)
    assert (analysis.moduleName, analysis.symbolName, analysis.symbolOffset) == (None, None, 0)


def test_the_groups_are_all_fields() -> None:
    """Each field belongs to one group."""
    assert set().union(*GROUPS.values()) == FIELDS


@pytest.mark.parametrize("kind", list(GROUPS), ids=str)
def test_fields_that_were_not_asked_for_are_none(kind: pydbi.AnalysisType) -> None:
    """Only the fields of the groups asked for have values, as in PyQBDI."""
    address = ctypes.cast(ctypes.CDLL(None).qsort, ctypes.c_void_p).value
    assert address
    analysis = set_patch(make_analysis(ADD, address, 0), 1, 2, 3, 4)
    analysis = make_analysis(ADD, address, 0)
    if kind == pydbi.ANALYSIS_JIT:
        set_patch(analysis, 1, 2, 3, 4)
    else:
        ask(analysis, kind)
    filled = {name for name in FIELDS if getattr(analysis, name) is not None}
    assert filled == GROUPS[kind]


def test_asking_twice_adds_up() -> None:
    """A group that was asked for later is there beside the earlier ones, and nothing is lost."""
    analysis = make_analysis(ADD, 0x1000, pydbi.ANALYSIS_DISASSEMBLY)
    assert analysis.address is None
    text = analysis.disassembly
    assert ask(analysis, pydbi.ANALYSIS_INSTRUCTION) is analysis
    assert (analysis.address, analysis.instSize, analysis.loadSize) == (0x1000, 4, 8)
    assert analysis.disassembly is text


def test_a_field_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second read of a field finds it in its slot."""
    analysis = analyse(ADD, 0x1000)
    first = [getattr(analysis, name) for name in sorted(FIELDS)]
    monkeypatch.setattr(analysis_module, "_workers", None)
    assert all(
        getattr(analysis, name) is value for name, value in zip(sorted(FIELDS), first, strict=True)
    )


def test_the_bytes_are_captured() -> None:
    """What is read later is about the bytes as they were."""
    code = bytearray(ADD)
    analysis = analyse(bytes(code), 0x1000)
    code[:] = b"\x90" * 4
    assert analysis.disassembly == "\tadd\trax, qword ptr [rbx + 0x8]"
    assert "0x1000 add rax" in repr(analysis)


def test_analyses_are_read_only() -> None:
    """Fields can be neither set nor deleted; there is no constructor, copy or pickle."""
    analysis = analyse(ADD, 0x1000)
    operand = analysis.operands[0]
    for record, name in ((analysis, "address"), (analysis, "other"), (operand, "value")):
        with pytest.raises(AttributeError):
            setattr(record, name, 1)
        with pytest.raises(AttributeError):
            delattr(record, name)
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot pickle"):
                copied(record)
    for kind in (InstAnalysis, OperandAnalysis):
        with pytest.raises(TypeError, match="No constructor"):
            kind()
    with pytest.raises(AttributeError, match="nope"):
        _ = analysis.nope


def test_help_shows_the_fields() -> None:
    """help() lists each field with what it is."""
    text = pydoc.plain(pydoc.render_doc(InstAnalysis))
    assert set(text.split()) >= FIELDS
    assert "App address (int)." in text
    assert "regCtxIdx" in pydoc.plain(pydoc.render_doc(OperandAnalysis))


@pytest.mark.parametrize(
    ("code", "load", "store"),
    [
        ("62 f1 7c 48 10 00", 64, 0),  # vmovups zmm0, [rax]
        ("62 f1 7c 48 11 00", 0, 64),  # vmovups [rax], zmm0
        ("62 f1 7c 58 58 00", 4, 0),  # vaddps zmm0, zmm0, dword ptr [rax]{1to16}
        ("62 f1 fd 58 58 00", 8, 0),  # vaddpd zmm0, zmm0, qword ptr [rax]{1to8}
        ("62 f5 7c 58 58 00", 2, 0),  # vaddph zmm0, zmm0, word ptr [rax]{1to32}
        ("62 f5 7c 58 5a 00", 2, 0),  # vcvtph2pd zmm0, word ptr [rax]{1to8}
        ("62 f5 7c 58 5b 00", 4, 0),  # vcvtdq2ph ymm0, dword ptr [rax]{1to16}
        ("c4 e2 f1 92 04 00", 16, 0),  # vgatherdpd xmm0, [rax+xmm0], xmm1
        ("66 48 0f 6e 00", 8, 0),  # movq xmm0, [rax]
        ("63 00", 4, 0),  # movsxd eax, dword ptr [rax]
        ("66 0f b7 00", 2, 0),  # movzx ax, word ptr [rax]
        ("48 ff 28", 10, 0),  # jmp far [rax]
    ],
)
def test_accesses_that_pyqbdi_overlooks(code: str, load: int, store: int) -> None:
    """Sizes are right where PyQBDI gives none."""
    analysis = analyse(bytes.fromhex(code), 0)
    assert (analysis.loadSize, analysis.storeSize) == (load, store)
    assert (analysis.mayLoad, analysis.mayStore) == (load > 0, store > 0)


def test_operands_are_those_of_all_addresses() -> None:
    """Instructions with the same bytes share their operands, which cannot be changed."""
    first, second = analyse(ADD, 0x1000), analyse(ADD, 0x2000)
    assert first.operands is second.operands
    assert first.numOperands == len(first.operands) == 6
    assert first.operands[0].regName == "RAX"
    assert "GPR RAX" in repr(first.operands[0])


@pytest.mark.parametrize(
    ("code", "intel", "att"),
    [
        (
            "c4 e2 7f 51 0c 08",
            "\tvpdpbssds\tymm1, ymm0, ymmword ptr [rax + rcx]",
            "\tvpdpbssds\t(%rax,%rcx), %ymm0, %ymm1",
        ),
        (
            "62 f6 7d a9 98 44 08 01",
            "\tvfmadd132ph\tymm0 {k1} {z}, ymm0, ymmword ptr [rax + rcx + 0x20]",
            "\tvfmadd132ph\t0x20(%rax,%rcx), %ymm0, %ymm0 {%k1} {z}",
        ),
        ("f2 0f bc cd", "\tbsf\tecx, ebp", "\tbsf\t%ebp, %ecx"),
    ],
)
def test_what_capstone_does_not_know_has_a_text(code: str, intel: str, att: str) -> None:
    """The text is made of LLVM's name and the operands then."""
    assert analyse(bytes.fromhex(code), 0).disassembly == intel
    assert analyse(bytes.fromhex(code), 0, att_syntax=True).disassembly == att
