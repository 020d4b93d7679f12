"""Analyses of instructions: what is filled, what stays, what is None, symbols, syntax, patches.

The words of `test_analysis_table`: an instruction, then its disassembly, fields and operands::

    add rax, [rdi]
    : \\tadd\\trax, qword ptr [rdi]
    : ADD64rm 3 load=8 flags=w
    : rax:8=rw@0 rdi:8=r@5& 0x1:8& none& 0x0:8& none&

Fields: name and size in bytes, then those that are true, the sizes of a load and a store, the
condition, and how the flags are accessed. Operands: ``REGISTER:SIZE=ACCESS@INDEX``, with ``+BITS``
for a part of a register, ``f`` before the offset of one in FPRState, ``s`` before one in neither;
``VALUE:SIZE`` of an immediate; ``none`` for a register that an address does not have. Marks: ``*``
implicit, ``&`` part of an address, ``^`` relative to rip, ``?`` undefined effect.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any, NamedTuple

import pytest

from tests.compat.harness import Guest, either, wrong

TRUE = {
    "affectControlFlow": "flow",
    "isBranch": "branch",
    "isCall": "call",
    "isReturn": "return",
    "isCompare": "compare",
    "isPredicable": "predicable",
    "isMoveImm": "moveimm",
    "mayLoad": "load",
    "mayStore": "store",
}
MARKS = {"IMPLICIT": "*", "ADDR": "&", "PCREL": "^", "UNDEFINED_EFFECT": "?"}
ACCESS = {0: "", 1: "r", 2: "w", 3: "rw"}


class Row(NamedTuple):
    """An instruction and what is expected of its analysis."""

    text: str
    disassembly: str
    fields: str
    operands: str


def parse(table: str) -> list[Row]:
    """Return the rows of a table."""
    rows: list[list[str]] = []
    for line in table.strip().splitlines():
        if line.startswith(":"):
            rows[-1].append(line[1:].strip())
        elif line.startswith("  "):
            rows[-1][-1] += " " + line.strip()
        else:
            rows.append([line])
    return [Row(*row) for row in rows]


class Analysed(Guest):
    """A guest whose first block is translated, so that its instructions can be asked about."""

    def __init__(self, qbdi: Any, text: str, **more: Any) -> None:
        super().__init__(qbdi, text, **more)
        assert self.vm.precacheBasicBlock(self.base)

    def analysis(self, label: str = "start", *kinds: str) -> Any:
        """The analysis of the instruction at a label; all but symbols and JIT by default."""
        asked = self.qbdi.AnalysisType(0)
        for kind in kinds or ("INSTRUCTION", "DISASSEMBLY", "OPERANDS"):
            asked |= getattr(self.qbdi, "ANALYSIS_" + kind)
        return self.vm.getCachedInstAnalysis(self[label], asked)


def fields_of(qbdi: Any, analysis: Any) -> str:
    """The fields of an analysis in words."""
    words = [analysis.mnemonic, str(analysis.instSize)]
    words += [word for name, word in TRUE.items() if getattr(analysis, name)]
    for name, size in (("load", analysis.loadSize), ("store", analysis.storeSize)):
        if name in words:
            words[words.index(name)] = f"{name}={size}"
        else:
            assert size == 0
    if analysis.condition != qbdi.CONDITION_NONE:
        words.append(analysis.condition.name.removeprefix("CONDITION_").lower())
    if analysis.flagsAccess.value:
        words.append("flags=" + ACCESS[analysis.flagsAccess.value])
    return " ".join(words)


def operands_of(qbdi: Any, analysis: Any) -> str:
    """The operands of an analysis in words."""
    assert analysis.numOperands == len(analysis.operands)
    return " ".join(_operand(qbdi, operand) for operand in analysis.operands) or "-"


def _operand(qbdi: Any, operand: Any) -> str:
    marks = "".join(
        mark
        for name, mark in MARKS.items()
        if operand.flag.value & getattr(qbdi, "OPERANDFLAG_" + name).value
    )
    if operand.type == qbdi.OPERAND_IMM:
        return f"{operand.value:#x}:{operand.size}{marks}"
    if operand.type == qbdi.OPERAND_INVALID:
        return "none" + marks
    if operand.type == qbdi.OPERAND_PRED:
        return f"condition {operand.value}{marks}"
    index = {qbdi.OPERAND_GPR: "", qbdi.OPERAND_FPR: "f", qbdi.OPERAND_SEG: "s"}[operand.type]
    place = f"@{index}{operand.regCtxIdx}"
    if operand.regOff:
        place += f"+{operand.regOff}"
    access = ACCESS[operand.regAccess.value]
    return f"{operand.regName.lower()}:{operand.size}={access}{place}{marks}"


TEXT = "add rax, [rdi]\nsecond: jmp end"
NAMES = {
    "INSTRUCTION": [
        "address",
        "affectControlFlow",
        "condition",
        "instSize",
        "isBranch",
        "isCall",
        "isCompare",
        "isMoveImm",
        "isPredicable",
        "isReturn",
        "loadSize",
        "mayLoad",
        "mayStore",
        "mnemonic",
        "storeSize",
    ],
    "DISASSEMBLY": ["disassembly"],
    "OPERANDS": ["flagsAccess", "numOperands", "operands"],
    "SYMBOL": ["symbolOffset"],
    "JIT": ["patchAddress", "patchInstOffset", "patchInstSize", "patchSize"],
}
OPTIONAL = ["module", "moduleName", "symbol", "symbolName"]


def filled(analysis: Any) -> list[str]:
    """The names of the fields that are not None."""
    names = sorted([*OPTIONAL, *(name for group in NAMES.values() for name in group)])
    return [name for name in names if getattr(analysis, name) is not None]


@pytest.mark.parametrize("kind", NAMES)
def test_fields_of_a_kind(qbdi: Any, kind: Any) -> None:
    """Code in no module has an offset, and no names."""
    assert filled(Analysed(qbdi, TEXT).analysis("start", kind)) == NAMES[kind]


def test_nothing_asked_for(qbdi: Any) -> None:
    g = Analysed(qbdi, TEXT)
    assert filled(g.vm.getCachedInstAnalysis(g.base, qbdi.AnalysisType(0))) == []


def test_what_was_asked_for_stays_filled(qbdi: Any) -> None:
    g = Analysed(qbdi, TEXT)
    assert filled(g.analysis("start", "DISASSEMBLY")) == NAMES["DISASSEMBLY"]
    assert filled(g.analysis("start", "OPERANDS")) == sorted(
        NAMES["DISASSEMBLY"] + NAMES["OPERANDS"]
    )
    assert filled(g.analysis("second", "OPERANDS")) == NAMES["OPERANDS"]


def test_default_of_a_cached_analysis(qbdi: Any) -> None:
    g = Analysed(qbdi, TEXT)
    kinds = ("INSTRUCTION", "DISASSEMBLY", "JIT")
    expected = sorted(name for kind in kinds for name in NAMES[kind])
    assert filled(g.vm.getCachedInstAnalysis(g.base)) == expected


@pytest.mark.parametrize("position", ["PREINST", "POSTINST"])
def test_default_in_a_callback(qbdi: Any, position: str) -> None:
    """After the instruction it is still the current one."""
    g = Guest(qbdi, TEXT)
    g.set(rdi=g.data)
    seen = []

    def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        analysis = vm.getInstAnalysis()
        seen.append((filled(analysis), analysis.address, analysis.mnemonic))
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g.base, getattr(qbdi, position), callback, None)
    g.run()
    kinds = sorted(NAMES["INSTRUCTION"] + NAMES["DISASSEMBLY"])
    assert seen == [(kinds, g.base, "ADD64rm")]


def test_cached_analysis_in_a_callback(qbdi: Any) -> None:
    g = Guest(qbdi, TEXT)
    g.set(rdi=g.data)
    seen = []

    def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append(vm.getCachedInstAnalysis(g["second"]).mnemonic)
        seen.append(vm.getInstAnalysis(qbdi.ANALYSIS_OPERANDS).numOperands)
        return qbdi.CONTINUE

    g.vm.addCodeAddrCB(g.base, qbdi.PREINST, callback, None)
    g.run()
    assert seen == ["JMP_1", 6]


def test_outside_a_run_there_is_no_current_instruction(qbdi: Any) -> None:
    g = Analysed(qbdi, TEXT)
    assert g.vm.getInstAnalysis() is None


@pytest.mark.parametrize("offset", [1, 2, 5, 0x1000, -1])
def test_no_cached_instruction_starts_there(qbdi: Any, offset: int) -> None:
    g = Analysed(qbdi, TEXT)
    assert len(g.code) == 5
    assert g.vm.getCachedInstAnalysis(g.base + offset) is None


@pytest.mark.parametrize("address", [0, (1 << 64) - 1])
def test_no_instruction_at_the_ends_of_memory(qbdi: Any, address: Any) -> None:
    g = Analysed(qbdi, TEXT)
    assert g.vm.getCachedInstAnalysis(address) is None
    assert g.vm.getJITInstAnalysis(address) is None


def test_clearing_the_cache_forgets(qbdi: Any) -> None:
    g = Analysed(qbdi, TEXT)
    g.vm.clearAllCache()
    assert g.vm.getCachedInstAnalysis(g.base) is None


@pytest.mark.parametrize("address", [-1, 1 << 64, None, "x", 1.5])
def test_wrong_address_is_a_type_error(qbdi: Any, address: Any) -> None:
    g = Analysed(qbdi, TEXT)
    with pytest.raises(TypeError):
        g.vm.getCachedInstAnalysis(address)
    with pytest.raises(TypeError):
        g.vm.getJITInstAnalysis(address)


@pytest.mark.parametrize("kind", [1, None, "PREINST"])
def test_wrong_kind_is_a_type_error(qbdi: Any, kind: Any) -> None:
    g = Analysed(qbdi, TEXT)
    kind = getattr(qbdi, str(kind), kind)
    with pytest.raises(TypeError):
        g.vm.getCachedInstAnalysis(g.base, kind)
    with pytest.raises(TypeError):
        g.vm.getInstAnalysis(kind)


def test_patch_holds_the_instruction(qbdi: Any) -> None:
    g = Analysed(qbdi, TEXT)
    analysis = g.analysis("start", "JIT")
    assert analysis.patchInstOffset + analysis.patchInstSize <= analysis.patchSize
    patch = ctypes.string_at(analysis.patchAddress, analysis.patchSize)
    assert patch[analysis.patchInstOffset :][: analysis.patchInstSize] == g.code[:3]


def test_patches_do_not_overlap(qbdi: Any) -> None:
    g = Analysed(qbdi, TEXT)
    first, second = g.analysis("start", "JIT"), g.analysis("second", "JIT")
    assert first.patchAddress + first.patchSize <= second.patchAddress


@pytest.mark.parametrize("label", ["start", "second"])
def test_instruction_of_a_patch(qbdi: Any, label: str) -> None:
    """It is found by each address in the patch, and not by its own."""
    g = Analysed(qbdi, TEXT)
    jit = g.analysis(label, "JIT")
    for offset in (0, jit.patchInstOffset, jit.patchSize - 1):
        found = g.vm.getJITInstAnalysis(jit.patchAddress + offset)
        assert found.address == g[label]
        assert found.disassembly == g.analysis(label).disassembly
    assert g.vm.getJITInstAnalysis(g[label]) is None


def test_code_with_callbacks_has_a_patch_with_the_instruction_inside(qbdi: Any) -> None:
    g = Guest(qbdi, TEXT)
    g.on("PRE", "x")
    assert g.vm.precacheBasicBlock(g.base)
    analysis = g.vm.getCachedInstAnalysis(g.base, qbdi.ANALYSIS_JIT)
    assert analysis.patchInstOffset > 0
    patch = ctypes.string_at(analysis.patchAddress, analysis.patchSize)
    assert patch[analysis.patchInstOffset :][: analysis.patchInstSize] == g.code[:3]


@pytest.mark.parametrize(
    ("text", "att"),
    [
        ("add rax, [rdi + 8]", "\taddq\t0x8(%rdi), %rax"),
        ("mov eax, 5", "\tmovl\t$0x5, %eax"),
        ("lock xadd [rdi], rax", "\tlock\t\txaddq\t%rax, (%rdi)"),
        ("mov rax, [rbx + rcx*8 - 0x10]", "\tmovq\t-0x10(%rbx,%rcx,8), %rax"),
        ("mov rax, fs:[0x28]", "\tmovq\t%fs:0x28, %rax"),
        ("jmp end", "\tjmp\t0x0"),
        ("rep movsb", "\trep\t\tmovsb\t(%rsi), %es:(%rdi)"),
    ],
)
def test_att_syntax(qbdi: Any, text: str, att: str) -> None:
    g = Analysed(qbdi, text, options=qbdi.OPT_ATT_SYNTAX)
    assert g.analysis().disassembly == att


def test_change_of_syntax_forgets(qbdi: Any) -> None:
    g = Analysed(qbdi, "mov eax, 5\njmp end")
    assert g.analysis().disassembly == "\tmov\teax, 0x5"
    g.vm.options = qbdi.OPT_ATT_SYNTAX
    assert g.vm.getCachedInstAnalysis(g.base) is None
    assert g.vm.precacheBasicBlock(g.base)
    assert g.analysis().disassembly == "\tmovl\t$0x5, %eax"


def libc_function(qbdi: Any, name: str) -> tuple[Any, int]:
    """A VM that has translated the beginning of a function of libc, and the function's address."""
    address = ctypes.cast(getattr(ctypes.CDLL("libc.so.6"), name), ctypes.c_void_p).value
    assert address
    vm = qbdi.VM()
    vm.addInstrumentedRange(address, address + 16)
    assert vm.precacheBasicBlock(address)
    return vm, address


