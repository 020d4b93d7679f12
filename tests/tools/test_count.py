"""``pydbi count`` and ``pydbi trace`` on programs: their figures, and what they leave alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tools.compiled import compile_program, pydbi

HEAD = re.compile(
    r"pydbi count: ([0-9,]+) instructions in ([0-9,]+) sequences, ([0-9,]+) different ones; (.*)"
)
ROW = re.compile(r" *([0-9,]+) +([0-9,]+)  (\S+)")
PROGRAM = "counted.c"


def figures(text: str) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """Return the first line's parts, and the table: instructions and sequences by name."""
    head, *lines = text.splitlines()
    match = HEAD.fullmatch(head)
    assert match, text
    rows = [match for match in map(ROW.fullmatch, lines) if match]
    table = {m[3]: (int(m[1].replace(",", "")), int(m[2].replace(",", ""))) for m in rows}
    return [part.replace(",", "") for part in match.groups()], table


def count(*arguments: str) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """Return what the count command reports of the program with *arguments*."""
    program = compile_program(PROGRAM)
    return figures(
        pydbi("count", "--by", "function", "--top", "0", "--", program, *arguments).stderr
    )


def test_instructions_are_counted_by_function() -> None:
    """A loop of known length is counted exactly; the program's output and status are its own."""
    program = compile_program(PROGRAM)
    name = Path(program).name
    for turns in (1, 50):
        done = pydbi("count", "--by", "function", "--top", "0", "--", program, str(turns))
        assert done.stdout == f"{turns * 2}\n"
        assert done.returncode == turns
        head, table = figures(done.stderr)
        assert head[3] == f"exit status {turns}"
        assert table[f"{name}!turns"][0] == 3 + 2 * turns
        assert sum(instructions for instructions, _ in table.values()) == int(head[0])
        assert sum(sequences for _, sequences in table.values()) == int(head[1])


def test_modules_are_selected() -> None:
    """With ``--module`` only these are counted; by default the loader and libc are there too."""
    program = compile_program(PROGRAM)
    name = Path(program).name
    _, everything = figures(pydbi("count", "--", program).stderr)
    assert {name, "libc.so.6"} < everything.keys()
    head, own = figures(pydbi("count", "--module", name, "--", program).stderr)
    assert own == {name: everything[name]}
    assert int(head[0]) == own[name][0]
    _, both = figures(
        pydbi("count", "--module", name, "--module", "libc.so.6", "--", program).stderr
    )
    assert both == {key: everything[key] for key in (name, "libc.so.6")}


def test_trace_has_a_line_for_each_instruction(tmp_path: Path) -> None:
    """The trace shows what is counted, in order, on standard error or in a file."""
    program = compile_program(PROGRAM)
    name = Path(program).name
    _, table = count("3")
    done = pydbi("trace", "--", program, "3")
    assert done.stdout == "6\n"
    assert done.returncode == 3
    *lines, number, ending = done.stderr.splitlines()
    assert number == f"instructions: {len(lines)}"
    assert ending == "exit status 3"
    assert all(line.startswith(f"{name}+0x") for line in lines)
    in_turns = [line.split(None, 2)[2] for line in lines if f" {'turns'}+0x" in line]
    assert [text.split()[0] for text in in_turns] == ["mov", "xor", *["inc", "loop"] * 3, "ret"]
    assert len(in_turns) == table[f"{name}!turns"][0]
    file = tmp_path / "trace"
    done = pydbi("trace", "--quiet", "--output", str(file), "--", program, "3")
    assert done.stderr == ""
    shown = [re.sub(r"0x[0-9a-f]+", "", line) for line in file.read_text().splitlines()]
    assert shown == [re.sub(r"0x[0-9a-f]+", "", line) for line in lines]


def test_counting_and_tracing_agree() -> None:
    """Both see the same number of instructions, the last system call included."""
    program = compile_program(PROGRAM)
    traced = pydbi("trace", "--all", "--count", "--", program, "5").stderr.splitlines()[0]
    head, _ = figures(pydbi("count", "--", program, "5").stderr)
    # The loader's work depends on the environment and the command line, which are the same.
    assert traced == f"instructions: {head[0]}"


def test_forked_children_are_not_counted(tmp_path: Path) -> None:
    """A child runs along; the figures are the parent's. The trace has both processes' lines."""
    program = compile_program(PROGRAM)
    name = Path(program).name
    _, table = count("2", "fork")
    assert table[f"{name}!turns"][0] == 3 + 2 * 2
    file = tmp_path / "trace"
    done = pydbi("trace", "--output", str(file), "--quiet", "--", program, "2", "fork")
    assert done.stdout == "4\n"
    assert done.returncode == 2
    assert file.read_text().count(" loop ") == 2 + 7


