"""One instruction as the patch rules translate it, as text that tests compare."""

from __future__ import annotations

import ctypes
from typing import Any

import capstone
from capstone import x86

from pydbi.jit.cache import EXIT_STUB_SIZE, CodeCache
from pydbi.jit.context import SLOT, TABLE_OFFSET
from pydbi.jit.draft import Draft
from pydbi.jit.patches import rule_for
from pydbi.x86.scanner import scan_block
from tests.exec.gnu_as import assemble

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


def asm(text: str) -> bytes:
    """Assemble one instruction."""
    return assemble(f".intel_syntax noprefix\n.text\n{text}\n")


def operand(value: Any) -> tuple[int, int, int]:
    """A register or immediate operand as something to compare."""
    return value.type, value.reg if value.type == x86.X86_OP_REG else value.imm, value.size


def family(register: int) -> str:
    """The name of the 64-bit register that a register is part of."""
    name = DISASSEMBLER.reg_name(register)
    if name.startswith("r") and name[1:].rstrip("dwb").isdigit():
        return name.rstrip("dwb")
    return name.lstrip("er").removesuffix("l").removesuffix("h").removesuffix("x")