def test_symbol_of_a_library_function(qbdi: Any) -> None:
    vm, address = libc_function(qbdi, "abs")
    analysis = vm.getCachedInstAnalysis(address, qbdi.ANALYSIS_SYMBOL | qbdi.ANALYSIS_INSTRUCTION)
    assert (analysis.symbolName, analysis.symbolOffset) == ("abs", 0)
    assert analysis.moduleName == "libc.so.6"
    assert (analysis.symbol, analysis.module) == ("abs", "libc.so.6")
    behind = address + analysis.instSize
    analysis = vm.getCachedInstAnalysis(behind, qbdi.ANALYSIS_SYMBOL | qbdi.ANALYSIS_INSTRUCTION)
    assert (analysis.symbolName, analysis.symbolOffset) == ("abs", behind - address)


def test_symbol_alone(qbdi: Any) -> None:
    vm, address = libc_function(qbdi, "abs")
    analysis = vm.getCachedInstAnalysis(address, qbdi.ANALYSIS_SYMBOL)
    assert (analysis.symbolName, analysis.moduleName) == either(
        qbdi,
        pyqbdi=(None, None),
        right=("abs", "libc.so.6"),
        reason="it looks for the symbol of an address that is not filled in",
    )


def test_analyses_cannot_be_written_or_made(qbdi: Any) -> None:
    analysis = Analysed(qbdi, TEXT).analysis()
    for name in ("address", "mnemonic", "operands", "disassembly"):
        with pytest.raises(AttributeError):
            setattr(analysis, name, None)
    with pytest.raises(AttributeError):
        analysis.operands[0].value = 5
    with pytest.raises(TypeError):
        qbdi.InstAnalysis()
    with pytest.raises(TypeError):
        qbdi.OperandAnalysis()


