"""Random snippets as assembly text: the parts that all families of instructions share.

A snippet is a list of groups of lines. A group keeps its own invariants (a divisor that is not 0, a
counter for a loop, both ends of a branch), so any group can be taken out when a failure is
reduced.

Templates write operands as ``<name>``; see `Writer.expand`. A snippet may write any register but
the few that hold a pointer into the data area or a small index; memory operands are made from
these, from rsp and from rip.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.exec.machine_state import random_word

DATA_SIZE = 0x2000
STACK_SIZE = 0x2000
MIDDLE = 0x1000
"""Where pointers into the data area point, give or take 256 bytes, and rsp into the stack."""

_LEGACY = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")
REGISTERS = tuple(f"r{name}" for name in _LEGACY) + tuple(f"r{n}" for n in range(8, 16))
_POINTER_WORDS = {8: "byte", 16: "word", 32: "dword", 64: "qword", 80: "tbyte"}
_VECTOR_WORDS = {128: "xmmword", 256: "ymmword", 512: "zmmword"}
_HIGH = ("ah", "ch", "dh", "bh")
_PLACEHOLDER = re.compile(r"<([A-Za-z]+)(\d*)>")


def words(text: str) -> list[str]:
    """The words of a text: a readable list of many mnemonics."""
    return text.split()


def sized(register: str, size: int) -> str:
    """The name of the low *size* bits of a 64-bit register."""
    if register[1:].isdigit():
        return register + {8: "b", 16: "w", 32: "d", 64: ""}[size]
    short = register[1:]
    if size == 8:
        return short[0] + "l" if short.endswith("x") else short + "l"
    return {16: "", 32: "e", 64: "r"}[size] + short


@dataclass
class Snippet:
    """What is to be executed, and what must be known to do so."""

    family: str
    seed: int
    groups: list[list[str]]
    pointers: dict[str, int]
    """Register -> offset in the data area."""
    index_register: str
    steps_vary: bool = False
    """It computes another thing when single-stepped, or each time (PUSHF, RDTSC): of the steps,
    only the addresses are compared."""
    low_only: bool = False
    """Needs all addresses below 4 GiB (address-size prefixes)."""

    def text(self, number: int) -> str:
        """The lines, with labels that are unique in a batch; ``@`` stands for the number."""
        return "\n".join(line.replace("@", f"_{number}") for group in self.groups for line in group)


@dataclass
class Writer:
    """Makes the operands and groups of one snippet."""

    rng: random.Random
    features: frozenset[str]
    pointers: dict[str, int]
    index_register: str
    steps_vary: bool = False
    low_only: bool = False
    _labels: int = 0
    _busy: set[str] = field(default_factory=set)

    def label(self) -> str:
        """A label of this snippet's own."""
        self._labels += 1
        return f"L@_{self._labels}"

    def pick(self, register: str = "") -> str:
        """A register that may be written."""
        reserved = {*self.pointers, self.index_register, "rsp", register} | self._busy
        return self.rng.choice([name for name in REGISTERS if name not in reserved])

    def any_register(self) -> str:
        """A register that is only read; rsp now and then."""
        if self.rng.random() < 0.1:
            return "rsp"
        return self.rng.choice([name for name in REGISTERS if name != "rsp"])

    def immediate(self, size: int) -> int:
        """A signed immediate as an instruction with operands of *size* bits takes it."""
        bits = min(size, 32)
        value = random_word(self.rng) if self.rng.random() < 0.6 else self.rng.randrange(-128, 128)
        value &= (1 << bits) - 1
        return value - (1 << bits) if value >> (bits - 1) else value

    def address(self, aligned: int = 0) -> str:
        """A memory operand without its size, in any of the addressing forms."""
        rng = self.rng
        kind = rng.randrange(12)
        if aligned:
            offset = rng.randrange(16) * aligned + MIDDLE
            return f"[rip + data + {offset}]"
        if kind < 3:
            return f"[rip + data + {MIDDLE + rng.randrange(-512, 512)}]"
        if kind == 3:  # a little above rsp, or in the red zone
            return f"[rsp + {rng.choice((rng.randrange(0, 64), -rng.randrange(64, 129)))}]"
        base = rng.choice(list(self.pointers))
        displacement = rng.choice((0, rng.randrange(-128, 128), rng.randrange(-600, 600)))
        text = base
        if kind > 8:
            text += f" + {self.index_register}*{rng.choice((1, 2, 4, 8))}"
        elif kind == 8:
            text = f"{self.index_register} + {base}"
        return f"[{text} + {displacement}]" if displacement else f"[{text}]"

    def memory(self, size: int, aligned: int = 0) -> str:
        """A memory operand of *size* bits."""
        word = (_POINTER_WORDS | _VECTOR_WORDS)[size]
        segment = "" if self.rng.random() < 0.97 else self.rng.choice(("ds:", "es:", "cs:", "ss:"))
        return f"{word} ptr {segment}{self.address(aligned)}"

    def _vector(self, name: str) -> str:
        """<x> <y> <z>: registers 0-15; <X> <Y> <Z>: 0-31; <xm> ...: or memory; <xa>: aligned."""
        kind = name[0]
        bits = {"x": 128, "y": 256, "z": 512}[kind.lower()]
        if len(name) == 2 and self.rng.random() < 0.5:
            return self.memory(bits, aligned=16 if name[1] == "a" else 0)
        count = 32 if kind.isupper() else 16
        return f"{kind.lower()}mm{self.rng.randrange(count)}"

    def expand(self, template: str, size: int = 0) -> str:
        """Fill a template's placeholders.

        ``<d>`` a register to write, ``<s>`` one to read, ``<m>`` memory, ``<dm>`` and ``<sm>``
        either, ``<i>`` an immediate: of *size*, or of the number that follows. ``<b>`` an 8-bit
        immediate, ``<q>`` the index register. ``<x>`` and so on: `_vector`. ``<a128>`` memory
        aligned to its size. ``<mk>`` an optional opmask, ``<k>`` an opmask register, ``<mm>`` and
        ``<st>`` x87 registers, ``<mms>`` MMX register or memory.
        """
        return _PLACEHOLDER.sub(lambda match: self._operand(match, size), template)

    def _operand(self, match: re.Match[str], size: int) -> str:
        name, digits = match.groups()
        bits = int(digits) if digits else size
        rng = self.rng
        if name[0] in "xyzXYZ":
            return self._vector(name)
        simple: dict[str, Callable[[], str]] = {
            "d": lambda: sized(self.pick(), bits),
            "s": lambda: sized(self.any_register(), bits),
            "m": lambda: self.memory(bits),
            "a": lambda: self.memory(bits, aligned=bits // 8),
            "i": lambda: str(self.immediate(bits)),
            "b": lambda: str(rng.randrange(256)),
            "q": lambda: sized(self.index_register, bits),
            "k": lambda: f"k{rng.randrange(8)}",
            "mk": lambda: rng.choice(("", f"{{k{rng.randrange(1, 8)}}}", "{k1}{z}")),
            "mw": lambda: rng.choice(("", f"{{k{rng.randrange(1, 8)}}}")),
            "mm": lambda: f"mm{rng.randrange(8)}",
            "st": lambda: f"st({rng.randrange(8)})",
            "mms": lambda: rng.choice((f"mm{rng.randrange(8)}", self.memory(64))),
        }
        if name in ("dm", "sm"):
            name = rng.choice((name[0], "m"))
        return simple[name]()

    def high_byte_group(self, mnemonics: Sequence[str]) -> list[str]:
        """An instruction on ah, bh, ch or dh, which no REX prefix may accompany."""
        free = [name for name in _HIGH if f"r{name[0]}x" not in self.pointers]
        free = [name for name in free if f"r{name[0]}x" != self.index_register]
        first = self.rng.choice(free)
        second = self.rng.choice((*_HIGH, "al", "bl", "cl", "dl", self.immediate(8)))
        return [f"{self.rng.choice(mnemonics)} {first}, {second}"]


Group = list[str]
Family = Callable[[Writer], Group]


def choose(rng: random.Random, table: Sequence[tuple[str, str]]) -> tuple[str, int]:
    """A template of a table with operand sizes, and one of its sizes."""
    template, sizes = table[rng.randrange(len(table))]
    return template, int(rng.choice(sizes.split())) if sizes else 0
