"""From a command to the file that is loaded: the search path, and scripts with ``#!``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Union

from pydbi.program.errors import ProgramError
from pydbi.tuples import NamedTuple

Text = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
"""What paths, arguments and variables may be given as."""

Environment = Union["Mapping[Text, Text]", Sequence[Text], None]
"""Variables: by name, as NAME=value, or this process's own."""

_ENOENT, _E2BIG, _ENOEXEC, _EACCES, _ELOOP = 2, 7, 8, 13, 40
_LINE = 256
"""Bytes of a script in which its first line must end (BINPRM_BUF_SIZE)."""
_DEEPEST = 4
"""Interpreters that may be scripts themselves, in a row (exec_binprm in fs/exec.c)."""
_DEFAULT_PATH = b"/bin:/usr/bin"
"""Where execvp looks without PATH (_CS_PATH)."""


class Command(NamedTuple):
    """What execve is given in the end."""

    path: bytes
    """The ELF file."""
    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    """The variables, as NAME=value."""
    executed: bytes
    """The path as it was asked for: a script's own. The program finds it as AT_EXECFN."""


def find_program(name: bytes, environment: Sequence[bytes]) -> bytes:
    """Return the path of the program *name*, as execvp finds it.

    Raises:
        ProgramError: there is none.
    """
    if b"/" in name:
        return name
    denied = False
    folders = next((v[5:] for v in environment if v.startswith(b"PATH=")), _DEFAULT_PATH)
    for folder in folders.split(b":"):
        path = os.path.join(folder or b".", name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
        denied = denied or os.path.isfile(path)
    if denied:
        raise ProgramError(_EACCES, name, "found in PATH, but not executable")
    raise ProgramError(_ENOENT, name, "command not found" if name else "no program is named")


def resolve(path: bytes, arguments: Sequence[bytes], environment: Sequence[bytes] = ()) -> Command:
    """Follow the first lines of scripts from *path* to an ELF file.

    Raises:
        ProgramError: it is not there, not executable, or leads nowhere.
    """
    executed = path
    for _ in range(_DEEPEST + 1):
        line = _first_line(path)
        if line is None:
            return Command(path, tuple(arguments), tuple(environment), executed)
        interpreter, argument = line
        _check_interpreter(interpreter, path)
        arguments = [interpreter, *argument, path, *arguments[1:]]
        path = interpreter
    raise ProgramError(_ELOOP, executed, f"more than {_DEEPEST} scripts interpret one another")


def check_executable(path: bytes) -> None:
    """Return if *path* is a file that may be executed.

    Raises:
        ProgramError: it is not.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ProgramError(error.errno or _ENOENT, path, os.strerror(error.errno or 0)) from None
    if not stat.S_ISREG(mode):
        raise ProgramError(_EACCES, path, "not a regular file")
    if not os.access(path, os.X_OK, effective_ids=True):
        raise ProgramError(_EACCES, path, "not executable (chmod +x)")


def _check_interpreter(path: bytes, script: bytes) -> None:
    """Return if the interpreter that *script* names is a file that may be executed.

    Raises:
        ProgramError: it is not.
    """
    try:
        check_executable(path)
    except ProgramError as error:
        names = f"{os.fsdecode(script)} names it as its interpreter"
        raise ProgramError(error.errno or _ENOENT, path, f"{error.reason} ({names})") from None


def _first_line(path: bytes) -> tuple[bytes, list[bytes]] | None:
    """Return the interpreter that a script names, and its argument if there is one."""
    check_executable(path)
    try:
        with open(path, "rb", buffering=0) as file:
            start = file.read(_LINE)
    except OSError as error:
        reason = f"{os.strerror(error.errno or 0)} (it must be readable)"
        raise ProgramError(error.errno or _EACCES, path, reason) from None
    if start[:2] != b"#!":
        return None
    line, ends, _ = start[2:].partition(b"\n")
    words = line.strip(b" \t").split(None, 1)
    if not words or not (ends or len(start) < _LINE or len(line.split()) > 1):
        raise ProgramError(_ENOEXEC, path, "a script whose first line names no interpreter")
    return words[0], words[1:]


def encode(value: Text, what: str) -> bytes:
    """Return *value* as bytes without a zero.

    Raises:
        TypeError: it is no text.
        ValueError: it has a zero in it.
    """
    try:
        data = os.fsencode(value)
    except TypeError:
        raise TypeError(f"{what} must be str, bytes or a path, not {value!r}") from None
    if b"\0" in data:
        raise ValueError(f"{what} has a zero in it: {value!r}")
    return data


def encode_environment(env: Environment) -> list[bytes]:
    """Return the variables as NAME=value; None stands for those of this process."""
    if env is None:
        return list(_own_environment())
    if isinstance(env, (str, bytes, int)) or not hasattr(env, "__iter__"):
        raise TypeError(f"variables are a mapping, or texts of the form NAME=value, not {env!r}")
    if isinstance(env, Mapping):
        pairs = [(encode(name, "a name"), encode(env[name], "a variable")) for name in env]
        return [name + b"=" + value for name, value in pairs]
    return [encode(variable, "a variable") for variable in env]


def _own_environment() -> Iterator[bytes]:
    """Yield the variables of this process, but not what Python itself has added (PEP 538)."""
    coerced = os.environb.get(b"LC_CTYPE") == b"C.UTF-8" and not _was_given(b"LC_CTYPE")
    for name, value in os.environb.items():
        if not (coerced and name == b"LC_CTYPE"):
            yield name + b"=" + value


def _was_given(name: bytes) -> bool:
    try:
        with open("/proc/self/environ", "rb") as file:
            return any(entry.startswith(name + b"=") for entry in file.read().split(b"\0"))
    except OSError:
        return True
