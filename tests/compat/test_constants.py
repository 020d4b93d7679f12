"""Public names, enumerations and their members."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from tests.compat.harness import either

pytestmark = pytest.mark.in_parent

PLAIN: dict[str, dict[str, int]] = {
    "VMAction": {"CONTINUE": 0, "SKIP_INST": 1, "SKIP_PATCH": 2, "BREAK_TO_VM": 3, "STOP": 4},
    "InstPosition": {"PREINST": 0, "POSTINST": 1},
    "CallbackPriority": {"PRIORITY_DEFAULT": 0, "PRIORITY_MEMACCESS_LIMIT": 1 << 24},
    "ConditionType": {
        "CONDITION_NONE": 0,
        "CONDITION_ALWAYS": 2,
        "CONDITION_NEVER": 3,
        "CONDITION_EQUALS": 4,
        "CONDITION_NOT_EQUALS": 5,
        "CONDITION_ABOVE": 6,
        "CONDITION_BELOW_EQUALS": 7,
        "CONDITION_ABOVE_EQUALS": 8,
        "CONDITION_BELOW": 9,
        "CONDITION_GREAT": 10,
        "CONDITION_LESS_EQUALS": 11,
        "CONDITION_GREAT_EQUALS": 12,
        "CONDITION_LESS": 13,
        "CONDITION_EVEN": 14,
        "CONDITION_ODD": 15,
        "CONDITION_OVERFLOW": 16,
        "CONDITION_NOT_OVERFLOW": 17,
        "CONDITION_SIGN": 18,
        "CONDITION_NOT_SIGN": 19,
    },
    "OperandType": {
        "OPERAND_INVALID": 0,
        "OPERAND_IMM": 1,
        "OPERAND_GPR": 2,
        "OPERAND_PRED": 3,
        "OPERAND_FPR": 4,
        "OPERAND_SEG": 5,
    },
    "LogPriority": {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "DISABLE": 255},
    "VMError": {"INVALID_EVENTID": 0xFFFFFFFF},
}
FLAGS: dict[str, dict[str, int]] = {
    "VMEvent": {
        "SEQUENCE_ENTRY": 1,
        "SEQUENCE_EXIT": 2,
        "BASIC_BLOCK_ENTRY": 4,
        "BASIC_BLOCK_EXIT": 8,
        "BASIC_BLOCK_NEW": 16,
        "EXEC_TRANSFER_CALL": 32,
        "EXEC_TRANSFER_RETURN": 64,
    },
    "Options": {
        "NO_OPT": 0,
        "OPT_DISABLE_FPR": 1,
        "OPT_DISABLE_OPTIONAL_FPR": 2,
        "OPT_DISABLE_MEMORYACCESS_VALUE": 4,
        "OPT_DISABLE_ERRNO_BACKUP": 8,
        "OPT_ATT_SYNTAX": 1 << 24,
        "OPT_ENABLE_FS_GS": 1 << 25,
    },
    "MemoryAccessType": {"MEMORY_READ": 1, "MEMORY_WRITE": 2, "MEMORY_READ_WRITE": 3},
    "MemoryAccessFlags": {
        "MEMORY_NO_FLAGS": 0,
        "MEMORY_UNKNOWN_SIZE": 1,
        "MEMORY_MINIMUM_SIZE": 2,
        "MEMORY_UNKNOWN_VALUE": 4,
    },
    "AnalysisType": {
        "ANALYSIS_INSTRUCTION": 1,
        "ANALYSIS_DISASSEMBLY": 2,
        "ANALYSIS_OPERANDS": 4,
        "ANALYSIS_SYMBOL": 8,
        "ANALYSIS_JIT": 16,
    },
    "OperandFlag": {
        "OPERANDFLAG_NONE": 0,
        "OPERANDFLAG_ADDR": 1,
        "OPERANDFLAG_PCREL": 2,
        "OPERANDFLAG_UNDEFINED_EFFECT": 4,
        "OPERANDFLAG_IMPLICIT": 8,
    },
    "RegisterAccessType": {
        "REGISTER_UNUSED": 0,
        "REGISTER_READ": 1,
        "REGISTER_WRITE": 2,
        "REGISTER_READ_WRITE": 3,
    },
    "Permission": {"PF_NONE": 0, "PF_READ": 1, "PF_WRITE": 2, "PF_EXEC": 4},
}
ENUMERATIONS = {**PLAIN, **FLAGS}
REGISTER_NUMBERS = {
    "REG_RETURN": 0, "AVAILABLE_GPR": 14, "REG_BP": 14, "REG_SP": 15, "REG_PC": 16, "NUM_GPR": 17,
    "REG_FLAG": 17, "REG_LR": None,
}  # fmt: skip
_CLASSES = """
    FPControl FPRState FPStatus GPRState InstAnalysis InstrRuleDataCBK MMSTReg MemoryAccess
    MemoryMap OperandAnalysis Range VM VMState"""
CLASSES = _CLASSES.split()
_FUNCTIONS = """
    alignedAlloc alignedFree allocateMemory allocateRword allocateVirtualStack decodeDouble
    decodeDoubleU decodeFloat decodeFloatU encodeDouble encodeDoubleU encodeFloat
    encodeFloatU freeMemory getCurrentProcessMaps getModuleNames getRemoteProcessMaps
    readMemory readRword setLogPriority simulateCall writeMemory writeRword"""
FUNCTIONS = _FUNCTIONS.split()
_VM_METHODS = """
    addCodeAddrCB addCodeCB addCodeRangeCB addInstrRule addInstrRuleRange
    addInstrumentedModule addInstrumentedModuleFromAddr addInstrumentedRange addMemAccessCB
    addMemAddrCB addMemRangeCB addMnemonicCB addVMEventCB call clearAllCache clearCache
    deleteAllInstrumentations deleteInstrumentation getBBMemoryAccess getCachedInstAnalysis
    getErrno getFPRState getGPRState getInstAnalysis getInstMemoryAccess getJITInstAnalysis
    getNbExecBlock instrumentAllExecutableMaps precacheBasicBlock recordMemoryAccess
    reduceCacheTo removeAllInstrumentedRanges removeInstrumentedModule
    removeInstrumentedModuleFromAddr removeInstrumentedRange run setErrno setFPRState
    setGPRState"""
VM_METHODS = _VM_METHODS.split()


def members(qbdi: Any, name: str) -> dict[str, Any]:
    return dict(getattr(qbdi, name).__members__)


def test_no_public_name_is_missing(qbdi: Any) -> None:
    """All names of PyQBDI 0.12.1 are there: 15 enumerations, 13 classes, 23 functions, ..."""
    names = [*ENUMERATIONS, *CLASSES, *FUNCTIONS, *REGISTER_NUMBERS]
    names += [member for table in ENUMERATIONS.values() for member in table]
    assert len(set(names)) == 138
    assert [name for name in names if not hasattr(qbdi, name)] == []


def test_classes_are_types(qbdi: Any) -> None:
    """Each class is a type with its own name."""
    kinds = [getattr(qbdi, name) for name in CLASSES]
    assert {type(kind) for kind in kinds if not isinstance(kind, type)} == set()
    assert [kind.__name__ for kind in kinds] == CLASSES


def test_functions_are_documented(qbdi: Any) -> None:
    """Each function is callable, has its own name and a docstring."""
    functions = [getattr(qbdi, name) for name in FUNCTIONS]
    assert [f.__name__ for f in functions if callable(f) and f.__doc__] == FUNCTIONS


def test_vm_methods_are_documented(qbdi: Any) -> None:
    """Each method of VM is there, with a docstring."""
    methods = {name: getattr(qbdi.VM, name, None) for name in VM_METHODS}
    assert [name for name, method in methods.items() if not callable(method)] == []
    assert [name for name, method in methods.items() if not method.__doc__] == []
    assert qbdi.VM.options.__doc__


def test_register_numbers(qbdi: Any) -> None:
    """Register numbers are constants of the module."""
    assert {name: getattr(qbdi, name) for name in REGISTER_NUMBERS} == REGISTER_NUMBERS


def test_platform(qbdi: Any) -> None:
    """The module names what it runs on."""
    assert (qbdi.__arch__, qbdi.__platform__, qbdi.__preload__) == ("X86_64", "linux", False)
    assert isinstance(qbdi.__version__, str)


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_members_and_values(qbdi: Any, name: str) -> None:
    """Members come in this order with these values; int() and hash() are the value."""
    found = members(qbdi, name)
    assert {key: member.value for key, member in found.items()} == ENUMERATIONS[name]
    assert list(found) == list(ENUMERATIONS[name])
    for member in found.values():
        assert int(member) == member.value == member.__index__()
        assert hash(member) == member.value


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_members_are_exported(qbdi: Any, name: str) -> None:
    """A member is an attribute of its enumeration and of the module; its value makes it again."""
    kind = getattr(qbdi, name)
    for key, value in ENUMERATIONS[name].items():
        assert type(getattr(qbdi, key)) is type(kind(value)) is kind
        assert getattr(qbdi, key) == getattr(kind, key) == kind(value)


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_texts_of_members(qbdi: Any, name: str) -> None:
    """repr shows the value, str does not."""
    for key, value in ENUMERATIONS[name].items():
        member = getattr(qbdi, key)
        assert repr(member) == f"<{name}.{key}: {value}>"
        assert str(member) == f"{member}" == f"{name}.{key}"
        assert member.name == key


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_no_member_from_anything_else(qbdi: Any, name: str) -> None:
    """Only unsigned integers can be made members; others raise TypeError."""
    for value in (-1, 1 << 64, 1.0, "CONTINUE", None):
        with pytest.raises(TypeError):
            getattr(qbdi, name)(value)
    with pytest.raises(TypeError):
        getattr(qbdi, name)()


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_members_equal_their_integers(qbdi: Any, name: str) -> None:
    """A member equals its value, in dictionaries too, and members of other kinds with it."""
    for value in ENUMERATIONS[name].values():
        member = getattr(qbdi, name)(value)
        assert member == value
        assert value == member
        assert member != value + 1
        assert member is not None
        assert {value: "x"}[member] == {member: "x"}[value] == "x"
        assert [other for other in ENUMERATIONS if getattr(qbdi, other)(value) != member] == []


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_members_survive_copying(qbdi: Any, name: str) -> None:
    """Copies and pickles are equal and of the same kind."""
    for member in members(qbdi, name).values():
        for other in (copy.copy(member), copy.deepcopy(member), pickle.loads(pickle.dumps(member))):
            assert type(other) is type(member)
            assert other == member


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_members_are_constant(qbdi: Any, name: str) -> None:
    """Name and value of a member cannot be set."""
    member = next(iter(members(qbdi, name).values()))
    for attribute in ("name", "value"):
        with pytest.raises(AttributeError):
            setattr(member, attribute, 7)


@pytest.mark.parametrize("name", PLAIN)
def test_unknown_value_of_a_plain_enumeration(qbdi: Any, name: str) -> None:
    """A value without a name is shown as ???."""
    value = getattr(qbdi, name)(77)
    assert (int(value), value.name, repr(value)) == (77, "???", f"<{name}.???: 77>")


@pytest.mark.parametrize("name", PLAIN)
def test_plain_members_are_no_numbers(qbdi: Any, name: str) -> None:
    """Members that are no flags are neither combined nor ordered."""
    member = next(iter(members(qbdi, name).values()))
    for operation in (
        lambda: member | member,
        lambda: member & 1,
        lambda: 1 ^ member,
        lambda: ~member,
        lambda: member < member,
        lambda: member >= 0,
    ):
        with pytest.raises(TypeError):
            operation()


@pytest.mark.parametrize("name", FLAGS)
def test_flags_combine_to_flags(qbdi: Any, name: str) -> None:
    """|, & and ^ of two flags of one kind are of that kind."""
    kind = getattr(qbdi, name)
    for first in range(8):
        for second in range(8):
            a, b = kind(first), kind(second)
            for result, value in (
                (a | b, first | second),
                (a & b, first & second),
                (a ^ b, first ^ second),
            ):
                assert type(result) is kind
                assert result == value


@pytest.mark.parametrize("name", FLAGS)
def test_inverted_flags(qbdi: Any, name: str) -> None:
    """~ gives the enumeration's other flags."""
    known = 0
    for value in FLAGS[name].values():
        known |= value
    for value in FLAGS[name].values():
        inverted = ~getattr(qbdi, name)(value)
        assert type(inverted) is getattr(qbdi, name)
        assert inverted == known ^ value


