"""Running a command natively and under pydbi."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.child import child_environment

TIMEOUT = 60


class Outcome(NamedTuple):
    """What a command has done."""

    status: int
    output: str
    errors: str


def run(command: Sequence[str], *, data: str = "", env: Mapping[str, str] | None = None) -> Outcome:
    """Run *command* natively."""
    done = subprocess.run(
        command,
        input=data,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env=None if env is None else dict(env),
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def run_under(command: Sequence[str], *options: str, data: str = "") -> Outcome:
    """Run *command* by ``python -m pydbi run`` with *options*."""
    words = [sys.executable, "-m", "pydbi", "run", *options, "--", *command]
    return run(words, data=data, env=child_environment())


def assert_same(command: Sequence[str], *options: str, data: str = "") -> Outcome:
    """Assert that *command* does the same under pydbi as natively; return that."""
    natively = run(command, data=data, env=child_environment())
    assert run_under(command, "--quiet", *options, data=data) == natively
    return natively
