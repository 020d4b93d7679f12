"""Capstone as an oracle for the scanner, with the errors of its own that are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import capstone

from pydbi.x86 import traits
from pydbi.x86.instruction import LEGACY
from pydbi.x86.scanner import (
    Instruction,
)

CAPSTONE: Final = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
LEGACY_PREFIXES: Final = bytes.fromhex("262e363e6465 66 67 f0f2f3")


def words(text: str) -> frozenset[str]:
    """Return the words of *text*."""
    return frozenset(text.split())


_JCC: Final = words("jo jno jb jae je jne jbe ja js jns jp jnp jl jge jle jg")
_LOOPS: Final = words("loop loope loopne jrcxz jecxz")
_FAR: Final = words(
    "ljmp lcall retf retfq iret iretd iretq sysret sysretq sysexit sysexitq sysenter"
)
#: Instructions that only the kernel may execute, or that trap by design.
_TRAPS: Final = words(
    """
    int3 int int1 ud0 ud1 ud2 hlt clts invd wbinvd wbnoinvd wrmsr rdmsr getsec rsm lgdt lidt lldt
    ltr lmsw invlpg swapgs monitor mwait clac stac vmread vmwrite vmptrld vmptrst vmclear vmxon
    invept invvpid invpcid invlpgb tlbsync
    """
)
_CONTROL_AND_DEBUG_MOVES: Final = frozenset((0x20, 0x21, 0x22, 0x23))


def _flow_by_capstone(instruction: Instruction, mnemonic: str, operands: str) -> int:
    """Return the flow kind that Capstone's text implies."""
    name = mnemonic.split()[-1]
    direct = operands.startswith("0x") or operands.isdigit()
    if name in ("jmp", "call"):
        if operands.startswith("ptr "):  # far: Capstone gives no size
            return traits.FAR
        if direct:
            return traits.JMP if name == "jmp" else traits.CALL
        return traits.JMP_INDIRECT if name == "jmp" else traits.CALL_INDIRECT
    if name == "mov" and instruction.opcode_map == 1:
        return traits.TRAP if instruction.opcode in _CONTROL_AND_DEBUG_MOVES else traits.PLAIN
    kinds = (
        (_JCC, traits.JCC),
        (_LOOPS, traits.LOOP),
        (_FAR, traits.FAR),
        (_TRAPS, traits.TRAP),
        ({"ret"}, traits.RET),
        ({"syscall"}, traits.SYSCALL),
        ({"xbegin"}, traits.XBEGIN),
    )
    return next((kind for names, kind in kinds if name in names), traits.PLAIN)


def has_prefix(code: bytes, *prefixes: int) -> bool:
    """Tell whether one of *prefixes* stands before the opcode (REX prefixes in between or not)."""
    for byte in code:
        if byte in prefixes:
            return True
        if byte not in LEGACY_PREFIXES and byte & 0xF0 != 0x40:
            return False
    return False


def opcode_bytes(code: bytes) -> bytes:
    """Return *code* from its opcode or escape byte on."""
    at = 0
    while at < len(code) and (code[at] in LEGACY_PREFIXES or code[at] & 0xF0 == 0x40):
        at += 1
    return code[at:]


Theirs = tuple[int, int, str, str]
_Rule = tuple[str, Callable[[bytes, Instruction | None, Theirs | None], bool]]

#: Where Capstone 5 and we differ, and Capstone is wrong. The processor agrees with us on each
#: (test_processor_confirms_the_scanner). Each rule gets the bytes, what we say and what it says.
_PADLOCK = frozenset(
    ("montmul", "xcryptcbc", "xcryptcfb", "xcryptctr", "xcryptecb", "xcryptofb", "xsha1", "xsha256",
     "xstore")
)  # fmt: skip

