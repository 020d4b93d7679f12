"""What a long run shows on a terminal, with rich and without."""

from __future__ import annotations

import re
from pathlib import Path
from time import monotonic

import pytest

from tests.tools.compiled import compile_program, pydbi
from tests.tools.terminal import on_a_terminal

PROGRAM = "counted.c"
TURNS, STATUS = 2_000_100, 100
"""Turns of a loop that take count and trace long enough, and the exit status they end with."""
MANY_TURNS = 200 * 2_560_000 + STATUS
"""Likewise for `run`, where they take about as long as natively."""
LINE = r"pydbi run: [0-9,]+ blocks translated( and [0-9,]+ kept ones)?, [0-9]+ s\r\n"


@pytest.mark.parametrize("tool", ["count", "trace"])
def test_progress_on_a_terminal(tool: str, tmp_path: Path) -> None:
    """A long run shows on a terminal how far it is; --quiet does not, nor does a pipe."""
    target = ("--", compile_program(PROGRAM), str(TURNS))
    options = ("--count", "--output", str(tmp_path / "trace")) if tool == "trace" else ()
    line = r"pydbi \w+: [0-9,]+ (sequences of )?instructions, [0-9]+ s"
    shown = on_a_terminal(tool, *options, *target, status=STATUS, without_rich=True)
    assert re.search(line, shown)
    shown = on_a_terminal(tool, *options, "--quiet", *target, status=STATUS)
    assert not re.search(line, shown)


def test_a_run_shows_it_when_asked() -> None:
    """``run --progress`` shows time and blocks while the program computes, and nothing else."""
    target = ("--", compile_program(PROGRAM), str(MANY_TURNS))
    shown = on_a_terminal("run", "--progress", *target, status=STATUS, without_rich=True)
    assert re.fullmatch(f"({LINE}){{2,}}", shown)
    for options in ((), ("--progress", "--quiet")):
        assert on_a_terminal("run", *options, *target, status=STATUS) == ""
    done = pydbi("run", "--progress", *target)
    assert (done.returncode, done.stdout, done.stderr) == (STATUS, f"{2 * MANY_TURNS}\n", "")


def test_a_forked_child_shows_nothing() -> None:
    """The line is the parent's; a child that goes on alone neither shows nor removes one."""
    script = "(i=0; while [ $i -lt 2000000 ]; do i=$((i+1)); done); :"
    begin = monotonic()
    shown = on_a_terminal("run", "--progress", "sh", "-c", script, status=0, without_rich=True)
    assert monotonic() - begin > 1.5
    # The parent computes before and after it, for some milliseconds; the child would have shown
    # ten lines a second.
    assert shown.count("\n") <= 3


@pytest.mark.parametrize(
    "command", [("count", "--", "", str(TURNS)), ("run", "--progress", "", str(MANY_TURNS))]
)
def test_progress_with_rich(command: tuple[str, ...]) -> None:
    """With rich it is one line that is written again and again, and taken away at the end."""
    pytest.importorskip("rich")
    program = compile_program(PROGRAM)
    shown = on_a_terminal(*(word or program for word in command), status=STATUS)
    assert len(re.findall(r"[a-z], [0-9]+ s", shown)) > 1
    assert shown.count("\x1b[2K") > 1
    # The cursor, which rich hides, is there again: what is killed could not do that.
    assert re.match(r"\x1b\[\?25l\x1b\[\?25h", shown)


def test_with_rich_before_another_program() -> None:
    """The line is gone when the program executes another one in its place."""
    pytest.importorskip("rich")
    script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec echo done >&2"
    shown = on_a_terminal("run", "--progress", "sh", "-c", script, status=0)
    assert re.search(r" s\r\n.*\x1b\[1A\x1b\[2Kdone\r\n$", shown)
