"""The registers as PyQBDI shows them: LLVM's names and numbers, and where the states hold them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydbi.enums import OperandType
from pydbi.tuples import NamedTuple
from pydbi.x86.registers import GENERAL_REGISTER_NAMES

__all__ = ["CLASSES", "REGISTERS", "Register"]


class Register(NamedTuple):
    """A register, in the words of `OperandAnalysis`."""

    type: OperandType
    number: int
    size: int
    offset: int
    context: int
    name: str


_GPR: Final = OperandType.OPERAND_GPR
_FPR: Final = OperandType.OPERAND_FPR
_SEG: Final = OperandType.OPERAND_SEG

_GENERAL: Final = tuple(name.upper() for name in GENERAL_REGISTER_NAMES)
_NEW: Final = _GENERAL[8:]
#: Classes of registers by letter: in each the names in the order of their encoding numbers.
CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "b": ("AL", "CL", "DL", "BL", "SPL", "BPL", "SIL", "DIL", *(n + "B" for n in _NEW)),
    "h": ("AL", "CL", "DL", "BL", "AH", "CH", "DH", "BH", *(n + "B" for n in _NEW)),
    "w": (*(name[1:] for name in _GENERAL[:8]), *(n + "W" for n in _NEW)),
    "d": (*("E" + name[1:] for name in _GENERAL[:8]), *(n + "D" for n in _NEW)),
    "q": _GENERAL,
    "x": tuple(f"XMM{i}" for i in range(32)),
    "Y": tuple(f"YMM{i}" for i in range(32)),
    "Z": tuple(f"ZMM{i}" for i in range(32)),
    "k": tuple(f"K{i % 8}" for i in range(32)),
    "kk": tuple(f"K{i & ~1}_K{i | 1}" for i in range(8)),
    "m": tuple(f"MM{i % 8}" for i in range(16)),
    "st": tuple(f"ST{i % 8}" for i in range(16)),
    "cr": tuple(f"CR{i}" for i in range(16)),
    "dr": tuple(f"DR{i}" for i in range(16)),
    "sg": tuple(f"{'ECSDFG'[i % 8]}S" if i % 8 < 6 else "?" for i in range(16)),
    "t": tuple(f"TMM{i % 8}" for i in range(32)),
}

#: Offsets in FPRState (PyQBDI's layout) of what a register of the name plus its number occupies.
_FPR_BANKS: Final = {"MM": (32, 16), "ST": (32, 16), "XMM": (160, 16), "YMM": (512, 16)}
#: Of XMM and YMM FPRState holds the first sixteen.
_HELD: Final = 16
#: Sizes in bytes of what is not in the states have no meaning there: PyQBDI gives 0.
_SIZES: Final = {"MM": 8, "ST": 10, "XMM": 16, "YMM": 32, "ZMM": 64, "K": 0, "TMM": 0,
                 "CR": 0, "DR": 0}  # fmt: skip
#: Names in the order of GPRState.
_CONTEXT: Final = (
    *("AX", "BX", "CX", "DX", "SI", "DI"),
    *(f"R{i}" for i in range(8, 16)),
    *("BP", "SP", "IP"),
)

#: LLVM's register numbers: the names in their order, from the number on.
_NUMBERED: Final = (
    (1, "AH AL AX BH BL BP"),
    (8, "BPL BX CH CL CS CX"),
    (15, "DH DI"),
    (18, "DIL DL DS DX EAX EBP EBX ECX EDI EDX"),
    (29, "EIP EIZ"),
    (31, "ES ESI ESP FPCW FPSW FS"),
    (38, "GS"),
    (50, "MXCSR RAX RBP RBX RCX RDI RDX"),
    (58, "RIP RIZ"),
    (60, "RSI RSP SI"),
    (64, "SIL SP"),
    (67, "SPL SS SSP"),
    (71, " ".join(f"CR{i}" for i in range(16))),
    (87, " ".join(f"DR{i}" for i in range(16))),
    (111, " ".join(f"MM{i}" for i in range(8))),
    (119, " ".join(_NEW)),
    (127, " ".join(f"ST{i}" for i in range(8))),
    (135, " ".join(f"XMM{i}" for i in range(16))),
    (151, " ".join(n + "B" for n in _NEW)),
    (167, " ".join(n + "D" for n in _NEW)),
    (175, " ".join(n + "W" for n in _NEW)),
    (191, " ".join(f"YMM{i}" for i in range(16))),
    (207, " ".join(f"K{i}" for i in range(8))),
    (215, " ".join(f"XMM{i}" for i in range(16, 32))),
    (231, " ".join(f"YMM{i}" for i in range(16, 32))),
    (247, " ".join(f"ZMM{i}" for i in range(32))),
    (279, "K0_K1 K2_K3 K4_K5 K6_K7"),
    (284, " ".join(f"TMM{i}" for i in range(8))),
)
#: What belongs to no bank: type, size in bytes, offset in FPRState.
_SINGLE: Final = {
    "FPCW": (_FPR, 2, 0),
    "FPSW": (_FPR, 2, 2),
    "MXCSR": (_FPR, 4, 24),
    "SSP": (_SEG, 8, -1),
    "EIZ": (_SEG, 4, -1),
    "RIZ": (_SEG, 8, -1),
    **dict.fromkeys(("CS", "DS", "ES", "FS", "GS", "SS"), (_SEG, 2, -1)),
}


def _general(name: str) -> tuple[int, int, int] | None:
    """Return (size, offset in bits, index in GPRState) of a general register, or None."""
    for size, kind in ((8, "q"), (4, "d"), (2, "w"), (1, "b"), (1, "h")):
        if name in CLASSES[kind]:
            whole = _GENERAL[CLASSES[kind].index(name) % 4 if name[1:] == "H" else
                             CLASSES[kind].index(name)]  # fmt: skip
            stem = whole if whole in _NEW else whole[1:]
            return size, 8 if name[1:] == "H" else 0, _CONTEXT.index(stem)
    if name in ("RIP", "EIP"):
        return 8 if name == "RIP" else 4, 0, _CONTEXT.index("IP")
    return None


def _describe(name: str, number: int) -> Register:
    if name in _SINGLE:
        kind, size, context = _SINGLE[name]
        return Register(kind, number, size, 0, context, name)
    general = _general(name)
    if general is not None:
        size, offset, context = general
        return Register(_GPR, number, size, offset, context, name)
    bank = name.rstrip("0123456789_K") or "K"
    index = int(name[len(bank) :].partition("_")[0])
    if bank in _FPR_BANKS and index < _HELD:
        start, step = _FPR_BANKS[bank]
        return Register(_FPR, number, _SIZES[bank], 0, start + step * index, name)
    kind = _FPR if bank in ("XMM", "YMM", "ZMM") else _SEG
    return Register(kind, number, _SIZES[bank], 0, -1, name)


def _all() -> Iterator[Register]:
    for first, names in _NUMBERED:
        for number, name in enumerate(names.split(), first):
            yield _describe(name, number)


REGISTERS: Final[dict[str, Register]] = {register.name: register for register in _all()}
