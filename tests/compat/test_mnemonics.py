"""addMnemonicCB: which instructions a mnemonic stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import Guest, wrong

Make = Callable[..., Guest]


POSITIONS = pytest.mark.parametrize("position", ["PRE", "POST"])


def names(g: Guest) -> str:
    return "".join(str(name) for name, _ in g.log)


def places(g: Guest) -> str:
    return "".join(place for _, place in g.log)


MNEMONICS = """
    a: add rax, 1
    b: mov eax, 5
    c: movzx eax, al
    d: xor eax, eax
    e: jz f
    f: nop
    g: lea rax, [rip]
    h: call i
    i: pop rax
    j: movups xmm0, xmm0
    k: rep stosb
    l: lock inc qword ptr [rip + data]
    m: jmp n
    n: push rax
    o: pop rcx
    p: cmp eax, 1
    r: setz al
    s: cmovz eax, ebx
    t: shl eax, 1"""
FOUND = {
    "add": "a", "ADD": "a", "Add*": "a", "ADD64": "", "ADD64ri8": "a", "add64RI8": "a", "A*D*": "a",
    "ADD64ri": "a", "ADD64r": "", "ADD6*": "a", "MOV": "b", "MOV*": "bcj", "MOVZX": "c",
    "mov32": "",
    "MOV32ri": "b",
    "MOVZX32rr8": "c", "XOR": "d", "XOR32rr": "d", "JCC": "e", "JCC_1": "e", "JCC*": "e", "JZ": "",
    "NOOP": "f", "NOP": "", "LEA": "g", "LEA64r": "g", "CALL": "h", "CALL64": "",
    "call64pcrel32": "h", "POP": "io", "POP64r": "io", "MOVUPS": "", "MOVUPSrr": "j", "STOSB": "k",
    "REP": "", "LOCK": "", "INC": "l", "INC64m": "l", "JMP": "m", "JMP_1": "m", "PUSH": "n",
    "PUSH64r": "n", "CMP": "p", "CMP32ri8": "p", "SETCCr": "r", "SETCC": "", "CMOV": "s",
    "CMOV32rr": "s", "CMOV*": "s", "SHL": "t", "SHL32r1": "t", "RET": "", "": "", "X": "",
    "*": "abcdefghijklmnoprst",
}  # fmt: skip


def test_mnemonics(guest: Make) -> None:
    """Names of LLVM, whatever the case of their letters; a base name matches before a digit."""
    g = guest(MNEMONICS)
    g.set(rcx=0, rdi=g.data + 64)
    for mnemonic in FOUND:
        g.vm.addMnemonicCB(mnemonic, g.qbdi.PREINST, g.noting(mnemonic), None)
    assert g.run()
    found = {name: "".join(where for who, where in g.log if who == name) for name in FOUND}
    assert found == FOUND


@POSITIONS
def test_mnemonic_position_and_priority(guest: Make, position: str) -> None:
    """A mnemonic's callback is called before or after, in its place by priority."""
    g = guest("a: inc rax\nb: nop")
    where = getattr(g.qbdi, position + "INST")
    g.on(position, "x", at="a")
    g.vm.addMnemonicCB("INC", where, g.noting("m"), None, 5)
    g.vm.addMnemonicCB("INC64r", where, g.noting("n"), None)
    assert g.run()
    assert names(g) == "mxn"
    assert places(g) == ("aaa" if position == "PRE" else "bbb")


def test_none_as_mnemonic(guest: Make, qbdi: Any) -> None:
    """None is no text."""
    g = guest("nop")
    arguments = (None, qbdi.PREINST, g.noting("x"), None)
    if wrong(qbdi, "it gives INVALID_EVENTID"):
        assert g.vm.addMnemonicCB(*arguments) == qbdi.INVALID_EVENTID
    else:
        with pytest.raises(TypeError):
            g.vm.addMnemonicCB(*arguments)


@pytest.mark.parametrize("mnemonic", [5, ["INC"], 1.5])
def test_what_is_no_mnemonic(guest: Make, mnemonic: Any) -> None:
    """A mnemonic is text; else TypeError."""
    g = guest("nop")
    with pytest.raises(TypeError):
        g.vm.addMnemonicCB(mnemonic, g.qbdi.PREINST, g.noting("x"), None)
