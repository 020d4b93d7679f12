"""The harness notices what it is there for: a mistake of the engine fails, and is reported."""

from __future__ import annotations

import pytest

from tests.exec import campaign
from tests.exec.snippets import Snippet

_ENGINE = "tests.exec.flawed_engine"
_RIGHT = Snippet("harness", 5, [["inc eax"], ["push rax"]], {"r13": 0x1000}, "r12")
_WRONG = Snippet(
    "harness",
    6,
    [["inc eax"], ["add rbx, rax", "pop rdx"], ["rdtsc", "xor eax, eax; xor edx, edx"], ["cmc"]],
    {"r13": 0x1000},
    "r12",
    steps_vary=True,
)


@pytest.mark.parametrize(
    ("flaw", "difference"),
    [
        ("register", "r9: expected"),
        ("flag", "eflags (AF): expected"),
        ("vector", "mm7: expected"),
        ("x87", "rfsw: expected"),
        ("stack", "got 5a 5a"),
        ("exception", "RuntimeError: a mistake on purpose"),
        ("crash", "the child died: SIGSEGV"),
        ("callback", "rip expected"),
    ],
)
def test_a_mistake_is_reported(flaw: str, difference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the case with the mistake fails; it is reduced to the lines that make it."""
    monkeypatch.setenv("PYDBI_TEST_FLAW", flaw)
    snippets = [_RIGHT, _WRONG, _RIGHT]
    failures = campaign.run_snippets(snippets, places=("low",), engine=_ENGINE)
    assert failures
    assert {failure.snippet.seed for failure in failures} == {6}
    text = campaign.report(failures[:1], engine=_ENGINE)
    assert difference in text
    assert "family harness, seed 6" in text
    assert "rdtsc" in text
    assert "cmc" not in text
    assert "add rbx, rax" not in text


def test_an_engine_without_mistakes_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same snippets fail nowhere when nothing goes wrong."""
    monkeypatch.setenv("PYDBI_TEST_FLAW", "")
    assert not campaign.run_snippets([_RIGHT, _WRONG], places=("low",), engine=_ENGINE)
