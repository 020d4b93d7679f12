"""Programs for the tests of the commands, and the commands themselves."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.child import child_environment

_SOURCES = Path(__file__).resolve().parent / "c"
_FOLDER = tempfile.TemporaryDirectory()


@functools.cache
def compile_program(name: str, *options: str) -> str:
    """Compile a source of ``c/`` once and return the program; skip the test without a compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    target = Path(_FOLDER.name) / "-".join([Path(name).stem, *options]).replace("/", "")
    command = ["gcc", "-O1", *options, str(_SOURCES / name), "-o", str(target), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(target)


def pydbi(*arguments: str, module: str = "pydbi") -> subprocess.CompletedProcess[str]:
    """Run ``python -m pydbi`` with *arguments*."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env={**child_environment(), "LD_BIND_NOW": "1"},
        check=False,
    )
