"""The patch rules one by one: what each generates, as Capstone reads it."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from typing import Any

import capstone
import pytest
from capstone import x86

from pydbi.errors import UnsupportedInstruction
from pydbi.jit import patches
from pydbi.jit.cache import EXIT_STUB_SIZE, CodeCache
from pydbi.jit.context import GPR_NAMES, SLOT, TABLE_OFFSET
from pydbi.jit.draft import Draft
from pydbi.jit.patch_branches import overwrites_rcx
from pydbi.jit.patches import RULES, rule_for
from pydbi.x86 import traits
from pydbi.x86.encoder import add_register, load_gs, move_immediate, store_gs
from pydbi.x86.registers import GENERAL_REGISTER_NAMES
from pydbi.x86.scanner import scan_block
from tests.exec.gnu_as import assemble
from tests.x86.libraries import executable_sections, libraries

DISASSEMBLER = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
DISASSEMBLER.detail = True
SLOT_NAMES = {offset: name for name, offset in SLOT.items()} | {TABLE_OFFSET: "TABLE"}
FAR = 1 << 40


class Patched:
    """One instruction's translation: text to compare, and the draft it was made in."""

    def __init__(self, cache: CodeCache, code: bytes, distance: int = 1 << 20) -> None:
        _, specials, end, _ = scan_block(code + b"\x90" * 16, 1)
        self.special = specials[0]
        self.arena = cache.arenas[0]
        self.base = self.arena.address + 0x100
        self.app = self.base + distance
        self.draft = Draft(cache, lambda registration, state: 0)
        self.draft.begin(self.app, code, self.arena, self.base)
        rule_for(self.special[2])(self.draft, self.special)
        self.following = self.app + end
        self.out = bytes(self.draft.out)

    def __str__(self) -> str:
        return "; ".join(self.described(i) for i in self.instructions())

    def instructions(self) -> list[capstone.CsInsn]:
        """The translation, disassembled; all of it must be instructions."""
        found = list(DISASSEMBLER.disasm(self.out, self.base))
        assert sum(i.size for i in found) == len(self.out), self.out.hex()
        return found

    def described(self, instruction: capstone.CsInsn) -> str:
        """Mnemonic and operands, slots and this patch's own targets by name."""
        text = f"{instruction.mnemonic} {instruction.op_str}".strip()
        for operand in instruction.operands:
            if operand.type == x86.X86_OP_MEM and operand.mem.base == x86.X86_REG_RIP:
                target = instruction.address + instruction.size + operand.mem.disp
                name = hex(target - self.app) if abs(target - self.app) < 1 << 32 else hex(target)
                constant = self.arena.data_top <= target < self.arena.end
                if constant:
                    value = ctypes.c_uint64.from_address(target).value
                    name = f"={value - self.app:#x}"
                text = text.split("[")[0] + f"[{name}]" + text.split("]")[1]
            elif operand.type == x86.X86_OP_MEM and operand.mem.segment == x86.X86_REG_GS:
                if operand.mem.base:  # the guest's own
                    continue
                name = SLOT_NAMES[operand.mem.disp & -8]
                index = (
                    "" if operand.mem.index == 0 else "+" + instruction.reg_name(operand.mem.index)
                )
                start = text.index("gs:[")
                text = text[:start] + name + index + text[text.index("]", start) + 1 :]
            elif operand.type == x86.X86_OP_IMM and instruction.group(x86.X86_GRP_BRANCH_RELATIVE):
                text = f"{instruction.mnemonic} {self.place(operand.imm)}"
        return text.replace("qword ptr ", "").replace("dword ptr ", "")

    def place(self, target: int) -> str:
        """Where a jump of the translation goes."""
        draft = self.draft
        for index in range(self.arena.next_exit):
            stub = draft.stub_base + index * EXIT_STUB_SIZE
            if target == stub:
                return f"exit {draft.exits[index][0] - self.app:+#x}"
        assert self.base <= target <= self.base + len(self.out)
        return f"+{target - self.base}"


@pytest.fixture
def cache() -> Iterator[CodeCache]:
    """A small code cache with one arena."""
    made = CodeCache(1 << 20)
    here = made.records_address
    made.arena_for(here, here, here + 1)
    yield made
    made.close()


def asm(text: str) -> bytes:
    """Assemble one instruction."""
    return assemble(f".intel_syntax noprefix\n.text\n{text}\n")


DIRECT = {
    "eb10": "jmp exit +0x12",
    "ebf0": "jmp exit -0xe",
    "e900100000": "jmp exit +0x1005",
    "7410": "je exit +0x12; jmp exit +0x2",
    "7fff": "jg exit +0x1; jmp exit +0x2",
    "0f8cf0ffffff": "jl exit -0xa; jmp exit +0x6",
    "e800010000": "push [=0x5]; jmp exit +0x105",
}


