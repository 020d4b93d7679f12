"""The patch rules for memory that the guest addresses through GS."""

from __future__ import annotations

import pytest
from capstone import x86

from pydbi.jit.cache import CodeCache
from pydbi.jit.context import GPR_NAMES, SLOT
from tests.jit.patched import DISASSEMBLER, Patched, asm


@pytest.mark.parametrize("text", ["mov rax, gs:[0x10]", "mov gs:[rbx + rcx * 4 + 8], edi",
                                  "cmp byte ptr gs:[rsi], 5", "add gs:[rdi], r8"])  # fmt: skip
def test_gs_operands(cache: CodeCache, text: str) -> None:
    """Memory through GS is addressed with the guest's base, in a register saved around it."""
    code = asm(text)
    original = next(DISASSEMBLER.disasm(code, 0))
    patched = Patched(cache, code)
    save, lea, *middle, body, restore = patched.instructions()
    assert patched.described(save).startswith("mov SCRATCH_0, ")
    scratch = lea.operands[0].reg
    wanted = next(o.mem for o in original.operands if o.type == x86.X86_OP_MEM)
    address = lea.operands[1].mem
    assert (address.base, address.index, address.scale, address.disp) == (
        wanted.base, wanted.index, wanted.scale, wanted.disp,
    )  # fmt: skip
    described = [patched.described(i) for i in middle]
    assert described[0].startswith("mov SCRATCH_1, ")
    assert described[1].endswith(", GUEST_GS")
    assert described[3].endswith(", SCRATCH_1")
    memory = next(o.mem for o in body.operands if o.type == x86.X86_OP_MEM)
    assert (memory.base, memory.segment, memory.disp) == (scratch, 0, 0)
    assert patched.described(restore).endswith(", SCRATCH_0")


