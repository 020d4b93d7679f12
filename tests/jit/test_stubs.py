"""The stubs: the shipped blob is what the sources say, and templates do what their names say."""

from __future__ import annotations

import runpy
import shutil
from itertools import pairwise, product
from pathlib import Path

import capstone
import pytest
from capstone import x86

from pydbi.jit import context
from pydbi.jit.context import SLOT
from pydbi.jit.stubs import Template, stubs

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "pydbi" / "jit"
SYMBOLS = {
    name: int(offset)
    for name, offset in map(str.split, (FOLDER / "stubs_x86_64.symbols").read_text().splitlines())
}
BLOB = (FOLDER / "stubs_x86_64.bin").read_bytes()
TEMPLATES = sorted(
    name.removeprefix("template_").removesuffix(".end")
    for name in SYMBOLS
    if name.startswith("template_") and name.endswith(".end")
)
DISASSEMBLER = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
DISASSEMBLER.detail = True

#: What each template consists of: mnemonics and, for GS operands, the slots they name.
MEANING = {
    "exit": "mov REASON; jmp LEAVE",
    "far_jump": "jmp rip",
    "gate": "mov GATE_INDEX; jmp GATE",
    "return": "mov SCRATCH_RCX; pop; mov TARGET; movzx; jmp TABLE",
    "release": "lea",
    "indirect": "mov SCRATCH_RCX",
    "push": "push rip",
    "hold_target": "mov TARGET; mov SCRATCH_RCX",
    "take_target": "mov SCRATCH_RCX; mov TARGET",
    "native": ("mov SCRATCH_0; mov; movabs; mov NATIVE_TARGET; mov SCRATCH_0; jmp NATIVE_CALL"),
    "call": "mov CALL_RSP; lea",
    "call_return": "mov CALL_RSP; mov rip; mov ACTIVE; mov REASON; jmp LEAVE",
    "transfer_in": (
        "mov SCRATCH_0; mov OUTSIDE; jrcxz; mov OUTSIDE; mov INSIDE; mov SCRATCH_0; jmp; "
        "mov SCRATCH_0; jmp"
    ),
    "transfer_out": (
        "mov SCRATCH_0; mov INSIDE; jrcxz; mov OUTSIDE; mov INSIDE; movabs; mov TRANSFER_TARGET; "
        "mov SCRATCH_0; jmp; mov SCRATCH_0; jmp"
    ),
    "syscall": (
        "movzx; mov SYSCALL_TABLE; movzx; jrcxz; mov REASON; lea rip; jmp SYSCALL_FILTER; "
        "syscall; lea; jrcxz; movabs; jmp; movabs; mov REASON; jmp LEAVE"
    ),
}
#: Templates that the host executes, on its own registers.
HOSTS = {"call_thunk", "make_accesses", "inject"}
#: Templates whose last bytes are data, and how many.
DATA = {"far_jump": 8}
#: Holes that hold a value (the others mark places), and its size.
VALUES = {"index": 4, "target": 8, "size": 4, "displacement": 4, "low": 4, "high": 4, "next": 8,
          "frame": 4, "rip": 4, "context": 8, "entry": 8, "table": 8,
          "interrupted": 4, "again": 8}  # fmt: skip


def disassemble(template: Template, name: str) -> list[capstone.CsInsn]:
    """Disassemble all of a template but its data."""
    size = len(template.code) - DATA.get(name, 0)
    found = list(DISASSEMBLER.disasm(template.code[:size], 0))
    assert sum(instruction.size for instruction in found) == size, "some bytes do not decode"
    return found


def memory_operands(instruction: capstone.CsInsn) -> list[capstone.x86.X86OpMem]:
    """The memory operands of an instruction."""
    return [o.mem for o in instruction.operands if o.type == x86.X86_OP_MEM]


def is_rip_relative(instruction: capstone.CsInsn) -> bool:
    """Whether a memory operand is relative to RIP."""
    return any(mem.base == x86.X86_REG_RIP for mem in memory_operands(instruction))


def described(instruction: capstone.CsInsn) -> str:
    """Mnemonic and what a GS operand names, as MEANING says it."""
    names = {offset: name for name, offset in [*context.GPR_OFFSET.items(), *SLOT.items()]}
    names[context.TABLE_OFFSET] = "TABLE"
    words = [instruction.mnemonic]
    for mem in memory_operands(instruction):
        if mem.segment == x86.X86_REG_GS:
            words.append(names[mem.disp])
        if mem.base == x86.X86_REG_RIP:
            words.append("rip")
    return " ".join(words)


