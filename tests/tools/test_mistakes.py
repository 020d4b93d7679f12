"""Commands that are wrong, and output that cannot be written: what is said, and the status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.child import child_environment
from tests.tools.compiled import compile_program, pydbi

NO_SPACE = "No space left on device"


def in_a_shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``pydbi`` is the command."""
    function = f'pydbi() {{ "{sys.executable}" -m pydbi "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", function + line],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env=child_environment(),
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--what", "true"), "unknown option --what"),
        (("run", "--quiet"), "no program given"),
        (("count", "./program"), "./program is no command: a library and a function are due"),
        (("count", "--top", "-3", "--", "true"), "'-3' is no number from 0 on"),
        (("count", "--result", "int", "--", "true"), "--result is for functions of libraries"),
        (("trace", "--follow-exec", "libc.so.6", "abs", "1"), "--follow-exec is for programs"),
        (("attach",), "required: pid, script (--help tells more)"),
    ],
)
def test_wrong_commands(arguments: tuple[str, ...], message: str) -> None:
    """One line on standard error tells what is wrong; the status is 2."""
    done = pydbi(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr
    assert done.stderr.startswith(f"pydbi {arguments[0]}: error: ")


def test_help_is_given_behind_other_options() -> None:
    """``--help`` need not be the first option; each command's fits into 100 columns."""
    assert pydbi("run", "--quiet", "--help").stdout == pydbi("run", "-h").stdout
    for command in ("run", "count", "trace", "attach", "preload"):
        done = pydbi(command, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"usage: pydbi {command} ")
        assert max(map(len, done.stdout.splitlines())) <= 100


def test_programs_that_cannot_be_run(tmp_path: Path) -> None:
    """The message names the file, and the script that has asked for it."""
    script = tmp_path / "script"
    script.write_text("#!/nowhere/at/all\n", encoding="utf-8")
    script.chmod(0o755)
    done = pydbi("run", str(script))
    assert done.returncode == 127
    assert done.stderr == (
        "pydbi run: /nowhere/at/all: No such file or directory "
        f"({script} names it as its interpreter)\n"
    )
    done = pydbi("run", "")
    assert (done.returncode, done.stderr) == (127, "pydbi run: no program is named\n")
    program = compile_program("counted.c")
    done = pydbi("count", program, "main")
    assert done.returncode == 2
    assert "a program stands behind --" in done.stderr


@pytest.mark.parametrize("command", ["run", "count --", "trace --"])
def test_no_room_for_a_program(command: str) -> None:
    """Where the address space is limited the message says so; the status is a shell's."""
    done = in_a_shell(f"ulimit -v 400000; pydbi {command} true")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (126, "", 1), done.stderr
    assert "the program cannot be loaded" in done.stderr
    assert "ulimit -v" in done.stderr


def test_a_fault_is_one_line_with_its_place() -> None:
    """A program's fault is told with module and function, and without registers."""
    done = pydbi("run", "--quiet", "--", compile_program("counted.c"), "2", "fault")
    assert (done.returncode, done.stderr) == (-signal.SIGSEGV, "")
    done = pydbi("run", "--", compile_program("counted.c"), "2", "fault")
    assert done.returncode == -signal.SIGSEGV
    assert done.stderr.startswith("pydbi run: the guest got SIGSEGV (address not mapped) at 0x")
    assert ", accessing 0x8, in counted!main+0x" in done.stderr
    assert done.stderr.count("\n") == 1


def test_statistics_are_shown_in_any_case() -> None:
    """--quiet is about messages that nobody has asked for."""
    done = pydbi("run", "--quiet", "--stats", "true")
    assert done.returncode == 0
    assert done.stderr.startswith("pydbi run: blocks=")


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "run --help",
        "count --help",
        "trace libz.so.1 crc32 0 hello 5",
        "trace --output /dev/full -- true",
    ],
)
def test_output_that_cannot_be_written(arguments: str) -> None:
    """A full disk is one line on standard error, and status 1."""
    done = in_a_shell(f"pydbi {arguments} > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("pydbi ")
    assert NO_SPACE in done.stderr


@pytest.mark.parametrize("arguments", ["--help", "run --help", "trace libz.so.1 crc32 0 hello 5"])
def test_readers_that_have_gone(arguments: str) -> None:
    """A closed pipe ends a command without a word, as SIGPIPE would."""
    done = in_a_shell(f"exec 3> >(:); wait $!; pydbi {arguments} >&3")
    assert (done.returncode, done.stderr) == (141, "")


def test_a_missing_dependency() -> None:
    """Without Capstone a trace says what to install."""
    code = (
        "import sys; sys.modules['capstone'] = None; from pydbi.cli import main; "
        "sys.exit(main(['trace', 'libc.so.6', 'abs', '1']))"
    )
    done = in_a_shell(f'"{sys.executable}" -c "{code}"')
    message = "pydbi trace: capstone is not installed: pip install capstone\n"
    assert (done.returncode, done.stderr) == (1, message)


def test_closed_streams() -> None:
    """Without standard error nothing is said, and nothing goes to standard output instead."""
    done = in_a_shell("pydbi run 2>&-")
    assert (done.returncode, done.stdout) == (2, "")
    done = in_a_shell("pydbi count -- bash -c 'echo seen; exit 7' 2>&-")
    assert (done.returncode, done.stdout) == (7, "seen\n")
    done = in_a_shell("pydbi trace libc.so.6 abs 1 >&-")
    assert done.returncode == 2
    assert "standard output is closed: name a file with --output" in done.stderr


def test_a_stopped_process_is_not_attached_to(tmp_path: Path) -> None:
    """The command does not wait for one that cannot go on; it says how to let it."""
    script = tmp_path / "script.py"
    script.write_text("", encoding="utf-8")
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            os.kill(process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            begin = time.monotonic()
            done = pydbi("attach", str(process.pid), str(script))
            assert time.monotonic() - begin < 20
        finally:
            process.kill()
    assert done.returncode == 1
    if "must belong to you" not in done.stderr:
        assert f"is stopped: let it go on first (kill -CONT {process.pid})" in done.stderr
