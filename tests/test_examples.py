"""The scripts in examples/ work with pydbi and with PyQBDI, and print the same."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from tests.child import ROOT, run_in_child

FOLDER = ROOT / "examples"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
LAST_LINES = {
    "basic_blocks": r"strtol gave 1234567 with \d+ blocks",
    "branch_profile": r"libc-2\.36 comes after libc-2\.4",
    "compared_values": r"strtol gave 0x1f",
    "coverage": r"in all \d+ blocks, \d+ edges",
    "solve_crackme": r"the password is 'keyhole 7'; natively the crackme says 1",
    "trace_instructions": r"labs\(-5\) = 5: \d+ instructions, complete: True",
    "trace_memory": r"the target is b'abcdef'",
    "transfers": r"found gnu as number 6",
}
NEEDS_COMPILER = {"solve_crackme"}


def run(module: str, script: str, *arguments: str) -> str:
    """Return what an example prints; with PyQBDI it is run as if its import were that one."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    if script in NEEDS_COMPILER and shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    return run_in_child(
        f"""
        import runpy, sys
        import {module}
        sys.modules["pydbi"] = {module}
        sys.argv = {[str(FOLDER / f"{script}.py"), *arguments]}
        runpy.run_path(sys.argv[0], run_name="__main__")
        """,
        timeout=60,
    )


def test_each_example_is_expected() -> None:
    """No script is forgotten here, or in the list that readers see."""
    assert sorted(LAST_LINES) == SCRIPTS
    listed = re.findall(r"^\| \[(\w+)\.py\]\(", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_example_finds_what_it_looks_for(script: str) -> None:
    """With pydbi the script ends with its result."""
    lines = run("pydbi", script).splitlines()
    assert len(lines) > 3
    assert re.fullmatch(LAST_LINES[script], lines[-1])


@pytest.mark.parametrize("script", SCRIPTS)
def test_example_prints_the_same_with_pyqbdi(script: str) -> None:
    """The output does not depend on the module."""
    assert run("pyqbdi", script) == run("pydbi", script)


def test_coverage_file(tmp_path: Path) -> None:
    """The coverage file has the module table and entries for all blocks, within their module."""
    file = tmp_path / "coverage"
    last = run("pydbi", "coverage", str(file)).splitlines()[-1]
    blocks = re.match(r"in all (\d+) blocks", last)
    assert blocks
    head, count, table = re.split(rb"BB Table: (\d+) bbs\n", file.read_bytes(), maxsplit=1)
    assert int(count) == int(blocks[1])
    assert len(table) == 8 * int(count)
    lines = head.decode().splitlines()
    assert lines[:2] == ["DRCOV VERSION: 2", "DRCOV FLAVOR: drcov"]
    modules = {line.split(", ")[0]: line.split(", ") for line in lines[4:]}
    for place in range(0, len(table), 8):
        offset = int.from_bytes(table[place : place + 4], "little")
        size, number = table[place + 4], int.from_bytes(table[place + 6 : place + 8], "little")
        _, low, high, *_, path = modules[str(number)]
        assert size > 0
        assert offset + size <= int(high, 16) - int(low, 16)
        assert "libc" in path
