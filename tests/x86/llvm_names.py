"""Comparing `pydbi.x86.llvm` with PyQBDI: over the libraries, and over all forms of the tables.

``python -m tests.x86.llvm_names`` prints the figures and the differences that docs/llvm-names.md
gives; ``libraries`` or ``forms`` as an argument selects one of the two comparisons.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from pydbi.x86.instruction import Instruction, scan
from pydbi.x86.llvm import opcode_name_of
from pydbi.x86.scanner import INVALID, LIMIT, scan_block
from tests.x86.libraries import executable_sections, libraries
from tests.x86.llvm_forms import all_forms
from tests.x86.pyqbdi_names import names_of

_REPEATS = frozenset((0xF2, 0xF3))

#: Why a name differs from PyQBDI's, with the instructions to which that applies. It is always LLVM
#: that is wrong: docs/llvm-names.md tells in what.
KNOWN_REASONS: Final[dict[str, Callable[[Instruction], bool]]] = {
    "a REX prefix behind which another prefix stands": lambda instruction: any(
        byte & 0xF0 == 0x40 for byte in instruction.prefixes
    ),
    "66 together with F2 or F3": lambda instruction: (
        0x66 in instruction.prefixes and not _REPEATS.isdisjoint(instruction.prefixes)
    ),
    "67 together with REX.W": lambda instruction: (
        instruction.wide
        and 0x67 in instruction.prefixes
        and (instruction.opcode_map, instruction.opcode)
        in ((0, 0xA0), (0, 0xA1), (0, 0xA2), (0, 0xA3), (0, 0xE3), (1, 0xAE), (2, 0xF8))
    ),
    "F3 together with REX.W": lambda instruction: (
        instruction.wide
        and 0xF3 in instruction.prefixes
        and (instruction.opcode_map, instruction.opcode) in ((0, 0x90), (1, 0x7E), (1, 0xAE))
    ),
    "66 together with REX.W": lambda instruction: (
        instruction.wide
        and 0x66 in instruction.prefixes
        and instruction.opcode_map == 1
        and instruction.opcode in (0xA0, 0xA1, 0xA8, 0xA9, 0xAE)
    ),
    "cldemote with a prefix": lambda instruction: (
        (instruction.opcode_map, instruction.opcode) == (1, 0x1C) and bool(instruction.prefixes)
    ),
}


class Difference(NamedTuple):
    """Instructions that have one name in PyQBDI and another one here."""

    theirs: str
    ours: str


class Comparison(NamedTuple):
    """How far the names agree.

    Attributes:
        instructions: how many were compared, each as often as it occurs.
        agreeing: how many of these have the same name.
        names: all names that PyQBDI gave.
        right_names: those of them that are given here for the same instructions, always.
        unknown: how many encodings PyQBDI does not decode, or takes for another instruction.
        differences: an example and how often it occurs, for each pair of names.
    """

    instructions: int
    agreeing: int
    names: frozenset[str]
    right_names: frozenset[str]
    unknown: int
    differences: dict[Difference, tuple[bytes, int]]

    @property
    def by_instructions(self) -> float:
        """The share of instructions that agree."""
        return self.agreeing / self.instructions

    @property
    def by_names(self) -> float:
        """The share of names that agree."""
        return len(self.right_names) / len(self.names)


def known_reason(instruction: Instruction) -> str | None:
    """Return which of the reasons applies to *instruction*, or None."""
    for reason, applies in KNOWN_REASONS.items():
        if applies(instruction):
            return reason
    return None


def instructions_of(path: Path, limit: int = sys.maxsize) -> Counter[bytes]:
    """Return how often each instruction occurs in the ELF file at *path*, by linear sweep.

    At most *limit* instructions of each section are counted.
    """
    found: Counter[bytes] = Counter()
    for _, code in executable_sections(path):
        at = count = 0
        while at < len(code) and count < limit:
            window = code[at : at + 4096]
            starts, _, end, status = scan_block(window, limit - count)
            starts.append(end)
            found.update(window[a:b] for a, b in pairwise(starts))
            count += len(starts) - 1
            at += end
            if status == LIMIT:
                break
            if not end or status == INVALID:
                at += 1
    return found


def one_for_each_form(instructions: Mapping[bytes, int]) -> Counter[bytes]:
    """Return one instruction for all that differ in displacement and immediate only.

    Its count is that of all of them.
    """
    examples: dict[bytes, bytes] = {}
    counts: Counter[bytes] = Counter()
    for code, count in instructions.items():
        instruction = scan(code)
        head = code[: (instruction.modrm_offset or instruction.opcode_offset) + 1]
        counts[examples.setdefault(head, code)] += count
    return counts


def compare(instructions: Mapping[bytes, int]) -> Comparison:
    """Return how the names of *instructions*, with their numbers, agree with PyQBDI's."""
    codes = list(instructions)
    agreeing = total = unknown = 0
    right: set[str] = set()
    wrong: set[str] = set()
    differences: dict[Difference, tuple[bytes, int]] = {}
    for code, theirs in zip(codes, names_of(codes), strict=True):
        ours = opcode_name_of(code)
        if theirs is None:
            unknown += 1
            continue
        count = instructions[code]
        total += count
        if ours == theirs:
            agreeing += count
            right.add(theirs)
            continue
        wrong.add(theirs)
        key = Difference(theirs, ours)
        example, before = differences.get(key, (code, 0))
        differences[key] = (example, before + count)
    names = frozenset(right | wrong)
    return Comparison(total, agreeing, names, frozenset(right - wrong), unknown, differences)


def _print(title: str, comparison: Comparison) -> None:
    """Print the figures of *comparison*, and its differences, those that occur most first."""
    print(
        f"{title}: {comparison.agreeing} of {comparison.instructions} instructions "
        f"({comparison.by_instructions:.4%}), {len(comparison.right_names)} of "
        f"{len(comparison.names)} names ({comparison.by_names:.2%}), "
        f"{comparison.unknown} encodings not comparable"
    )
    by_count = sorted(comparison.differences.items(), key=lambda item: -item[1][1])
    for (theirs, ours), (example, count) in by_count:
        reason = known_reason(scan(example))
        print(f"    {count:5} {theirs:18} here {ours:18} {example.hex(' '):24} {reason}")


def _compare_libraries() -> None:
    """Print how the names agree over each distinct encoding in the libraries."""
    total: Counter[bytes] = Counter()
    for path in libraries():
        found = instructions_of(path)
        print(f"{path.name}: {sum(found.values())} instructions, {len(found)} encodings")
        total.update(found)
    _print("libraries", compare(total))


def main(arguments: list[str]) -> None:
    """Print the comparisons that *arguments* name, or both."""
    if not arguments or "libraries" in arguments:
        _compare_libraries()
    if not arguments or "forms" in arguments:
        _print("forms", compare(dict.fromkeys(all_forms(), 1)))


if __name__ == "__main__":
    main(sys.argv[1:])