ADD_BASE = (
    "mov SCRATCH_1, {other}; mov {other}, GUEST_GS; lea {0}, [{0} + {other}]; "
    "mov {other}, SCRATCH_1"
)
SUBTRACT_BASE = (
    "mov SCRATCH_1, r11; mov r11, GUEST_GS; not r11; lea rsi, [rsi + r11 + 1]; mov r11, SCRATCH_1"
)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("65ac", "lodsb al, byte ptr [rsi]"),
        ("65f348a5", "rep movsq [rdi], [rsi]"),
        ("f2f36566a7", "repe cmpsw word ptr [rsi], word ptr [rdi]"),
        ("4865f2a6", "repne cmpsb byte ptr [rsi], byte ptr [rdi]"),
    ],
)
def test_gs_strings(cache: CodeCache, code: str, body: str) -> None:
    """The base is added to rsi, and subtracted; where it is added a fault's state says so."""
    patched = Patched(cache, bytes.fromhex(code))
    before = ADD_BASE.format("rsi", other="r11")
    assert str(patched) == f"{before}; {body}; {SUBTRACT_BASE}"
    ((first, last, register, slot),) = patched.draft.scratch
    (found,) = DISASSEMBLER.disasm(patched.out[first:last], 0)
    assert f"{found.mnemonic} " in f"{body} "
    assert (register, slot) == (4, -SLOT["GUEST_GS"])
    assert patched.draft.shifts == [(len(code) // 2, len(patched.out))]


def test_narrow_gs_strings(cache: CodeCache) -> None:
    """With 32-bit addresses: an element at a time, each from the low halves of the pointers."""
    copy = "mov SCRATCH_0, rsi; mov esi, esi; " + ADD_BASE.format("rsi", other="r11")
    both = f"{copy}; mov SCRATCH_1, rdi; mov edi, edi"
    assert str(Patched(cache, bytes.fromhex("6567ad"))) == (
        f"{copy}; lodsd eax, [rsi]; {SUBTRACT_BASE}; mov esi, esi"
    )
    patched = Patched(cache, bytes.fromhex("6567f3a6"))
    size = len(patched.out)
    assert str(patched) == (
        f"jecxz +{size - 4}; {both}; cmpsb byte ptr [rsi], byte ptr [rdi]; mov edi, edi; "
        f"{SUBTRACT_BASE}; mov esi, esi; loope +0; jmp +{size}; "
        "repe cmpsb byte ptr gs:[esi], byte ptr [edi]"
    )
    resting = [entry[2:] for entry in patched.draft.scratch]
    assert resting == [(4, SLOT["SCRATCH_0"]), (5, SLOT["SCRATCH_1"])]
    for code, loop in (("6567f3a4", "loop"), ("6567f2a4", "loop"), ("6567f2a7", "loopne")):
        assert f"; {loop} +0; " in str(Patched(cache, bytes.fromhex(code)))


@pytest.mark.parametrize(
    ("code", "before", "body"),
    [
        ("65d7", "movzx esi, al; lea rsi, [rbx + rsi]", "mov al, byte ptr [rsi]"),
        ("6567d7", "movzx esi, al; lea esi, [rbx + rsi]", "mov al, byte ptr [rsi]"),
        ("65660ff7ca", "", "maskmovdqu xmm1, xmm2"),
        ("6567c5f9f7ca", "mov edi, edi", "vmaskmovdqu xmm1, xmm2"),
        ("65650f01fc", "", "clzero"),
        ("67650f01fc", "mov eax, eax", "clzero"),
        ("65f3410faef4", "mov rsi, r12", "umonitor rsi"),
        ("65678f0424", "lea rsi, [esp]; lea esi, [rsi + 8]", "pop [rsi]"),
        ("65668f0424", "lea rsi, [rsp]; lea rsi, [rsi + 2]", "pop word ptr [rsi]"),
        ("65678b4310", "lea rsi, [ebx + 0x10]", "mov eax, [rsi]"),
        ("64658b4310", "lea rsi, [rbx + 0x10]", "mov eax, [rsi]"),
        ("65c4e26d900c88", "lea rsi, [rax]", "vpgatherdd ymm1, ymmword ptr [rsi + ymm1*4], ymm2"),
        (
            "65c4c26d900c8c",
            "lea rsi, [r12]",
            "vpgatherdd ymm1, ymmword ptr [rsi + ymm1*4], ymm2",
        ),
    ],
)
def test_other_gs_addresses(cache: CodeCache, code: str, before: str, body: str) -> None:
    """What has its address in a register gets it there with the base added."""
    found = str(Patched(cache, bytes.fromhex(code)))
    register = "rax" if "clzero" in body else "rdi" if "maskmov" in body else "rsi"
    other = "r11" if register != "rsi" else "rdi"
    middle = f"{before}; " if before else ""
    add = ADD_BASE.format(register, other=other)
    expected = f"mov SCRATCH_0, {register}; {middle}{add}; {body}; mov {register}, SCRATCH_0"
    assert found == expected


def test_gs_gathers(cache: CodeCache) -> None:
    """The base register is another one, whatever the displacement; without one there is one."""
    for text, form in (
        ("vpscatterdd dword ptr gs:[r13 + zmm31*4 + 8]{k1}, zmm5", "zmm31*4 + 8"),
        ("vgatherqpd ymm3, qword ptr gs:[ymm5*8 + 0x12345], ymm2", "ymm5*8 + 0x12345"),
        ("vgatherqpd ymm9, qword ptr gs:[rsp + ymm14*8 - 0x80], ymm2", "ymm14*8 - 0x80"),
    ):
        patched = Patched(cache, asm(text))
        body = patched.instructions()[-2]
        (first, last, register, slot) = patched.draft.scratch[0]
        assert form in body.op_str
        assert "gs:" not in body.op_str
        assert first <= body.address - patched.base < last
        memory = next(o.mem for o in body.operands if o.type == x86.X86_OP_MEM)
        index = GPR_NAMES.index(body.reg_name(memory.base))
        assert (register, slot) == (index, SLOT["SCRATCH_0"])


def test_gs_base(cache: CodeCache) -> None:
    """rdgsbase and wrgsbase read and write the guest's base in the context.

    What is not a canonical address is left to the instruction itself, which faults.
    """
    assert str(Patched(cache, asm("rdgsbase r9"))) == "mov r9, GUEST_GS"
    assert str(Patched(cache, asm("rdgsbase ebx"))) == "mov ebx, GUEST_GS"
    written = str(Patched(cache, asm("wrgsbase rsp")))
    assert written.startswith("mov SCRATCH_1, rcx; mov rcx, rsp; mov SCRATCH_0, rax; lahf")
    assert written.endswith(
        "mov rcx, SCRATCH_1; wrgsbase rsp; mov rcx, SCRATCH_1; mov GUEST_GS, rsp"
    )
    assert str(Patched(cache, asm("wrgsbase ecx"))) == "mov GUEST_GS, ecx; mov GUEST_GS, 0"
