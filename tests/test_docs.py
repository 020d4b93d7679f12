"""The documentation: what is generated is up to date, and what is linked is there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tests.child import ROOT

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])


def test_patch_rules_are_up_to_date() -> None:
    """docs/design/patch-rules.md says what docs/generate_rules.py makes of the rules."""
    script = runpy.run_path(str(ROOT / "docs" / "generate_rules.py"))
    page: Path = script["PAGE"]
    message = "run: python docs/generate_rules.py"
    assert page.read_text(encoding="utf-8") == script["text"](), message


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_linked_files_exist(page: Path) -> None:
    """Every relative link of a page leads to a file of the repository."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_sources_exist(page: Path) -> None:
    """Every path of a source that a page names in code style is there."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:pydbi|asm_stubs|tests|docs|benchmarks)/[\w/.-]+)`", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


# Names in the pages that are not the project's own.
FOREIGN = frozenset({"_dl_runtime_resolve", "arch_prctl", "exit_group", "pkey_mprotect"})


@pytest.fixture(scope="module")
def words() -> frozenset[str]:
    """All words of the project's sources."""
    found: set[str] = set()
    for folder in ("pydbi", "asm_stubs", "benchmarks"):
        for source in (ROOT / folder).rglob("*"):
            if source.suffix in (".py", ".S", ".inc", ".symbols"):
                words_in = re.findall(r"\w+", source.read_text(encoding="utf-8"))
                found.update(words_in, (word.rstrip("_") for word in words_in))
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_identifiers_exist(page: Path, words: frozenset[str]) -> None:
    """What a page names as `some_name`, `Class.method` or `NAME` is a word of the sources."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(r"`([A-Za-z_][\w.]*)(?:\(.*?\))?`", text)
    names = {part for name in named if re.search(r"[_A-Z]", name) for part in name.split(".")}
    unknown = sorted(names - words - FOREIGN)
    assert not unknown
