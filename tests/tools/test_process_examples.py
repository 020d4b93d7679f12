"""The scripts in examples/processes/ find what they look for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pydbi.tools.injection import find_libpython
from pydbi.tools.remote import AttachError
from tests.child import ROOT, child_environment
from tests.tools.compiled import pydbi

FOLDER = ROOT / "examples" / "processes"


def test_every_script_is_listed() -> None:
    """The list that readers see names each script."""
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert all(f"processes/{script.name}" in text for script in FOLDER.glob("*.py"))


def test_hook_qsort() -> None:
    """qsort's comparisons are seen, and sort."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "hook_qsort.py")],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(),
        check=True,
    )
    *comparisons, result, summary = done.stdout.splitlines()
    assert result == "apple banana cherry fig pear quince"
    assert summary.startswith(f"{len(comparisons)} comparisons, ")
    assert all(line.split()[1] in "<>" for line in comparisons)


def test_preload_blocks() -> None:
    """Blocks of main are counted."""
    done = pydbi(str(FOLDER / "preload_blocks.py"), "echo", "a", module="pydbi.preload")
    assert done.stdout == "a\n"
    first, *lines = done.stderr.splitlines()
    assert first.endswith("different ones; most often:")
    assert len(lines) == 5
    assert " times main" in lines[0]


TARGET = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
print("ready", flush=True)
for line in sys.stdin:
    print(libc.getenv(line.strip().encode()), flush=True)
"""


def test_watch_function(tmp_path: Path) -> None:
    """Calls of a function of a running process are shown in its own output."""
    try:
        find_libpython()
    except AttachError as error:
        pytest.skip(str(error))
    with subprocess.Popen(
        [sys.executable, "-c", TARGET],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**child_environment(), "FRUIT": "pear"},
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        script = str(FOLDER / "watch_function.py")
        done = pydbi("attach", str(process.pid), script, "libc.so.6!getenv")
        if "ptrace_scope" in done.stderr:
            process.kill()
            pytest.skip(done.stderr)
        assert done.returncode == 0, done.stderr
        output, _ = process.communicate("FRUIT\nNONE_SUCH\n", timeout=30)
    lines = output.splitlines()  # Python itself may ask for variables in between
    assert lines[0] == "watching libc.so.6!getenv"
    called = [line for line in lines if line.startswith("libc.so.6!getenv('FRUIT', ")]
    assert [" = 'pear': " in line for line in called] == [True]
    again = [line for line in lines if line.startswith("libc.so.6!getenv('NONE_SUCH', ")]
    assert [" = 0x0: " in line for line in again] == [True]
    assert lines.index("b'pear'") > lines.index(called[0])
    assert "None" in lines
