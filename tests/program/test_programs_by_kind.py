"""Every kind of executable file begins as it does natively."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pydbi.program.elf_image import read_image
from tests.child import child_environment
from tests.program.running import assert_same, run, run_under

KINDS = {
    "pie": ("gcc", ()),
    "fixed": ("gcc", ("-no-pie", "-fno-pie")),
    "static": ("gcc", ("-static",)),
    "static-pie": ("gcc", ("-static-pie", "-fPIE")),
    "musl": ("musl-gcc", ()),
    "musl-static": ("musl-gcc", ("-static",)),
    "executable-stack": ("gcc", ("-z", "execstack")),
    "bind-now": ("gcc", ("-Wl,-z,now,-z,relro",)),
    "large-pages": ("gcc", ("-Wl,-z,max-page-size=0x200000",)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kind(build: Callable[..., str], kind: str) -> None:
    """Its arguments, its variables and its status are those that it has natively."""
    compiler, options = KINDS[kind]
    program = build("exits", *options, compiler=compiler)
    assert assert_same([program, "a", "", "c d"]).status == 4


@pytest.mark.parametrize(
    "line", ["#!{program}", "#! {program} with one argument ", "#!/usr/bin/env {program}"]
)
def test_script(build: Callable[..., str], tmp_path: Path, line: str) -> None:
    """A script is given to its interpreter."""
    script = tmp_path / "script"
    script.write_text(line.format(program=build("exits")) + "\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    assert_same([str(script), "x", "y"])


def test_the_dynamic_linker_as_a_program(build: Callable[..., str]) -> None:
    """It is a program like others, and loads one."""
    linker = "/lib64/ld-linux-x86-64.so.2"
    if not os.path.exists(linker):
        pytest.skip("another libc")
    assert_same([linker, build("exits"), "a"])


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("no-such-program-anywhere", 127, "not found"),
        ("/etc/passwd", 126, "not executable"),
        ("/", 126, "not a regular file"),
    ],
)
def test_what_is_no_program(command: str, status: int, said: str) -> None:
    """The command's status is that of a shell, and the message says what is wrong."""
    outcome = run_under([command])
    assert outcome.status == status
    assert outcome.output == ""
    assert said in outcome.errors
    assert outcome.errors.count("\n") == 1


def test_python_in_the_way(build: Callable[..., str]) -> None:
    """A Python that lies where the program must lie itself is told, with the cure."""
    python = "/usr/bin/python3"
    if not os.path.exists(python) or not read_image(python.encode()).is_fixed:
        pytest.skip("no Python here that is linked at a fixed address")
    program = build("exits", "-no-pie", "-fno-pie")
    environment = {**child_environment(), "PYTHONDONTWRITEBYTECODE": "1"}
    outcome = run([python, "-m", "pydbi", "run", program], env=environment)
    assert outcome.status == 126
    assert "position-independent" in outcome.errors