def test_rebuilding_gives_the_shipped_blob() -> None:
    """asm_stubs/build.py makes the shipped files byte for byte from the sources."""
    for tool in ("as", "ld", "objcopy", "nm"):
        if shutil.which(tool) is None:
            pytest.skip(f"GNU binutils are needed to rebuild the stubs, and {tool} is missing")
    blob, symbols = runpy.run_path(str(ROOT / "asm_stubs" / "build.py"))["assemble"]()
    assert symbols == SYMBOLS
    assert blob == BLOB


def test_every_template_is_described_here() -> None:
    """There is a description for each template but the landing pads, which are run elsewhere."""
    pads = {name for name in TEMPLATES if name.startswith("landing_pad")}
    assert pads
    assert set(TEMPLATES) - pads - HOSTS == set(MEANING)


@pytest.mark.parametrize("name", sorted(MEANING))
def test_templates_are_what_they_say(name: str) -> None:
    """Every instruction decodes, and GS operands name the right slots."""
    found = [described(i) for i in disassemble(stubs().template(name), name)]
    assert "; ".join(found) == MEANING[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_can_be_copied_anywhere(name: str) -> None:
    """Nothing is relative to RIP but where it is meant, and no jump leaves the template."""
    template = stubs().template(name)
    starts = {i.address for i in disassemble(template, name)} | {len(template.code)}
    for instruction in disassemble(template, name):
        if is_rip_relative(instruction) and name not in ("far_jump", "push"):
            (place,) = memory_operands(instruction)
            assert instruction.address + instruction.size + place.disp in starts
        direct = [o.imm for o in instruction.operands if o.type == x86.X86_OP_IMM]
        jumps = {x86.X86_GRP_JUMP, x86.X86_GRP_CALL, x86.X86_GRP_BRANCH_RELATIVE}
        if direct and jumps & set(instruction.groups):
            assert direct[0] in starts


@pytest.mark.parametrize("name", sorted({*TEMPLATES} - HOSTS))
def test_memory_is_addressed_through_gs(name: str) -> None:
    """Templates touch the context and the guest's stack, and nothing else."""
    allowed = {x86.X86_REG_RSP, x86.X86_REG_RIP}
    for instruction in disassemble(stubs().template(name), name):
        for mem in memory_operands(instruction):
            if instruction.mnemonic == "lea" or mem.segment == x86.X86_REG_GS:
                continue
            assert mem.base in allowed or (name, mem.base) == ("syscall", x86.X86_REG_R11)


@pytest.mark.parametrize("name", sorted({*TEMPLATES} - HOSTS))
def test_no_template_writes_flags(name: str) -> None:
    """Templates leave the guest's status flags alone (syscall, the guest's own, aside)."""
    changing = 0
    for flag in ("CF", "PF", "AF", "ZF", "SF", "OF"):
        for how in ("MODIFY", "RESET", "SET", "UNDEFINED"):
            changing |= getattr(x86, f"X86_EFLAGS_{how}_{flag}", 0)
    for instruction in disassemble(stubs().template(name), name):
        if instruction.mnemonic not in ("syscall", "loop"):
            assert not instruction.eflags & changing, str(instruction)


@pytest.mark.parametrize("name", TEMPLATES)
def test_holes_are_immediates_or_displacements(name: str) -> None:
    """A hole for a value covers an immediate, a displacement or data exactly."""
    template = stubs().template(name)
    fields = set()
    for instruction in disassemble(template, name):
        if instruction.imm_offset:
            fields.add((instruction.address + instruction.imm_offset, instruction.imm_size))
        if instruction.disp_offset:
            fields.add((instruction.address + instruction.disp_offset, instruction.disp_size))
    if name in DATA:
        fields.add((len(template.code) - DATA[name], DATA[name]))
    starts = {i.address for i in disassemble(template, name)} | {len(template.code)}
    for hole, offset in template.holes.items():
        if (hole in VALUES and not name.startswith("landing_pad")) or hole in ("low", "high"):
            assert (offset, VALUES[hole]) in fields, hole
        else:
            assert offset in starts, hole


def test_slots_do_not_overlap() -> None:
    """Registers, slots and areas of a context lie one behind the other."""
    areas = [(offset, offset + 8, name) for name, offset in context.GPR_OFFSET.items()]
    areas += [(offset, offset + 8, name) for name, offset in SLOT.items()]
    ranges_end = context.CACHE_RANGES_OFFSET + 16 * (context.CACHE_RANGES_COUNT + 1)
    stack_end = context.NATIVE_STACK_OFFSET + 16 * context.NATIVE_STACK_ENTRIES
    table_end = context.TABLE_OFFSET + 8 * context.TABLE_ENTRIES
    areas += [
        (context.FPR_OFFSET, context.OPMASK_OFFSET + 64, "FPR"),
        (context.CACHE_RANGES_OFFSET, ranges_end, "CACHE_RANGES"),
        (context.NATIVE_STACK_OFFSET, stack_end, "NATIVE_STACK"),
        (context.TABLE_OFFSET, table_end, "TABLE"),
        (context.SHADOW_OFFSET, context.SHADOW_OFFSET + 16 * context.SHADOW_PAIRS, "SHADOW"),
    ]
    areas.sort()
    for (_, end, name), (start, _, following) in pairwise(areas):
        assert end <= start, f"{name} and {following}"
    assert areas[-1][1] <= context.CONTEXT_SIZE
    assert max(SLOT.values()) + 8 <= context.FPR_OFFSET
    assert context.FPR_OFFSET % 64 == 0
    assert all(offset % 8 == 0 for offset in SLOT.values())
    assert context.TABLE_ENTRIES == 1 << 16  # indexed by the low 16 bits of an address


def test_states_lie_where_the_context_says() -> None:
    """GPRState and FPRState have their fields at the offsets that machine code uses."""
    from pydbi.jit.states import FPRState, GPRState

    for name, offset in context.GPR_OFFSET.items():
        assert getattr(GPRState, name).offset == offset
    assert FPRState.mxcsr.offset == 24  # type: ignore[attr-defined]
    zmm, opmask = FPRState._zmm, FPRState._k  # type: ignore[attr-defined]
    assert zmm.offset + context.FPR_OFFSET == context.ZMM_OFFSET
    assert opmask.offset + context.FPR_OFFSET == context.OPMASK_OFFSET


def test_all_variants_of_the_switch_exist() -> None:
    """There are 24 variants, each with all its entries at addresses of its own."""
    entries = ("enter", "leave", "leave_tail", "gate", "gate_resume")
    choices = product(("sse", "avx", "avx512"), "01", "01", ("fsgsbase", "prctl"))
    found = set()
    for vector, x87, swap, base in choices:
        for entry in entries:
            found.add(SYMBOLS[f"{entry}_{vector}_x87{x87}_swap{swap}_{base}"])
    assert len(found) == 24 * len(entries)
    assert all(0 <= offset < len(BLOB) for offset in found)


def test_python_chooses_existing_variants() -> None:
    """Every combination that Python can ask for gives other addresses for all five slots."""
    seen = set()
    for vector, x87, swap in product(("sse", "avx", "avx512"), (False, True), (False, True)):
        slots = stubs().switch_slots(vector, x87, swap)
        assert set(slots) >= {SLOT[n] for n in ("ENTER", "LEAVE", "LEAVE_TAIL", "GATE")}
        seen.add(tuple(slots.values()))
    assert len(seen) == 12


def test_prctl_variants_use_no_fsgsbase_instruction() -> None:
    """What runs where the kernel forbids rdgsbase and wrgsbase has none of them."""
    forbidden = {"rdgsbase", "wrgsbase", "rdfsbase", "wrfsbase"}
    offsets = sorted(set(SYMBOLS.values()) | {len(BLOB)})
    with_instruction = 0
    for name, start in SYMBOLS.items():
        if name.startswith(("enter_", "leave_", "gate_", "fault_handler")):
            end = next(offset for offset in offsets if offset > start)
            found = {i.mnemonic for i in DISASSEMBLER.disasm(BLOB[start:end], start)}
            if name.endswith("prctl"):
                assert not found & forbidden, name
            with_instruction += bool(found & forbidden)
    assert with_instruction > 12
