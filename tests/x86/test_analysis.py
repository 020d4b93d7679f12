"""The text and the names of an instruction."""

from __future__ import annotations

import ctypes

import pytest

import pydbi
from pydbi.x86.analysis import add_symbol, analyse, memory_displacement


def test_text_and_size() -> None:
    """An instruction's size is its own, whatever follows; its text is Intel's, after a tab."""
    analysis = analyse(bytes.fromhex("64 48 8b 04 25 28 00 00 00 c3"), 0x1000)
    assert (analysis.address, analysis.instSize, analysis.mnemonic) == (0x1000, 9, "mov")
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
        ("62 f1 7c 48 11 88 40 00 00 00", 0x40),  # vmovups [rax+0x40], zmm1, 32 bits
        ("48 8b 48 f8", -8),  # mov rcx, [rax-8]
    ],
)
def test_scaled_displacement(code: str, displacement: int) -> None:
    """EVEX's scaled displacement is given in bytes; the text is as before."""
    assert memory_displacement(bytes.fromhex(code)) == displacement
    with pytest.raises(pydbi.DecodeError, match="no memory operand"):
        memory_displacement(bytes.fromhex("48 89 d8"))


def test_names() -> None:
    """Module and function are those of the address; the old field names give the same."""
    address = ctypes.cast(ctypes.CDLL(None).qsort, ctypes.c_void_p).value
    assert address
    analysis = analyse(pydbi.readMemory(address, 15), address)
    assert (analysis.moduleName, analysis.symbolName, analysis.symbolOffset) == (None, None, 0)
    add_symbol(analysis)
    assert analysis.module == analysis.moduleName == "libc.so.6"
    assert analysis.symbol == analysis.symbolName == "qsort"
    assert analysis.symbolOffset == 0
