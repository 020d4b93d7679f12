"""One command line, run natively and under pydbi, and what is compared of it."""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.child import ROOT

_OLD = 1_000_000_000  # seconds since the epoch: when every prepared file was last changed
_LONGEST = 40  # lines of a difference that are shown
_COUNTING = str(Path(__file__).with_name("counting.py"))


class Mode(Enum):
    """How a command line is run."""

    NATIVE = "native"
    AGAIN = "native again"
    """Proves that the case does the same each time."""
    RUN = "run"
    FOLLOW = "run --follow-exec"
    BLOCKS = "block counter"
    INSTRUCTIONS = "instruction counter"


@dataclass(frozen=True)
class Case:
    """A command line that does the same whenever it is run.

    Attributes:
        name: names the test.
        command: as a shell would split it, or the words. ``{bin}`` is the folder of compiled
            programs, ``{python}`` the Python that runs the tests.
        files: contents by path in the working directory; a path that ends in ``/`` is a folder.
            A text that begins with ``#!`` becomes executable.
        stdin: what is piped to it; the null device if nothing is.
        status: what it must end with natively: an exit status, or a signal's negative number.
        needs: programs that must be installed, beside the command's first word.
        builds: names in `builds.BUILDS` that must be compiled first.
        ignore: what is not compared, and why: ``stderr``, ``status``, or a pattern of file names.
        variables: what is added to the environment.
        module: base name of the module whose instructions are counted one by one; the case is
            run so only if there is one.
        follow: whether it is also run with programs that it executes under pydbi.
        timeout: seconds for one run.
    """

    name: str
    command: str | tuple[str, ...]
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    stdin: str | bytes | None = None
    status: int = 0
    needs: tuple[str, ...] = ()
    builds: tuple[str, ...] = ()
    ignore: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    module: str | None = None
    follow: bool = False
    timeout: float = 60

    @property
    def words(self) -> tuple[str, ...]:
        """The command's words, with what stands in braces still in them."""
        return tuple(shlex.split(self.command)) if isinstance(self.command, str) else self.command

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How the case is run, beside natively."""
        more = (Mode.FOLLOW,) * self.follow + (Mode.INSTRUCTIONS,) * (self.module is not None)
        return (Mode.AGAIN, Mode.RUN, Mode.BLOCKS, *more)


@dataclass(frozen=True)
class Outcome:
    """What a run left behind.

    Attributes:
        status: exit status, a signal's negative number, or None: it ran out of time.
        stdout, stderr: what it printed.
        files: a description by path of everything in the working directory afterwards.
        count: what a counter counted, if there was one.
        seconds: how long it took.
    """

    status: int | None
    stdout: bytes
    stderr: bytes
    files: Mapping[str, bytes]
    count: int | None = None
    seconds: float = 0.0


def run(case: Case, mode: Mode, folder: Path, programs: Path) -> Outcome:
    """Run *case* in ``folder/work``, made anew, and return what it left there.

    The working directory has the same path in each run, so that a program may print it. Beside it
    is a home folder, which stays from one run to the next, as a cache of translations there would.

    Args:
        programs: the folder of compiled programs.
    """
    work, home, report = folder / "work", folder / "home", folder / "count"
    home.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    report.unlink(missing_ok=True)
    prepare(work, case.files)
    names = {"bin": str(programs), "python": sys.executable}
    words = [_fill(word, names) for word in case.words]
    stdin = case.stdin.encode() if isinstance(case.stdin, str) else case.stdin
    started = time.monotonic()
    process = subprocess.Popen(
        [*_prefix(mode, case.module or "", report), *words],
        cwd=work,
        env={**environment(home), **case.variables},
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    status: int | None
    try:
        out, err = process.communicate(stdin, timeout=case.timeout)
        status = process.returncode
    except subprocess.TimeoutExpired:
        kill_session(process.pid)
        out, err = process.communicate()
        status = None
    seconds = time.monotonic() - started
    count = int.from_bytes(report.read_bytes(), sys.byteorder) if report.exists() else None
    return Outcome(status, out, err, describe(work), count, seconds)


def environment(home: Path) -> dict[str, str]:
    """Return the environment of every run: small, and the same on every machine."""
    return {
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TZ": "UTC",
    }


def _fill(word: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        word = word.replace("{" + name + "}", value)
    return word


def _prefix(mode: Mode, module: str, report: Path) -> list[str]:
    if mode in (Mode.NATIVE, Mode.AGAIN):
        return []
    if mode is Mode.BLOCKS:
        return [sys.executable, _COUNTING, str(report), "--"]
    if mode is Mode.INSTRUCTIONS:
        return [sys.executable, _COUNTING, str(report), module, "--"]
    follow = ["--follow-exec"] if mode is Mode.FOLLOW else []
    return [sys.executable, "-m", "pydbi", "run", "--quiet", *follow, "--"]


def prepare(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Make *folder* with *files* in it: contents by path, all of one age."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
            continue
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o755 if content[:2] in ("#!", b"#!") else 0o644)
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (_OLD, _OLD))
    os.utime(folder, (_OLD, _OLD))


def describe(folder: Path) -> dict[str, bytes]:
    """Return what is in *folder*: the mode, and the content or the target of a link, by path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        text = stat.filemode(facts.st_mode).encode() + b"\n"
        if stat.S_ISLNK(facts.st_mode):
            text += os.fsencode(os.readlink(path))
        elif stat.S_ISREG(facts.st_mode):
            text += path.read_bytes()
        found[path.relative_to(folder).as_posix()] = text
    return found


def kill_session(leader: int) -> None:
    """Kill all processes of the session that *leader*, a child not yet waited for, has begun."""
    for pid in _session(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _session(leader: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # proc(5): "pid (comm) state ppid pgrp session ...", and comm may contain anything.
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                if int(text.rpartition(")")[2].split()[3]) == leader:
                    yield int(entry.name)


def difference(native: Outcome, other: Outcome, ignore: Mapping[str, str]) -> str:
    """Say how *other* differs from *native*; an empty text means that it does not.

    Args:
        ignore: as in `Case`.
    """
    parts = []
    if native.status != other.status and "status" not in ignore:
        parts.append(f"status {_status(other.status)}, natively {_status(native.status)}")
    for name in ("stdout", "stderr"):
        if name not in ignore:
            parts += _text_difference(name, getattr(native, name), getattr(other, name))
    for path in sorted({*native.files, *other.files}):
        if any(fnmatch.fnmatch(path, pattern) for pattern in ignore):
            continue
        if path not in other.files:
            parts.append(f"{path}: not there")
        elif path not in native.files:
            parts.append(f"{path}: not there natively")
        else:
            parts += _text_difference(path, native.files[path], other.files[path])
    return "\n".join(parts)


def _status(status: int | None) -> str:
    if status is None:
        return "none: it ran out of time"
    return signal.Signals(-status).name if status < 0 else str(status)


def _text_difference(name: str, native: bytes, other: bytes) -> list[str]:
    if native == other:
        return []
    before, after = (_lines(text) for text in (native, other))
    lines = list(difflib.unified_diff(before, after, f"{name}, native", name, n=1, lineterm=""))
    if len(lines) > _LONGEST:
        lines[_LONGEST:] = [f"... and {len(lines) - _LONGEST} lines more"]
    return lines


def _lines(text: bytes) -> list[str]:
    """Return lines as they can be shown, each at most 200 characters."""
    return [repr(line)[2:-1][:200] for line in text.split(b"\n")][:2000]