def test_another_program_in_its_place() -> None:
    """Before a program executes another one, the figures are printed; the other runs natively."""
    program = compile_program(PROGRAM)
    done = pydbi("count", "--by", "none", "--", program, "2", "exec")
    assert done.stdout == "4\nfrom sh\n"
    assert done.returncode == 4
    head, _ = figures(done.stderr)
    assert head[3] == "goes on natively as /bin/sh (--follow-exec sees that too)"
    lines = pydbi("trace", "--", program, "2", "exec").stderr.splitlines()
    assert sum(" loop " in line for line in lines) == 2


def test_following_what_is_executed() -> None:
    """With ``--follow-exec`` the program that comes in its place is counted and traced, too."""
    program = compile_program(PROGRAM)
    name = Path(program).name
    done = pydbi("count", "--follow-exec", "--", program, "2", "exec")
    assert done.stdout == "4\nfrom sh\n"
    assert done.returncode == 4
    head, table = figures(done.stderr)
    assert head[3] == "exit status 4"
    shell = Path("/bin/sh").resolve().name
    assert {name, shell, "libc.so.6"} <= table.keys()
    lines = pydbi("trace", "--follow-exec", "--", program, "2", "exec").stderr.splitlines()
    modules = [line.partition("+")[0] for line in lines[:-2]]
    assert set(modules) == {name, shell}
    assert modules.index(shell) == modules.count(name)


def test_closed_streams_and_signals() -> None:
    """A program that closes its standard error, or dies of a signal, is reported all the same."""
    head, _ = count("2", "close")
    assert head[3] == "exit status 2"
    done = pydbi("count", "--", compile_program(PROGRAM), "2", "fault")
    assert done.returncode == -11
    first, rest = done.stderr.split("\n", 1)
    assert re.fullmatch(
        r"pydbi count: the guest got SIGSEGV .*, accessing 0x8, in counted!\w+\+0x\w+", first
    )
    assert figures(rest)[0][3] == "ended by SIGSEGV"


def test_unloaded_modules_keep_their_name() -> None:
    """What was executed in a library that is gone at the end is counted by its name."""
    done = pydbi("count", "--module", "libz.so.1", "--", compile_program(PROGRAM), "2", "unload")
    _, table = figures(done.stderr)
    assert [name.startswith("libz.so.1") for name in table] == [True]


def test_nothing_instrumented_is_explained() -> None:
    """A run that has seen nothing says why."""
    program = compile_program(PROGRAM)
    done = pydbi("count", "--module", "nowhere.so", "--", program)
    assert "no module nowhere.so was loaded; there were: counted, ld-" in done.stderr
    done = pydbi("trace", "--module", "nowhere.so", "--", program)
    assert "nothing was instrumented: no module nowhere.so" in done.stderr
    done = pydbi("trace", "--quiet", "--module", "nowhere.so", "--", program)
    assert done.stderr == ""
    done = pydbi("count", "libc.so.6", "malloc", "100")
    assert "nothing was instrumented: the function is one of those that run natively" in done.stderr


def test_functions_of_libraries() -> None:
    """A function is counted as well, with its result; nothing goes to standard output."""
    done = pydbi("count", "libz.so.1", "crc32", "0", "hello", "5")
    assert done.returncode == 0
    assert done.stdout == ""
    head, table = figures(done.stderr)
    assert head[3] == "result: 907060870 (0x3610a686)"
    assert [name.startswith("libz.so.1") for name in table] == [True]
    traced = pydbi("trace", "--count", "libz.so.1", "crc32", "0", "hello", "5").stdout
    assert traced.startswith(f"instructions: {head[0]}\n")
    done = pydbi("count", "libc.so.6", "strlen", "16")
    assert done.returncode == 1
    assert "it could not go on" in done.stderr
    assert "SIGSEGV" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("count",), 2, "a library and a function are due, or -- and a program"),
        (("count", "--"), 2, "no program given behind --"),
        (("count", "--by", "x", "--", "true"), 2, "invalid choice: 'x'"),
        (("count", "--what", "--", "true"), 2, "unrecognized arguments: --what"),
        (("count", "--", "no-such-program"), 127, "no-such-program: command not found"),
        (("trace", "--", "/"), 126, "/:"),
        (("trace", "--output", "/nowhere/x", "--", "true"), 2, "cannot write to /nowhere/x"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], status: int, message: str) -> None:
    """A mistake is one line, with a shell's exit status."""
    done = pydbi(*arguments)
    assert done.returncode == status
    assert done.stdout == ""
    assert re.fullmatch(f"pydbi .*{re.escape(message)}.*\n", done.stderr), done.stderr
