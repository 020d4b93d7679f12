"""``python -m pydbi.preload``: PyQBDIPreload's protocol, beside PyQBDI's own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tools.compiled import compile_program, pydbi

SOURCE = "preloaded.c"
SCRIPT = """
import sys
import {module} as pyqbdi

seen = {{}}

def on_instruction(vm, gpr, fpr, data):
    analysis = vm.getInstAnalysis(pyqbdi.ANALYSIS_INSTRUCTION | pyqbdi.ANALYSIS_SYMBOL)
    seen[analysis.symbol] = seen.get(analysis.symbol, 0) + 1
    return pyqbdi.CONTINUE

def place(address):
    return [m.name for m in pyqbdi.getCurrentProcessMaps() if address in m.range]

def pyqbdipreload_on_run(vm, start, stop):
    gpr = vm.getGPRState()
    print(place(start), place(stop), gpr.rip == start, pyqbdi.readRword(gpr.rsp) == stop)
    print(gpr.rdi, pyqbdi.readRword(gpr.rsi) != 0, pyqbdi.__preload__, sys.argv[1:], __name__)
    vm.addCodeCB(pyqbdi.PREINST, on_instruction, None)
    print(vm.run(start, stop), gpr.rip == stop, gpr.rax, seen.get("main"), seen.get("weigh"))
    sys.stdout.flush()
"""


def preload(
    script: Path, *command: str, module: str = "pydbi.preload"
) -> subprocess.CompletedProcess[str]:
    """Run a program with a preload script."""
    return pydbi(str(script), *command, module=module)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script, for pydbi."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(module="pydbi"), encoding="utf-8")
    return path


def test_a_script_is_called_at_main(script: Path) -> None:
    """start is main, stop its return address, the state main's; the rest of the program runs."""
    program = compile_program(SOURCE)
    done = preload(script, program, "a", "b")
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    name = os.path.basename(program)
    assert lines[:3] == [
        "before",
        f"['{name}'] ['libc.so.6'] True True",
        "3 True True ['a', 'b'] __main__",
    ]
    assert lines[3] == "main 3"
    *result, in_main, in_weigh = lines[4].split()
    assert result == ["True", "True", "12"]
    assert int(in_main) > 10
    assert int(in_weigh) % 3 == 0
    assert lines[5:] == ["behind"]
    assert done.returncode == 12


@pytest.mark.skipif(importlib.util.find_spec("pyqbdi") is None, reason="PyQBDI is not installed")
def test_pyqbdi_calls_it_so(script: Path, tmp_path: Path) -> None:
    """PyQBDIPreload prints the same, but that it ends with status 0."""
    theirs = tmp_path / "theirs.py"
    theirs.write_text(SCRIPT.format(module="pyqbdi"), encoding="utf-8")
    program = compile_program(SOURCE, "-rdynamic")  # PyQBDI knows exported symbols only
    expected = preload(theirs, program, "a", module="pyqbdipreload")
    if "need lib" in expected.stdout or "on_run" in expected.stderr:
        pytest.skip("PyQBDIPreload does not find libpython")
    done = preload(script, program, "a")
    assert done.stdout.splitlines() == expected.stdout.splitlines()
    assert (done.returncode, expected.returncode) == (5, 0)


@pytest.mark.parametrize("options", [("-static",), ("-static", "-s"), ("-s",), ("-static-pie",)])
def test_main_is_found_without_symbols(options: tuple[str, ...], tmp_path: Path) -> None:
    """Stripped and static programs are told where main is as others are."""
    script = tmp_path / "script.py"
    script.write_text(
        "import pydbi\n"
        "def pyqbdipreload_on_run(vm, start, stop):\n"
        "    print(vm.getGPRState().rdi, vm.run(start, stop), flush=True)\n",
        encoding="utf-8",
    )
    program = (
        compile_program(SOURCE, "-no-pie", *options)
        if "-s" in options
        else compile_program(SOURCE, *options)
    )
    done = preload(script, program, "a", "b")
    if "address" in done.stderr and "taken" in done.stderr:
        pytest.skip("this Python lies where the program must")
    assert done.stdout == "before\nmain 3\n3 True\nbehind\n", done.stderr
    assert done.returncode == 12


@pytest.mark.parametrize(
    ("body", "status", "output"),
    [
        ("pass", 0, "before\nbehind\n"),
        ("vm.run(start, stop); vm.getGPRState().rax = 40", 40, "before\nmain 1\nbehind\n"),
        ("raise KeyError('on purpose')", 1, "before\n"),
        ("raise SystemExit(3)", 3, "before\n"),
        ("raise SystemExit('no luck')", 1, "before\n"),
    ],
)
def test_ends(body: str, status: int, output: str, tmp_path: Path) -> None:
    """A main that was not run returns 0; results can be changed; exceptions end with 1.

    SystemExit ends with its own status. Python's exit functions are called in any case.
    """
    script = tmp_path / "script.py"
    script.write_text(
        "import atexit\natexit.register(print, 'at exit')\n"
        f"def pyqbdipreload_on_run(vm, start, stop):\n    {body}\n",
        encoding="utf-8",
    )
    done = preload(script, compile_program(SOURCE))
    assert done.returncode == status
    assert done.stdout == output + "at exit\n"
    for text in ("on purpose", "no luck"):
        assert (text in done.stderr) == (text in body)
    if "on purpose" in body:
        assert done.stderr.splitlines()[1].startswith("Traceback")
        assert "pydbi/" not in done.stderr  # none of its own lines


@pytest.mark.parametrize(
    ("argument", "status", "output"),
    [
        ("exit", 9, "before\nmain 2\nbehind\nafter run True\n"),
        ("fault", -11, "before\nmain 2\n"),
        ("fork", 5, "before\nmain 2\nbehind\nafter run True\nchild 33\nbehind\n"),
    ],
)
def test_what_main_does(argument: str, status: int, output: str, tmp_path: Path) -> None:
    """main may exit, fault or fork; the script goes on where it can."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\npid = os.getpid()\n"
        "def pyqbdipreload_on_run(vm, start, stop):\n"
        "    result = vm.run(start, stop)\n"
        "    if os.getpid() == pid: print('after run', result, flush=True)\n",
        encoding="utf-8",
    )
    done = preload(script, compile_program(SOURCE), argument)
    assert done.stdout == output, done.stderr
    assert done.returncode == status


def test_mistakes(script: Path, tmp_path: Path) -> None:
    """What is missing is told in one line."""
    other = tmp_path / "other.py"
    other.write_text("", encoding="utf-8")
    no_main = compile_program("nomain.c", "-nostdlib", "-static")
    for command, status, message in (
        ((), 2, "no program given"),
        (("/nowhere/at/all",), 127, "/nowhere/at/all: No such file or directory"),
        ((no_main,), 1, "the program has ended before main, or has none"),
    ):
        done = preload(script, *command)
        assert done.returncode == status
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    done = preload(tmp_path / "none.py", "true")
    assert (done.returncode, "there is no script" in done.stderr) == (2, True)
    done = preload(other, shutil.which("true") or "true")
    assert done.returncode == 1
    assert done.stderr == (
        f"pydbi preload: {other} defines no function pyqbdipreload_on_run(vm, start, stop)\n"
    )
    assert "usage:" in preload(Path("--help")).stdout
