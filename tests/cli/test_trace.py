"""``python -m pydbi trace``, as a user runs it."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.child import ROOT, child_environment

LINE = re.compile(r"(\S+)\+0x[0-9a-f]+ +(-|\S+\+0x[0-9a-f]+) +\S.*")


def pydbi(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run ``python -m pydbi`` with *arguments*."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "pydbi", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=child_environment(),
        check=False,
    )


def trace(*arguments: str) -> list[str]:
    """Run the trace command, which must succeed, and return the lines it printed."""
    done = pydbi("trace", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_every_instruction_is_shown() -> None:
    """Each executed instruction is one line with module, function and text; the rest follows."""
    *lines, count, result = trace("libz.so.1", "crc32", "0", "hello", "5")
    for line in lines:
        match = LINE.fullmatch(line)
        assert match, line
        assert match[1].startswith("libz.so")
    assert "crc32+0x0 " in lines[0]
    assert lines[-1].split()[2].startswith("ret")
    assert count == f"instructions: {len(lines)}"
    value = zlib.crc32(b"hello")
    assert result == f"result: {value} ({value:#x})"


def test_counting_agrees_with_showing() -> None:
    """``--count`` prints the number of lines that the trace has, and the same result."""
    arguments = ("libz.so.1", "crc32", "0", "hello, world", "12")
    assert trace("--count", *arguments) == trace(*arguments)[-2:]


def test_default_result_shows_text() -> None:
    """A result that is the address of text is shown with it."""
    result = trace("libz.so.1", "zlibVersion")[-1]
    assert re.fullmatch(r"result: \d+ \(0x[0-9a-f]+\) -> '[0-9.a-z-]+'", result)
    assert repr(zlib.ZLIB_RUNTIME_VERSION) in result


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        (("libm.so.6", "pow", "2.0", "0.5", "--result", "double"), repr(2**0.5)),
        (("libm.so.6", "fma", "1.5", "-2.0", "1e3", "--result", "double"), "997.0"),
        (("libm.so.6", "sqrtf", "2.0f", "--result", "float"), "1.41421354"),
        (("libm.so.6", "ldexp", "1.5", "3", "--result", "double"), "12.0"),
        (("libc.so.6", "atoi", "s:-12", "--result", "int"), "-12"),
        (("libc.so.6", "abs", "-5", "--result", "int"), "5"),
        (("libc.so.6", "abs", "--result", "int", "--", "-0x10"), "16"),
        (("libc.so.6", "strlen", "--result", "ulong", "--", "--what?"), "7"),
        (("libc.so.6", "strchr", "a=b", "0x3d", "--result", "string"), "'=b'"),
        (("libc.so.6", "strchr", "ab", "0x3d", "--result", "string"), "NULL"),
        (("libc.so.6", "toupper", "97", "--result", "uint"), "65"),
        (("libc.so.6", "llabs", "-9223372036854775807", "--result", "long"), str(2**63 - 1)),
        (("libc.so.6", "strlen", "\u00e9", "--result", "int"), "2"),
        (("libc.so.6", "tolower", "97", "--result", "none"), "none"),
    ],
)
def test_results_are_the_native_ones(arguments: tuple[str, ...], result: str) -> None:
    """Integer, floating-point and string arguments and results are those of a native call."""
    assert trace("--count", *arguments)[-1] == f"result: {result}"


def test_results_of_floating_point_functions() -> None:
    """By default what may be a double is shown as one, too."""
    assert trace("--count", "libm.so.6", "sqrt", "2.25")[-1].endswith(", as a double 1.5")


def test_stack_arguments_reach_a_variadic_function() -> None:
    """The seventh argument and further ones are passed on the stack, floats in registers."""
    done = pydbi(
        "trace", "--count", "libc.so.6", "printf", "%d %d %d %d %d %d %.2f|",
        "1", "2", "3", "4", "5", "6", "7.25",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The C library has a buffer of its own: its text may come before or after Python's.
    assert "1 2 3 4 5 6 7.25|" in done.stdout
    assert "result: 17 (0x11), as a double " in done.stdout


def test_other_modules_are_shown_on_request() -> None:
    """``--module`` adds a module by name, ``--all`` adds all; by default there is one."""

    def modules(*options: str) -> set[str]:
        lines = trace(*options, "libz.so.1", "gzopen", "/nowhere/at/all", "r")
        return {line.partition("+")[0] for line in lines[:-2]}

    assert modules() == {"libz.so.1"}
    assert modules("--module", "libc.so.6") == {"libz.so.1", "libc.so.6"}
    assert modules("--module", "/any/where/libc.so.6") == {"libz.so.1", "libc.so.6"}
    assert modules("--all") >= {"libz.so.1", "libc.so.6"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no command"),
        (("what",), "unknown command 'what'"),
        (("trace",), "a library and a function are due, or -- and a program"),
        (("trace", "libnowhere.so", "f"), "cannot load libnowhere.so"),
        (("trace", "libz.so.1", "nowhere"), "libz.so.1 has no function nowhere"),
        (("trace", "libc.so.6", "environ"), "environ of libc.so.6 is not a function"),
        (("trace", "libz.so.1", "crc32", "9" * 30), f"{'9' * 30} does not fit into 64 bits"),
        (("trace", "libm.so.6", "sin", *["1.0"] * 9), "more than 8 floating-point arguments"),
        (("trace", "libz.so.1", "crc32", "--what"), "unrecognized arguments: --what"),
        (("trace", "libz.so.1", "crc32", "--result", "x"), "invalid choice: 'x'"),
        (("trace", "libz.so.1", "crc32", "--module", "x"), "no module x is loaded"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    """A mistake in the command is one line on standard error and exit status 2."""
    done = pydbi(*arguments)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert re.fullmatch(f"pydbi.*{re.escape(message)}.*\n", done.stderr), done.stderr


def test_guest_fault_is_one_line() -> None:
    """A fault of the function is one line that says what happened, and exit status 1."""
    done = pydbi("trace", "libc.so.6", "strlen", "16", "--result", "int")
    assert done.returncode == 1, done
    assert re.fullmatch(
        "pydbi trace: the guest got SIGSEGV .*, accessing 0x10, in libc.*\n", done.stderr
    )
    # What was executed until then has been printed, up to the instruction that failed.
    lines = done.stdout.splitlines()
    assert lines
    assert all(LINE.fullmatch(line) for line in lines)


def test_closed_pipe_ends_quietly() -> None:
    """When the reader of the trace goes away, the command ends without a word."""
    text = "x" * 100_000
    with subprocess.Popen(
        [sys.executable, "-m", "pydbi", "trace", "libz.so.1", "adler32", "1", text, "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
        cwd=ROOT,
    ) as child:
        assert child.stdout
        assert child.stderr
        first = child.stdout.readline()
        child.stdout.close()
        errors = child.stderr.read()
        status = child.wait(timeout=120)
    assert b"adler32+0x0" in first
    assert errors == b""
    assert status == 128 + 13


@pytest.mark.parametrize("arguments", [("--help",), ("trace", "--help"), ("--version",)])
def test_help(arguments: tuple[str, ...]) -> None:
    """Help and version are printed on standard output."""
    done = pydbi(*arguments)
    assert done.returncode == 0
    assert "pydbi" in done.stdout
    assert done.stderr == ""


def test_library_by_path() -> None:
    """A library can be given by its path."""
    address = ctypes.cast(ctypes.CDLL("libz.so.1").crc32, ctypes.c_void_p).value
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    for line in lines:
        low, high = (int(part, 16) for part in line.split()[0].split("-"))
        if address and low <= address < high:
            path = line.split()[5]
    assert trace("--count", path, "crc32", "0", "hello", "5")[-1].startswith("result: 907060870")