def test_direct_branches(cache: CodeCache) -> None:
    """jmp and jcc become jumps to exits; a call pushes the app return address first."""
    for code, expected in DIRECT.items():
        assert str(Patched(cache, bytes.fromhex(code))) == expected
    for code, name in (("e2fe", "loop"), ("e110", "loope"), ("e010", "loopne"), ("e310", "jrcxz"),
                       ("67e310", "jecxz")):  # fmt: skip
        raw = bytes.fromhex(code)
        size = len(raw)
        displacement = struct.unpack("b", raw[-1:])[0]
        taken, behind = size + displacement, size
        # Taken: to the first exit. Not taken: over it, to the second.
        expected = f"{name} +{size + 2}; jmp +{size + 7}; "
        expected += f"jmp exit {taken:+#x}; jmp exit {behind:+#x}"
        assert str(Patched(cache, raw)) == expected


RETURNS = {
    "ret": "mov SCRATCH_RCX, rcx; pop rcx; mov TARGET, rcx; movzx ecx, cx; jmp TABLE+rcx",
    "ret 32": "mov SCRATCH_RCX, rcx; pop rcx; lea rsp, [rsp + 0x20]; mov TARGET, rcx; "
    "movzx ecx, cx; jmp TABLE+rcx",
    "ret 0xfff8": "mov SCRATCH_RCX, rcx; pop rcx; lea rsp, [rsp + 0xfff8]; mov TARGET, rcx; "
    "movzx ecx, cx; jmp TABLE+rcx",
}
LOOK_UP = "mov TARGET, rcx; movzx ecx, cx; jmp TABLE+rcx"
LOADS = {
    "jmp rax": "mov rcx, rax",
    "jmp rcx": "",
    "jmp r9": "mov rcx, r9",
    "jmp rsp": "mov rcx, rsp",
    "jmp [rcx]": "mov rcx, [rcx]",
    "jmp [rsp + 8]": "mov rcx, [rsp + 8]",
    "jmp [r12 + r13 * 8 - 0x70]": "mov rcx, [r12 + r13*8 - 0x70]",
    "jmp fs:[0x10]": "mov rcx, fs:[0x10]",
    "jmp [edx + 4]": "mov rcx, [edx + 4]",
    "jmp [rip + 0x1000]": "mov rcx, [0x1006]",
    "jmp gs:[rax + 8]": "mov SCRATCH_1, r11; lea rcx, [rax + 8]; mov r11, GUEST_GS; "
    "mov rcx, [rcx + r11]; mov r11, SCRATCH_1",
}


@pytest.mark.parametrize("text", RETURNS)
def test_returns(cache: CodeCache, text: str) -> None:
    """A return pops into rcx and looks the target up by its low 16 bits."""
    assert str(Patched(cache, asm(text))) == RETURNS[text]


@pytest.mark.parametrize("text", LOADS)
def test_indirect_branches(cache: CodeCache, text: str) -> None:
    """The target goes to rcx by the operand's own addressing; a call pushes after that."""
    load = f"{LOADS[text]}; " if LOADS[text] else ""
    assert str(Patched(cache, asm(text))) == f"mov SCRATCH_RCX, rcx; {load}{LOOK_UP}"
    call = asm(text.replace("jmp", "call"))
    load = load.replace(f"{0x1006:#x}", f"{len(call) + 0x1000:#x}")
    push = f"push [={len(call):#x}]; "
    assert str(Patched(cache, call)) == f"mov SCRATCH_RCX, rcx; {load}{push}{LOOK_UP}"


def test_far_rip_relative_branch(cache: CodeCache) -> None:
    """A branch operand out of reach is loaded through rcx, and a fault there finds rcx."""
    patched = Patched(cache, asm("jmp [rip + 0x1000]"), FAR)
    address = patched.app + 0x1006
    found = str(patched)
    assert found.startswith(f"mov SCRATCH_RCX, rcx; movabs rcx, {address:#x}; mov rcx, [rcx]; ")
    assert [entry[2:] for entry in patched.draft.scratch] == [(2, SLOT["SCRATCH_RCX"])]