@pytest.mark.parametrize("name", FLAGS)
def test_flags_with_integers_are_integers(qbdi: Any, name: str) -> None:
    """With an integer, or a flag of another kind, operators give an integer."""
    flag = getattr(qbdi, name)(1)
    other = qbdi.Permission(4) if name != "Permission" else qbdi.VMEvent(4)
    for result, value in (
        (flag | 4, 5), (4 | flag, 5), (flag & 3, 1), (3 & flag, 1), (flag ^ 3, 2), (3 ^ flag, 2),
        (flag | other, 5), (flag & other, 0), (flag ^ other, 5),
    ):  # fmt: skip
        assert type(result) is int
        assert result == value


@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_ordered(qbdi: Any, name: str) -> None:
    """Flags compare by value, with integers and other kinds of flags too."""
    one, two = getattr(qbdi, name)(1), getattr(qbdi, name)(2)
    other = qbdi.Permission(1) if name != "Permission" else qbdi.VMEvent(1)
    assert one < two <= two
    assert two > one >= other
    assert (one < 2, one < 2, one >= 2) == (True, True, False)
    assert one == other


@pytest.mark.parametrize("name", FLAGS)
def test_empty_flags_are_false(qbdi: Any, name: str) -> None:
    """No flag is false, any flag is true."""
    kind = getattr(qbdi, name)
    empty = either(qbdi, pyqbdi=True, right=False, reason="its flags are always true")
    assert bool(kind(0)) is empty
    assert bool(kind(1) & kind(2)) is empty
    assert bool(kind(1)) is True