def test_types_of_fields(qbdi: Any) -> None:
    g = Analysed(qbdi, TEXT)
    analysis = g.analysis()
    assert type(analysis.condition) is qbdi.ConditionType
    assert type(analysis.flagsAccess) is qbdi.RegisterAccessType
    assert type(analysis.operands) is tuple
    assert {type(operand) for operand in analysis.operands} == {qbdi.OperandAnalysis}
    register = analysis.operands[0]
    assert type(register.type) is qbdi.OperandType
    assert type(register.flag) is qbdi.OperandFlag
    assert type(register.regAccess) is qbdi.RegisterAccessType
    assert (register.regName, register.regCtxIdx, register.size) == ("RAX", 0, 8)
    scale, absent = analysis.operands[2], analysis.operands[3]
    for other in (scale, absent):
        assert (other.regName, other.regCtxIdx, other.regOff) == (None, -1, 0)
        assert other.regAccess == qbdi.REGISTER_UNUSED
    assert (scale.type, scale.value, scale.size) == (qbdi.OPERAND_IMM, 1, 8)
    assert (absent.type, absent.value, absent.size) == (qbdi.OPERAND_INVALID, 0, 0)


def test_kept_analysis(qbdi: Any) -> None:
    analysis = Analysed(qbdi, TEXT).analysis()
    gc.collect()
    if not wrong(qbdi, "it refers to memory of its VM, which is gone"):
        assert analysis.disassembly == "\tadd\trax, qword ptr [rdi]"
        assert analysis.mnemonic == "ADD64rm"
