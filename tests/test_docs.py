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
