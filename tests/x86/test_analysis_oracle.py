"""`pydbi.x86.analysis` says what PyQBDI says, or it is known why not."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Final

import pytest

from tests.x86.analysis_comparison import Comparison, compare
from tests.x86.libraries import libraries
from tests.x86.llvm_forms import all_forms
from tests.x86.llvm_names import instructions_of
from tests.x86.pyqbdi_analysis import FIELDS

pytest.importorskip("pyqbdi")

_THOROUGH: Final = os.environ.get("PYDBI_TEST_THOROUGH") == "1"
_SEED: Final = 0x0DB1
#: Instructions of each library that are looked at, and encodings that are compared, and forms.
_LIBRARY: Final = 20_000
_SAMPLE: Final = 6_000
_FORMS: Final = 20_000 if _THOROUGH else 600

FAMILIES: Final = {
    "arithmetic": """
        4801d8 48034308 4883c0ff 6605ffff 0405 80e47f 48f7e9 f6f1 480fafc3 6bc0ff 69c0ffffffff
        99 4898 ffc8 f7d8 480fbaf005 0fbcc1 f30fb8c1 f30fbdc1 c4e2f8f2c1 c4e2f3f5c1 f3480f38f6c1
    """,
    "moves": """
        48c7c0ffffffff b8ffffffff 48b8ffffffffffffffff c60005 488d440204 8d04cd00000000
        0fb6c4480fbf00 4863d0 0f44c1 480f4c03 91 87d9 0fc8 8ed8 668cd8 a100000000000000ff
        67a100000080
    """,
    "stack": """
        50 4150 6650 58 6aff 68ffffffff ff30 8f00 9c 9d c8100001 c9
    """,
    "branches": """
        eb0e 740e 0f8dd7070000 e8ff000000 ff2500100000 ffd0 ff5010 c3 c20800 e20e e3fe
        67e300c7f800000000
    """,
    "compares": """
        4839d8 3c05 483b03 85c0 a9ffffffff 38e0 a6 ae 0f2fc1 660f2f00 660f3817c1
    """,
    "prefixes": """
        f0480fc103 f3a4 f348ab 65a4 67f3a4 64488b042528000000 3e8b00 2e660f1f840000000000
        f3c3f2e800000000 3effe0 f390 0f0b 480fc7f0
    """,
    "addresses": """
        488b0400 488b04cd00100000 488b05fcffffff 678b00 678b0500000000 8b042500000080
        0204a78b4424f8 438b440500 022c15b7c9ea2f
    """,
    "x87": """
        d8c1 d8d1 dcc1 dee9 d9c9 d9ee db28 db38 df28 d930 dd30 d92c24 9bd93c24 dfe0 dbe9 dfe9
        dac1
    """,
    "sse": """
        0f584008 f20f58c1 f30f10c1 f30f1000 0f1100 660f6ec1 66480f7ec1 660f70c11b 0fc6c100
        f30fe6c1f2480f2ac1 660f3814c1 660f3a0fc103 660f3a63c118 0fae10 0fae18 0fae00 0f77 0fd7c1
        0ff7c1
    """,
    "avx": """
        c5f058c1 c5f45800 c5fa10c1 c5fa1000 c5fe6f00 c5fe7f00 c4e37518c101 c4e37d19c101
        c4e3754ac220c4e27d1900 c4e2f198c1 c5f877 c5fc77 c5fb1200 c5ff1200 c4e2718c00 c4e2718e00
        c5f173d103
    """,
    "avx512": """
        62f17c4858c1 62f17c4b58c1 62f17ccb58c1 62f17c1858c1 62f1760858c1
        62f37d483fc10062f27d4b30c1 62f27e4831c1 62f1fe4a6fc1 62f1fe4a7fc1 62f3754825c100
        62f1fd0b11c1 c5f890c1 c5f892c1
    """,
    "system": """
        0f05 0fa2 0f31 0f01d0 0faee8 0f18 08 f30fc7f8 cc cd80 f4 fa ec ef 0f20c0 0f00c0
    """,
}


def encodings(text: str) -> list[bytes]:
    """Return the instructions in *text*: hexadecimal, one behind the other."""
    from pydbi.x86.instruction import scan

    code = bytes.fromhex(text)
    found: list[bytes] = []
    at = 0
    while at < len(code):
        found.append(scan(code, at).code)
        at += len(found[-1])
    return found


def unexplained(comparison: Comparison) -> list[str]:
    """Return the differences for which there is no reason, as text."""
    return [
        f"{difference.field} of {difference.code.hex(' ')}: "
        f"{difference.theirs!r}, here {difference.ours!r}"
        for difference, _ in comparison.differences
        if difference.reason is None
    ]


@pytest.mark.parametrize("att_syntax", [False, True], ids=["intel", "att"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_family_agrees_in_all_fields(family: str, att_syntax: bool) -> None:
    """Facts, operands and text of the instructions of a family are PyQBDI's."""
    codes = dict.fromkeys(encodings(FAMILIES[family]), 1)
    comparison = compare(codes, att_syntax=att_syntax)
    assert unexplained(comparison) == []
    assert comparison.instructions == len(codes)


def test_the_libraries_agree() -> None:
    """At least 99 % of instructions agree in each field, and where not it is known why."""
    found: Counter[bytes] = Counter()
    for path in libraries():
        found.update(instructions_of(path) if _THOROUGH else instructions_of(path, _LIBRARY))
    if not _THOROUGH:
        sample = random.Random(_SEED).sample(sorted(found), _SAMPLE)
        found = Counter({code: found[code] for code in sample})
    comparison = compare(found)
    assert comparison.unknown < len(found) / 100
    wrong = {field: comparison.agreement(field) for field in FIELDS}
    assert min(wrong.values()) >= 0.99, wrong
    unknown = [text for text in unexplained(comparison) if not text.startswith("disassembly")]
    assert unknown == []


def test_the_forms_agree() -> None:
    """A sample of all forms of the opcode maps agrees too, except in text."""
    forms = random.Random(_SEED).sample(sorted(all_forms()), _FORMS)
    comparison = compare(dict.fromkeys(forms, 1))
    unknown = [text for text in unexplained(comparison) if not text.startswith("disassembly")]
    assert unknown == []