RIP_OPERANDS = [
    "mov rax, [rip + 0x1000]", "mov [rip + 0x1000], r15", "lea rdi, [rip + 0x1000]",
    "lea r10d, [rip - 5]", "lea r9w, [rip - 5]", "cmp dword ptr [rip + 0x1000], 0x12345678",
    "test byte ptr [rip + 0x1000], 5", "push [rip + 0x1000]", "pop [rip + 0x1000]",
    "movaps xmm9, [rip + 0x1000]", "vaddpd ymm9, ymm10, [rip + 0x1000]",
    "vpshufd xmm1, [rip + 0x1000], 5", "vaddpd zmm19 {k3}, zmm22, [rip + 0x1000]",
    "imul rbx, [rip + 0x1000], 100", "lock cmpxchg16b [rip + 0x1000]",
    "mul qword ptr [rip + 0x1000]",
    "shl dword ptr [rip + 0x1000], cl", "xchg rsi, [rip + 0x1000]", "add rdi, [rip + 0x1000]",
    "crc32 rsi, qword ptr [rip + 0x1000]", "vpinsrq xmm8, xmm9, [rip + 0x1000], 1",
    "mulx rsi, rdi, [rip + 0x1000]", "sarx r8, [rip + 0x1000], r9", "fld tbyte ptr [rip + 0x1000]",
    "vpgatherdd xmm1, [rax + xmm2], xmm3; nop", "vfmadd231sd xmm1, xmm2, [rip + 0x1000]",
    "mov word ptr [rip + 0x1000], 0x1234", "movbe r11, [rip + 0x1000]", "prefetcht0 [rip + 8]",
]  # fmt: skip


@pytest.mark.parametrize("text", [t for t in RIP_OPERANDS if "rip" in t])
def test_rip_operands(cache: CodeCache, text: str) -> None:
    """In reach: the same instruction, the same target. Out of reach: through a register that the
    instruction does not use, saved before and restored after."""
    code = asm(text)
    original = next(DISASSEMBLER.disasm(code, 0))
    near = Patched(cache, code)
    (found,) = near.instructions()
    assert (found.mnemonic, found.size) == (original.mnemonic, original.size)
    assert near.described(found) == near.described(next(DISASSEMBLER.disasm(code, near.app)))
    far = Patched(cache, code, FAR)
    instructions = far.instructions()
    target = far.app + len(code) + original.disp
    if original.mnemonic == "lea":
        (move,) = instructions
        size = {8: 64, 4: 32, 2: 16}[original.operands[0].size]
        assert move.mnemonic in ("movabs", "mov")
        assert family(move.operands[0].reg) == family(original.operands[0].reg)
        assert move.operands[1].imm & (1 << size) - 1 == target & (1 << size) - 1
        return
    save, load, body, restore = instructions
    scratch = save.operands[1].reg
    assert far.described(save) == f"mov SCRATCH_0, {save.reg_name(scratch)}"
    assert far.described(restore) == f"mov {save.reg_name(scratch)}, SCRATCH_0"
    assert (load.mnemonic, load.operands[0].reg) == ("movabs", scratch)
    assert load.operands[1].imm & (1 << 64) - 1 == target
    assert body.mnemonic == original.mnemonic
    used = {r for registers in original.regs_access() for r in registers}
    assert not {family(r) for r in used} & {family(scratch)}
    memory = next(o.mem for o in body.operands if o.type == x86.X86_OP_MEM)
    assert (memory.base, memory.index, memory.disp) == (scratch, 0, 0)
    others = [o for o in body.operands if o.type != x86.X86_OP_MEM]
    expected = [o for o in original.operands if o.type != x86.X86_OP_MEM]
    assert [operand(o) for o in others] == [operand(o) for o in expected]
    first, last, register, slot = far.draft.scratch[0]
    assert far.base + first <= body.address < far.base + last
    assert slot == SLOT["SCRATCH_0"]
    assert register in (4, 5, 6, 7, 8, 9)  # rsi, rdi, r8-r11 as contexts count them


def operand(value: Any) -> tuple[int, int, int]:
    """A register or immediate operand as something to compare."""
    return value.type, value.reg if value.type == x86.X86_OP_REG else value.imm, value.size


def family(register: int) -> str:
    """The name of the 64-bit register that a register is part of."""
    name = DISASSEMBLER.reg_name(register)
    if name.startswith("r") and name[1:].rstrip("dwb").isdigit():
        return name.rstrip("dwb")
    return name.lstrip("er").removesuffix("l").removesuffix("h").removesuffix("x")


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


def test_transactions_abort(cache: CodeCache) -> None:
    """xbegin goes to its abort handler at once with eax 0, or is undefined as without RTM."""
    found = str(Patched(cache, b"\xc7\xf8" + struct.pack("<i", 0x100)))
    assert found in ("mov eax, 0; jmp exit +0x106", "ud2; jmp exit +0x6")


@pytest.mark.parametrize("code", ["cc", "0f0b", "f4", "cd80"])
def test_traps_are_executed(cache: CodeCache, code: str) -> None:
    """int3, ud2, hlt and int n stay what they are."""
    raw = bytes.fromhex(code)
    patched = Patched(cache, raw)
    assert patched.out.startswith(raw)
    assert str(patched).endswith(f"; jmp exit +{len(raw):#x}")