_CAPSTONE_ERRORS: Final[tuple[_Rule, ...]] = (
    (
        "LOCK on an instruction or operand that cannot be locked is #UD (SDM 2, LOCK); Capstone "
        "checks some mnemonics only, and none where F2 or F3 follows",
        lambda code, ours, theirs: ours is None and has_prefix(code, 0xF0),
    ),
    (
        "VEX, EVEX and XOP after 66, F2, F3 or REX are #UD (SDM 2, 2.3.3), so are EVEX with "
        "reserved payload bits or vector length 3, and opcodes without a form for this pp",
        lambda code, ours, theirs: ours is None and opcode_bytes(code)[0] in b"\x62\xc4\xc5\x8f",
    ),
    (
        "an opcode of the 0f maps without a form for this 66, F2 or F3 prefix is #UD (SDM 2, "
        "appendix A.2.4); Capstone falls back to the form without prefix",
        lambda code, ours, theirs: (
            ours is None and opcode_bytes(code)[0] == 0x0F and has_prefix(code, 0x66, 0xF2, 0xF3)
        ),
    ),
    (
        "mov to CS is #UD (SDM 2, MOV)",
        lambda code, ours, theirs: (
            ours is None and opcode_bytes(code)[0] == 0x8E and opcode_bytes(code)[1] >> 3 & 7 == 1
        ),
    ),
    (
        "Capstone 5 does not know newer extensions, XOP's and 3DNow!'s full length rules, AMX, "
        "FP16, VNNI and key locker; nor does it check vvvv as strictly as our tables are lax",
        lambda code, ours, theirs: (
            theirs is None
            and ours is not None
            and (ours.encoding != LEGACY or opcode_bytes(code)[:2] == b"\x0f\x0f")
        ),
    ),
    (
        "legacy opcodes that Capstone 5 does not know: reserved no-ops and prefetches (0f 0d, "
        "0f 18-1f), younger instructions in 0f 01, 0f 38 d8-fc, 0f 3a f0, 0f ae and 0f c7",
        lambda code, ours, theirs: (
            theirs is None
            and ours is not None
            and (
                (ours.opcode_map == 1 and ours.opcode in (0x0D, *range(0x18, 0x20)))
                or (ours.opcode_map == 1 and ours.opcode in (0x01, 0xAE, 0xC7, 0x78, 0x79))
                or (ours.opcode_map == 2 and ours.opcode >= 0xCF)
                or (ours.opcode_map == 3 and ours.opcode in (0xCF, 0xF0))
            )
        ),
    ),
    (
        "x87 aliases that all processors execute (fcom2, fxch4, fstp8, ffreep, ...; AMD APM 3, "
        "table A-15)",
        lambda code, ours, theirs: (
            theirs is None and ours is not None and 0xD8 <= ours.opcode <= 0xDF
        ),
    ),
    (
        "Capstone has no form for some combinations of 66 with F2, F3 or 67, though F2 and F3 win "
        "and surplus prefixes are ignored",
        lambda code, ours, theirs: (
            theirs is None
            and ours is not None
            and ours.encoding == LEGACY
            and (has_prefix(code, 0x66, 0x67, 0xF2, 0xF3) or ours.opcode == 0x63)
        ),
    ),
    (
        "ud0 and ud1 have a ModRM byte (SDM 2, UD); Capstone omits it",
        lambda code, ours, theirs: (
            ours is not None and ours.opcode_map == 1 and ours.opcode in (0xB9, 0xFF)
        ),
    ),
    (
        "66 before a near branch is ignored by Intel processors, whose length we give; AMD "
        "processors read 16 bits. Capstone does this for jo and jno, that for the others",
        lambda code, ours, theirs: ours is not None and bool(ours.traits & traits.PREFIX66_BRANCH),
    ),
    (
        "VIA PadLock (0f a6, 0f a7) is undefined on other makers' processors, and not translated",
        lambda code, ours, theirs: (
            ours is None and theirs is not None and theirs[2].split()[-1] in _PADLOCK
        ),
    ),
    (
        "66 does not change the two-byte operand of ret (SDM 2, RET); Capstone reads 4 with REX.W",
        lambda code, ours, theirs: ours is not None and ours.opcode in (0xC2, 0xCA),
    ),
)


def capstone_error(code: bytes, ours: Instruction | None, theirs: Theirs | None) -> bool:
    """Tell whether a difference is one of the known errors of Capstone."""
    return any(rule(code, ours, theirs) for _, rule in _CAPSTONE_ERRORS)


def disassemble(code: bytes) -> Iterator[Theirs]:
    """Yield Capstone's (offset, size, mnemonic, operands), stepping over bytes it rejects."""
    start = 0
    while start < len(code):
        at = start
        for offset, size, mnemonic, operands in CAPSTONE.disasm_lite(code[start:], start):
            yield offset, size, mnemonic, operands
            at = offset + size
        start = at + 1


def difference_to_capstone(ours: Instruction | None, theirs: Theirs) -> str | None:
    """Describe in what *ours* differs from Capstone's instruction, if it does."""
    _, size, mnemonic, operands = theirs
    if ours is None:
        return "rejected"
    if ours.length != size:
        return f"length {ours.length} instead of {size}"
    # Capstone writes [rip + x] for exactly the operands with mod 0, rm 5.
    relative = "[rip" in operands or "[eip" in operands
    if relative != ours.is_rip_relative:
        return f"RIP-relative: {ours.is_rip_relative}"
    if relative and ours.disp_offset != ours.modrm_offset + 1:
        return f"displacement at {ours.disp_offset}"
    flow = _flow_by_capstone(ours, mnemonic, operands)
    if ours.flow != flow:
        return f"flow {traits.describe(ours.traits)} instead of {traits.FLOW_NAMES[flow]}"
    return None
