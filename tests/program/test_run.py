"""``python -m pydbi run``."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.child import child_environment
from tests.program.running import assert_same, run_under


def test_output_and_status_are_the_programs(build: Callable[..., str]) -> None:
    """Options end where the program begins, with or without --."""
    program = build("exits")
    assert_same([program, "--stats", "--", "--help"])
    assert_same(["sh", "-c", "read line; echo got $line; echo error >&2; exit 5"], data="text\n")


@pytest.mark.parametrize("name", ["TERM", "KILL", "HUP", "INT", "PIPE", "ABRT", "USR1"])
def test_death_by_a_signal(name: str) -> None:
    """The command dies of the signal that the program has died of, and says nothing."""
    outcome = run_under(["sh", "-c", f"kill -{name} $$; echo not reached"])
    assert outcome == (-getattr(signal, f"SIG{name}"), "", "")


def test_a_fault_is_told(build: Callable[..., str]) -> None:
    """One line on standard error, unless it is to be quiet."""
    command = [build("faults"), "8"]
    outcome = run_under(command)
    assert outcome.status == -signal.SIGSEGV
    assert "SIGSEGV" in outcome.errors
    assert outcome.errors.count("\n") == 1
    assert run_under(command, "--quiet") == (-signal.SIGSEGV, "", "")


def test_stats() -> None:
    """Counters, and what was refused."""
    outcome = run_under(["perl", "-e", "syscall(425, 1, 0)"], "--stats")
    assert outcome.status == 0
    assert "instructions=" in outcome.errors
    assert "io_uring_setup (1 times)" in outcome.errors


@pytest.mark.parametrize("command", [[], ["--nonsense", "true"]])
def test_mistakes(command: list[str]) -> None:
    """A wrong command is one line, and status 2."""
    words = [sys.executable, "-m", "pydbi", "run", *command]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=child_environment(), timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_help() -> None:
    """--help is the program's, behind its name."""
    words = [sys.executable, "-m", "pydbi", "run", "--help"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env=child_environment(), timeout=60
    )
    assert "--follow-exec" in done.stdout
