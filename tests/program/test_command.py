"""From a command to an ELF file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pydbi.program.command import encode, encode_environment, find_program, resolve
from pydbi.program.errors import ProgramError

ELF = b"\x7fELF whatever follows"


def make(path: Path, content: bytes, mode: int = 0o755) -> bytes:
    """Write a file and return its path as bytes."""
    path.write_bytes(content)
    path.chmod(mode)
    return bytes(path)


def test_the_search_path_is_that_of_the_variables(tmp_path: Path) -> None:
    """A name without a slash is looked for in the folders of PATH, in order."""
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    make(first / "tool", ELF, 0o644)
    wanted = make(second / "tool", ELF)
    environment = [b"X=1", b"PATH=" + b":".join(map(bytes, (first, second)))]
    assert find_program(b"tool", environment) == wanted
    assert find_program(b"./tool", environment) == b"./tool"
    assert find_program(b"sh", []) == b"/bin/sh"


@pytest.mark.parametrize(
    ("name", "mode", "number"), [("other", 0o755, errno.ENOENT), ("tool", 0o644, errno.EACCES)]
)
def test_what_is_not_found_is_told(tmp_path: Path, name: str, mode: int, number: int) -> None:
    """The error has the number of what execvp says."""
    make(tmp_path / "tool", ELF, mode)
    with pytest.raises(ProgramError, match=name) as caught:
        find_program(name.encode(), [b"PATH=" + bytes(tmp_path)])
    assert caught.value.errno == number


def test_a_script_is_given_to_its_interpreter(tmp_path: Path) -> None:
    """All behind the interpreter's name is one argument, and the script's path follows it."""
    interpreter = make(tmp_path / "interpreter", ELF)
    script = make(tmp_path / "script", b"#! " + interpreter + b"  -a  b \nrest")
    command = resolve(script, [b"name", b"1", b"2"])
    assert command.path == interpreter
    assert command.arguments == (interpreter, b"-a  b", script, b"1", b"2")
    assert command.executed == script


def test_scripts_may_interpret_scripts_four_times(tmp_path: Path) -> None:
    """As deep as the kernel goes, and no deeper."""
    path = make(tmp_path / "elf", ELF)
    for number in range(4):
        path = make(tmp_path / f"script{number}", b"#!" + path + b"\n")
    assert resolve(path, [b"x"]).path == bytes(tmp_path / "elf")
    deeper = make(tmp_path / "deeper", b"#!" + path + b"\n")
    with pytest.raises(ProgramError, match="scripts") as caught:
        resolve(deeper, [b"x"])
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("content", [b"#!\n", b"#!  \t \n/bin/sh", b"#!/" + 300 * b"a" + b"\n"])
def test_a_script_without_interpreter_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty first line, or one that is too long for the kernel."""
    with pytest.raises(ProgramError, match="first line") as caught:
        resolve(make(tmp_path / "script", content), [b"x"])
    assert caught.value.errno == errno.ENOEXEC


@pytest.mark.parametrize(
    ("name", "number", "reason"),
    [
        ("folder", errno.EACCES, "regular"),
        ("missing", errno.ENOENT, "No such file"),
        ("text", errno.EACCES, "chmod"),
    ],
)
def test_what_cannot_be_executed_is_told(
    tmp_path: Path, name: str, number: int, reason: str
) -> None:
    """A folder, nothing, and a file without the permission."""
    (tmp_path / "folder").mkdir()
    make(tmp_path / "text", ELF, 0o644)
    with pytest.raises(ProgramError, match=reason) as caught:
        resolve(bytes(tmp_path / name), [b"x"])
    assert caught.value.errno == number


def test_variables_are_bytes() -> None:
    """By name or as they are; the order stays."""
    assert encode_environment({"B": b"\xff", b"A": Path("/x")}) == [b"B=\xff", b"A=/x"]
    assert encode_environment([b"A=1", "odd"]) == [b"A=1", b"odd"]
    with pytest.raises(ValueError, match="zero"):
        encode_environment({"A": "1\0"})
    with pytest.raises(TypeError, match="argument"):
        encode(5, "an argument")  # type: ignore[arg-type]
