"""Running code in a child process, where a crash is a failed test and not the end of them all."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def child_environment() -> dict[str, str]:
    """Return an environment in which a child imports this checkout and prints as UTF-8."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}


def run_in_child(
    code: str | Callable[..., Any],
    *arguments: object,
    timeout: float = 300,
    status: int = 0,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run *code* in a child Python and return what it printed.

    Args:
        code: source text, or a function: its source is run in the child and called with
            *arguments*, so it imports what it uses, and the arguments must have a ``repr`` that
            makes them again.
        timeout: seconds until the child is killed and the test fails.
        status: the exit status it must end with.
        environment: variables set in addition.

    Fails the calling test, with the child's output, if it crashes, hangs or ends otherwise.
    """
    if callable(code):
        values = ", ".join(map(repr, arguments))
        source = f"{textwrap.dedent(inspect.getsource(code))}\n{code.__name__}({values})\n"
    else:
        source = textwrap.dedent(code)
    command = [sys.executable, "-X", "faulthandler", "-c", source]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            env={**child_environment(), **(environment or {})},
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        output = b"\n".join(filter(None, (expired.stdout, expired.stderr)))
        pytest.fail(f"the child ran longer than {timeout} s\n{output.decode(errors='replace')}")
    if done.returncode != status:
        how = f"exit status {done.returncode}, not {status}"
        if done.returncode < 0:
            how = f"killed by {signal.Signals(-done.returncode).name}"
        pytest.fail(f"the child: {how}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}")
    return done.stdout
