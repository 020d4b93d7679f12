"""Many programs, one after the other, in one Python process: nothing is left of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.child import run_in_child
from tests.programs import builds

_KINDS = {"start": 7, "start-static": 7, "start-static-pie": 7, "bare-pie": 9, "signals": 0}
"""Programs and their exit statuses: static or not, with a libc or without, with handlers."""


def in_child(call: str) -> str:
    """Run a function of `many_runs` in a child; return what it printed."""
    return run_in_child(
        f"from tests.programs.many_runs import *\nmain({call})", timeout=120
    ).replace("\n", "")


def test_many_programs_leave_nothing_behind() -> None:
    """Maps, descriptors, threads, signals, folder and memory are level after that many programs."""
    assert in_child("level") == "done"


@pytest.mark.skipif(builds.missing_compiler("start") is not None, reason="gcc is not installed")
def test_programs_of_all_kinds_in_turn(tmp_path: Path) -> None:
    """Static, position independent and bare programs do not disturb one another."""
    programs = builds.Programs(tmp_path)
    for name in _KINDS:
        programs.build(name)
    commands = [(str(tmp_path / name), status) for name, status in _KINDS.items()]
    assert in_child(f"in_turn, {commands!r}") == "done"
