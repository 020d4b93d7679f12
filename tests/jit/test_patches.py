"""The patch rules one by one: what each generates, as Capstone reads it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from capstone import x86

from pydbi.errors import UnsupportedInstruction
from pydbi.jit import patches
from pydbi.jit.cache import CodeCache
from pydbi.jit.context import SLOT
from pydbi.jit.patch_branches import overwrites_rcx
from pydbi.jit.patches import RULES, rule_for
from pydbi.x86 import traits
from pydbi.x86.encoder import add_register, load_gs, move_immediate, store_gs
from pydbi.x86.registers import GENERAL_REGISTER_NAMES
from pydbi.x86.scanner import scan_block
from tests.jit.patched import DISASSEMBLER, FAR, Patched, asm, family, operand
from tests.x86.libraries import executable_sections, libraries

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
