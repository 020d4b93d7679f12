"""Comparing `pydbi.x86.analysis` with PyQBDI over the libraries and over all forms.

``python -m tests.x86.analysis_comparison`` prints the figures that docs/analysis.md gives;
``libraries`` or ``forms`` as an argument selects one of the two comparisons; of the forms, of which
PyQBDI refuses many, at the price of a process each, a sample is taken.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from pydbi.x86.analysis import analyse
from pydbi.x86.instruction import EVEX, LEGACY, VEX3, XOP, Instruction, scan
from pydbi.x86.traits import FAR, FLOW_MASK, PREFIX66_BRANCH, XBEGIN
from tests.x86.libraries import libraries
from tests.x86.llvm_forms import all_forms
from tests.x86.llvm_names import instructions_of
from tests.x86.pyqbdi_analysis import FIELDS, analyses_of, fields_of

_SEED: Final = 12
_FORMS: Final = 10_000
_MEMORY_FIELDS: Final = frozenset(("mayLoad", "mayStore", "loadSize", "storeSize"))
_ALL_FIELDS: Final = frozenset(FIELDS)
_REPEATS: Final = frozenset((0xF2, 0xF3))
_GATHERS: Final = range(0x90, 0x94)
#: By map and opcode: loads and stores that PyQBDI overlooks, or whose size it gets wrong.
_OVERLOOKED: Final = frozenset(
    ((0, 0x63), (0, 0xFF), (1, 0x6E), (1, 0x7E), (1, 0xB2), (1, 0xB4), (1, 0xB5), (1, 0xB7),
     (1, 0xBF), (2, 0x80), (2, 0x81), (2, 0x82), (2, 0xF8))
)  # fmt: skip
#: xchg and mov, on which F2 and F3 are hints for lock elision.
_ELIDABLE: Final = frozenset((0, opcode) for opcode in (0x86, 0x87, 0x88, 0x89, 0xC6, 0xC7))


class Reason(NamedTuple):
    """Why PyQBDI says something else: in these fields, for the instructions that fit."""

    text: str
    fields: frozenset[str]
    fits: Callable[[Instruction], bool]


#: docs/analysis.md explains each of them.
REASONS: Final = (
    Reason(
        "a REX prefix behind which another prefix stands",
        _ALL_FIELDS,
        lambda i: any(byte & 0xF0 == 0x40 for byte in i.prefixes),
    ),
    Reason(
        "66 together with F2 or F3, or with REX.W",
        _ALL_FIELDS,
        lambda i: 0x66 in i.prefixes and (i.wide or not _REPEATS.isdisjoint(i.prefixes)),
    ),
    Reason(
        "67 or F3 together with REX.W",
        _ALL_FIELDS,
        lambda i: i.encoding == LEGACY and i.wide and not {0x67, 0xF3}.isdisjoint(i.prefixes),
    ),
    Reason("66 on a near branch", _ALL_FIELDS, lambda i: bool(i.traits & PREFIX66_BRANCH)),
    Reason(
        "accesses of EVEX and XOP",
        _MEMORY_FIELDS,
        lambda i: i.encoding in (EVEX, XOP),
    ),
    Reason(
        "the sizes of gathers",
        _MEMORY_FIELDS,
        lambda i: i.encoding == VEX3 and i.opcode_map == 2 and i.opcode in _GATHERS,
    ),
    Reason(
        "accesses that are overlooked",
        _MEMORY_FIELDS,
        lambda i: (i.opcode_map, i.opcode) in _OVERLOOKED,
    ),
    Reason(
        "67 together with F2 or F3 on xchg and mov",
        frozenset(("operands",)),
        lambda i: (
            0x67 in i.prefixes
            and not _REPEATS.isdisjoint(i.prefixes)
            and (i.opcode_map, i.opcode) in _ELIDABLE
        ),
    ),
    Reason(
        "conversions of 3DNow!",
        frozenset(("operands",)),
        lambda i: (i.encoding, i.opcode_map, i.opcode) == (LEGACY, 1, 0x0F),
    ),
    Reason(
        "67 on loop",
        frozenset(("operands",)),
        lambda i: i.opcode_map == 0 and 0xE0 <= i.opcode <= 0xE2 and 0x67 in i.prefixes,
    ),
    Reason(
        "far transfers and xbegin",
        frozenset(("affectControlFlow",)),
        lambda i: i.traits & FLOW_MASK in (FAR, XBEGIN) and i.opcode_map == 0,
    ),
)


class Difference(NamedTuple):
    """A field of an instruction in which PyQBDI and this package differ."""

    field: str
    code: bytes
    theirs: object
    ours: object

    @property
    def reason(self) -> str | None:
        """Why they differ, if it is known."""
        instruction = scan(self.code)
        for reason in REASONS:
            if self.field in reason.fields and reason.fits(instruction):
                return reason.text
        return None


class Comparison(NamedTuple):
    """How many instructions were compared, and where they differ, with their numbers."""

    instructions: int
    differences: list[tuple[Difference, int]]
    unknown: int

    def agreement(self, field: str) -> float:
        """Return the share of instructions whose *field* is the same."""
        wrong = sum(count for difference, count in self.differences if difference.field == field)
        return 1 - wrong / self.instructions


def compare(instructions: Mapping[bytes, int], *, att_syntax: bool = False) -> Comparison:
    """Return how the fields of *instructions*, with their numbers, agree with PyQBDI's."""
    codes = list(instructions)
    total = unknown = 0
    differences: list[tuple[Difference, int]] = []
    for code, theirs in zip(codes, analyses_of(codes, att_syntax=att_syntax), strict=True):
        if theirs is None:
            unknown += 1
            continue
        total += instructions[code]
        ours = fields_of(analyse(code, 0x1000, att_syntax=att_syntax))
        differences += (
            (Difference(field, code, theirs[field], ours[field]), instructions[code])
            for field in FIELDS
            if theirs[field] != ours[field]
        )
    return Comparison(total, differences, unknown)


def _lines(comparison: Comparison) -> Iterator[str]:
    """Yield a line for each field, and one for each of its reasons with an example."""
    for field in FIELDS:
        yield f"{field:18} {comparison.agreement(field):.4%}"
        reasons: Counter[str | None] = Counter()
        examples: dict[str | None, Difference] = {}
        for difference, count in comparison.differences:
            if difference.field == field:
                reasons[difference.reason] += count
                examples.setdefault(difference.reason, difference)
        for reason, count in reasons.most_common():
            _, code, theirs, ours = examples[reason]
            yield f"    {count:6} {reason}: {code.hex(' ')}: {theirs!r}, here {ours!r}"


def _print(title: str, comparison: Comparison) -> None:
    print(f"{title}: {comparison.instructions} instructions, {comparison.unknown} encodings "
          "that PyQBDI refuses")  # fmt: skip
    print("\n".join(_lines(comparison)))


def main(arguments: list[str]) -> None:
    """Print the comparisons that *arguments* name, or both."""
    if not arguments or "libraries" in arguments:
        found: Counter[bytes] = Counter()
        for path in libraries():
            found.update(instructions_of(path))
        print(f"{len(found)} distinct encodings")
        _print("libraries", compare(found))
    if not arguments or "forms" in arguments:
        forms = random.Random(_SEED).sample(sorted(all_forms()), _FORMS)
        _print("forms", compare(dict.fromkeys(forms, 1)))


if __name__ == "__main__":
    main(sys.argv[1:])
