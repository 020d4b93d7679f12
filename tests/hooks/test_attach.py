"""``pydbi attach``: a script in a running process, as a user runs it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pydbi.tools.injection import find_libpython
from pydbi.tools.remote import AttachError
from tests.child import child_environment

Compiled = Callable[..., str]

HOOKING = """
import os, sys
import pydbi

counted = []

def on_instruction(vm, gpr, fpr, data):
    counted.append(gpr.rip)
    return pydbi.CONTINUE

def on_call(vm, gpr, fpr, call):
    before = gpr.rdi
    call.run()
    print("step of", before, "is", gpr.rax, len(counted) > 2)
    gpr.rax += 1000

hook = pydbi.hook(sys.argv[1], on_call, on_new_vm=lambda vm: vm.addCodeCB(
    pydbi.PREINST, on_instruction, None))
print("script in", os.getpid() == int(sys.argv[2]))
"""


def may_trace() -> bool:
    """Whether this process may attach to its own children."""
    try:
        scope = Path("/proc/sys/kernel/yama/ptrace_scope").read_text(encoding="ascii")
    except OSError:
        return True
    return scope.strip() in ("0", "1") or os.geteuid() == 0


def has_libpython() -> bool:
    """Whether there is something that a process could load."""
    try:
        return bool(find_libpython())
    except AttachError:
        return False


pytestmark = [
    pytest.mark.skipif(not may_trace(), reason="ptrace is not permitted"),
    pytest.mark.skipif(not has_libpython(), reason="this Python has no shared library"),
]


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Start a program that says ``ready`` and waits for its input's end."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment()
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def attach(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``python -m pydbi attach``."""
    return subprocess.run(
        [sys.executable, "-m", "pydbi", "attach", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(),
        check=False,
    )


def ask(process: subprocess.Popen[str], number: int) -> str:
    """Give the program a number and return the next line of its output."""
    assert process.stdin
    assert process.stdout
    print(number, file=process.stdin, flush=True)
    return process.stdout.readline()


INJECTORS = [
    "ptrace",
    pytest.param(
        "frida",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("frida") is None, reason="Frida is not installed"
        ),
    ),
]


@pytest.mark.parametrize("injector", INJECTORS)
@pytest.mark.parametrize("threads", [0, 3])
def test_functions_of_the_process_are_hooked(
    compiled: Compiled, tmp_path: Path, threads: int, injector: str
) -> None:
    """The script runs there; its hook sees the calls of a function, and changes their results.

    Then the process ends as it would have, whether its threads were waiting or computing.
    """
    script = tmp_path / "script.py"
    script.write_text(HOOKING, encoding="utf-8")
    program = compiled("target.c", "-O1")
    with running(program, str(threads)) as process:
        assert ask(process, 1) == "6\n"
        name = f"{Path(program).name}!step"
        done = attach("--injector", injector, process.pid, script, name, process.pid)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert done.stderr.endswith(f"script.py was run in process {process.pid}\n")
        assert process.stdout
        assert process.stdout.readline() == "script in True\n"
        for number in (2, 3):
            assert ask(process, number) == f"step of {number} is {number * 3 + 3} True\n"
            assert process.stdout.readline() == f"{number * 3 + 1003}\n"
        output, _ = process.communicate(timeout=30)
        assert output == ""
        assert process.returncode == 5


PYTHON_TARGET = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


def test_a_python_process(tmp_path: Path) -> None:
    """In a process that has a Python the script is run by that one, beside its own code."""
    script = tmp_path / "script.py"
    script.write_text("import sys\nsys.visited = __name__, sys.argv[1]\n", encoding="utf-8")
    with running(sys.executable, "-c", PYTHON_TARGET) as process:
        assert process.stdin
        done = attach(process.pid, script, "word")
        assert done.returncode == 0, done.stderr
        print("sys.visited", file=process.stdin, flush=True)
        print("__name__, len(sys.modules['__main__'].__dict__) > 5", file=process.stdin, flush=True)
        process.stdin.close()
        assert process.stdout
        assert process.stdout.read() == "('__main__', 'word')\n('__main__', True)\n"
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("source", "status", "message"),
    [
        ("1/0", 1, "ZeroDivisionError"),
        ("import sys; sys.exit('enough')", 1, "the script has ended with 'enough'"),
        ("raise SystemExit(0)", 0, "was run in process"),
        ("def", 1, "SyntaxError"),
        ("import pydbi; pydbi.hook('libc.so.6!nowhere', print)", 1, "has no function nowhere"),
    ],
)
def test_failures_are_told(
    compiled: Compiled, tmp_path: Path, source: str, status: int, message: str
) -> None:
    """An exception of the script is shown by the command; the process goes on, and another may."""
    script = tmp_path / "script.py"
    script.write_text(source, encoding="utf-8")
    with running(compiled("target.c", "-O1")) as process:
        for _ in range(2):
            done = attach(process.pid, script)
            assert done.returncode == status
            assert message in done.stderr
        assert ask(process, 4) == "15\n"
        process.communicate(timeout=30)
        assert process.returncode == 5


def test_what_cannot_be_attached_to(compiled: Compiled, tmp_path: Path) -> None:
    """A process that is not there, has no C library to load with, or a script that is not."""
    script = tmp_path / "script.py"
    script.write_text("", encoding="utf-8")
    static = compiled("target.c", "-O1", "-static")
    with running(static) as process:
        done = attach(process.pid, script)
        assert done.returncode == 1
        assert "has no" in done.stderr
        assert "linked statically" in done.stderr
        assert ask(process, 1) == "6\n"
    for arguments, status, message in (
        ((process.pid, script), 1, f"there is no process {process.pid}"),
        ((os.getpid(), tmp_path / "none.py"), 2, "there is no script"),
        (("x", script), 2, "invalid int value"),
        ((), 2, "required: pid, script"),
    ):
        done = attach(*arguments)
        assert done.returncode == status
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