COMBINATIONS = [
    ("VMEvent", 5, "SEQUENCE_ENTRY|BASIC_BLOCK_ENTRY"),
    ("VMEvent", 21, "SEQUENCE_ENTRY|BASIC_BLOCK_ENTRY|BASIC_BLOCK_NEW"),
    ("VMEvent", 10, "SEQUENCE_EXIT|BASIC_BLOCK_EXIT"),
    ("VMEvent", 129, "SEQUENCE_ENTRY"),
    ("VMEvent", 128, "???"),
    ("VMEvent", 0, "0"),
    ("Permission", 5, "PF_READ|PF_EXEC"),
    ("Permission", 7, "PF_READ|PF_WRITE|PF_EXEC"),
    ("Permission", 8, "???"),
    ("Options", 1 << 24 | 3, "OPT_DISABLE_FPR|OPT_DISABLE_OPTIONAL_FPR|OPT_ATT_SYNTAX"),
    ("MemoryAccessFlags", 6, "MEMORY_MINIMUM_SIZE|MEMORY_UNKNOWN_VALUE"),
    ("AnalysisType", 19, "ANALYSIS_INSTRUCTION|ANALYSIS_DISASSEMBLY|ANALYSIS_JIT"),
    ("OperandFlag", 3, "OPERANDFLAG_ADDR|OPERANDFLAG_PCREL"),
    ("RegisterAccessType", 5, "REGISTER_READ"),
]


@pytest.mark.parametrize(("name", "value", "text"), COMBINATIONS)
def test_texts_of_combined_flags(qbdi: Any, name: str, value: int, text: str) -> None:
    """Combined flags are named in the order of their bits; bits without a name are left out."""
    flags = getattr(qbdi, name)(value)
    assert repr(flags) == f"<{name}.{text}: {value}>"
    assert str(flags) == f"{name}.{text}"
