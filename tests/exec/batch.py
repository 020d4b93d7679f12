"""Many snippets as one piece of code: made from seeds, assembled in one go, laid out for a region.

A region is one mapping: code, a page with the address that follows every snippet, the data area and
the stack, each but the first two followed by an unmapped page.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.exec.family_avx512 import avx512
from tests.exec.family_branches import branches
from tests.exec.family_integer import integer
from tests.exec.family_stack import stack
from tests.exec.family_strings import strings
from tests.exec.family_system import system
from tests.exec.family_vector import vector
from tests.exec.family_x87 import x87
from tests.exec.gnu_as import assemble
from tests.exec.native_runner import cpu_flags
from tests.exec.snippets import DATA_SIZE, STACK_SIZE, Group, Snippet, Writer

PAGE = 0x1000
CODE_SIZE = 0x100000
FINISH_SLOT = CODE_SIZE
DATA = CODE_SIZE + 2 * PAGE
STACK = DATA + DATA_SIZE + PAGE
REGION_SIZE = STACK + STACK_SIZE + PAGE

_GENERAL = ("r8", "r9", "r10", "r12", "r13", "r14", "r15")
# Which registers may be reserved for pointers: not those that the family writes implicitly.
_CANDIDATES = {
    "integer": (*_GENERAL, "rbx", "rsi", "rdi", "rbp"),
    "vector": (*_GENERAL, "rbx", "rsi", "rdi", "rbp"),
    "avx512": (*_GENERAL, "rbx", "rsi", "rdi", "rbp"),
    "x87": (*_GENERAL, "rbx", "rsi", "rdi", "rbp"),
    "branches": (*_GENERAL, "rbp"),
}
FAMILIES: dict[str, Callable[[Writer], Group]] = {
    "integer": integer,
    "stack": stack,
    "strings": strings,
    "vector": vector,
    "avx512": avx512,
    "x87": x87,
    "branches": branches,
    "system": system,
}


def mixed(writer: Writer) -> Group:
    """A group of any family that this CPU can execute."""
    names = [name for name in FAMILIES if name != "avx512" or "avx512f" in writer.features]
    return FAMILIES[writer.rng.choice(names)](writer)


FAMILIES["mixed"] = mixed


def make_snippet(family: str, seed: int, rng: random.Random | None = None) -> Snippet:
    """The snippet of a family that belongs to a seed (or to another source of randomness)."""
    rng = rng or random.Random(f"{family} {seed}")
    reserved = rng.sample(_CANDIDATES.get(family, _GENERAL), 4)
    pointers = {name: 0x1000 + rng.randrange(-256, 256) for name in reserved[:3]}
    writer = Writer(rng, cpu_flags(), pointers, reserved[3])
    count = rng.choice((1, 2, rng.randrange(1, 6), rng.randrange(1, 25)))
    groups = [FAMILIES[family](writer) for _ in range(count)]
    return Snippet(family, seed, groups, pointers, reserved[3], writer.steps_vary, writer.low_only)


@dataclass
class Case:
    """A snippet and where it lies in the code of its batch."""

    snippet: Snippet
    start: int
    stop: int


@dataclass
class Batch:
    """Assembled snippets; the code runs at any address, with the region's other parts behind it."""

    code: bytes
    cases: list[Case]

    def bytes_of(self, case: Case) -> bytes:
        return self.code[case.start : case.stop]


def assemble_batch(snippets: Iterable[Snippet]) -> Batch:
    """Lay the snippets out one after the other, at odd distances.

    Raises:
        gnu_as.AssemblyError: a generator made something that is no instruction.
    """
    snippets = list(snippets)
    parts = [
        ".intel_syntax noprefix\n.text\nbase:\n"
        f".set finish, base + {FINISH_SLOT}\n.set data, base + {DATA}\n"
    ]
    for number, snippet in enumerate(snippets):
        parts.append(
            f".skip {1 + snippet.seed % 37}, 0xCC\nS_{number}:\n{snippet.text(number)}\n"
            f"E_{number}: jmp qword ptr [rip + finish]\n"
        )
    parts.append(".balign 8\n")
    parts += [f".long S_{n} - base, E_{n} - base\n" for n in range(len(snippets))]
    code = assemble("".join(parts))
    table = struct.iter_unpack("<II", code[len(code) - 8 * len(snippets) :])
    cases = [Case(snippet, *place) for snippet, place in zip(snippets, table, strict=True)]
    if len(code) > CODE_SIZE:
        raise ValueError(f"{len(snippets)} snippets are too much for one batch: {len(code)} bytes")
    return Batch(code, cases)