@pytest.mark.parametrize("code", ["66eb10", "66e90000", "66c3", "0fa1", "8ee8", "0fb400", "cf",
                                  "48cf", "cb", "ff28", "ff18", "48ff2b", "6567c4e26d900c88",
                                  "6567660f38f806", "6567c4e27b4b0408"])  # fmt: skip
def test_refused(cache: CodeCache, code: str) -> None:
    """What cannot be translated raises UnsupportedInstruction with its address and bytes."""
    raw = bytes.fromhex(code)
    with pytest.raises(UnsupportedInstruction) as caught:
        Patched(cache, raw)
    assert raw.startswith(caught.value.code)
    assert caught.value.app_address == cache.arenas[0].address + 0x100 + (1 << 20)
    assert caught.value.reason


def test_first_match_wins() -> None:
    """rule_for is the first rule that matches; the last one matches everything."""
    seen = set()
    for flow in range(traits.FLOW_MASK + 1):
        for flag in [0, *(1 << bit for bit in range(5, 19))]:
            bits = flow | flag
            first = next(rule for rule in RULES if rule.matches(bits))
            assert rule_for(bits) is first.emit
            seen.add(first)
    assert seen == set(RULES), "no rule is hidden behind the ones before it"
    assert RULES[-1].matches(0)
    assert RULES[-1].matches((1 << 19) - 1)
    assert rule_for(traits.JMP | traits.PREFIX66_BRANCH) is RULES[0].emit
    assert rule_for(traits.JMP_INDIRECT | traits.RIP) is patches.emit_jmp_indirect
    assert rule_for(traits.RIP | traits.GS) is patches.emit_gs


def library_code() -> Iterator[bytes]:
    """The executable sections of libc."""
    path = next(path for path in libraries() if path.name.startswith(("libc.so", "libc-")))
    for _, code in executable_sections(path):
        yield code


def test_every_instruction_of_libc_has_a_rule(cache: CodeCache) -> None:
    """Each kind of special instruction in libc is translated near and far, and decodes."""
    kinds: dict[tuple[int, bytes], bytes] = {}
    for code in library_code():
        at = 0
        while at < len(code) - 32:
            window = code[at : at + 4096]
            _, specials, end, _ = scan_block(window, 400)
            for start, stop, bits, _, _ in specials:
                raw = window[start:stop]
                kinds.setdefault((bits, raw[:2]), raw)
            at += end or 1
    assert len(kinds) > 100
    refused = set()
    for raw in kinds.values():
        for distance in (1 << 20, FAR):
            try:
                assert Patched(cache, raw, distance).instructions()
            except UnsupportedInstruction:
                refused.add(raw.hex())
    assert not [code for code in refused if code[:2] not in ("0f", "cb", "ca", "cf", "48", "ff")]


def test_encoder() -> None:
    """The hand-encoded instructions are what Capstone reads, for every register."""
    for number, name in enumerate(GENERAL_REGISTER_NAMES):
        cases = {
            store_gs(number, 0x1234): f"mov qword ptr gs:[0x1234], {name}",
            load_gs(number, 0x1234): f"mov {name}, qword ptr gs:[0x1234]",
            move_immediate(number, 0x1122334455667788): f"movabs {name}, 0x1122334455667788",
            move_immediate(number, -1): f"movabs {name}, 0xffffffffffffffff",
        }
        if name not in ("rbp", "r13"):
            for other, addend in enumerate(GENERAL_REGISTER_NAMES):
                if addend != "rsp" and name != "rsp":
                    expected = f"lea {name}, [{name} + {addend}]"
                    cases[add_register(number, other)] = expected
        for code, text in cases.items():
            (found,) = DISASSEMBLER.disasm(code, 0)
            assert (found.size, f"{found.mnemonic} {found.op_str}") == (len(code), text)


def test_overwrites_rcx_is_never_wrong() -> None:
    """Over libc: where it says True, the instruction writes all of rcx and does not read it."""
    parts = {"rcx", "ecx", "cx", "cl", "ch"}
    yes: set[bytes] = set()
    writers = 0
    for code in library_code():
        at = 0
        while at < len(code) - 32:
            window = code[at : at + 4096]
            starts, _, end, _ = scan_block(window, 400)
            for start, stop in zip(starts, [*starts[1:], end], strict=True):
                raw = window[start:stop]
                if raw not in yes and overwrites_rcx(window[start : start + 20], len(raw)):
                    yes.add(raw)
            at += end or 1
    for raw in yes:
        (found,) = DISASSEMBLER.disasm(raw, 0)
        read, written = ({found.reg_name(r) for r in rs} for rs in found.regs_access())
        assert not read & parts, str(found)
        assert written & {"rcx", "ecx"}, str(found)
        writers += 1
    assert writers > 500
