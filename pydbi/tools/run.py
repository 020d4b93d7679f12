"""``python -m pydbi run``: run a program under pydbi, as if it had been started by itself.

Its output is untouched and its exit status is this command's; what a signal ends dies of that
signal. Options are read by hand: argparse takes longer to import than most programs to start.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from pydbi.program import Program, ProgramError
from pydbi.program.descriptor_calls import move_high
from pydbi.program.surroundings import leave
from pydbi.tuples import NamedTuple

_USAGE = """\
usage: python -m pydbi run [options] [--] PROGRAM [ARGUMENT ...]

Run a program under pydbi. Its exit status is returned; messages go to standard error.

options:
  --quiet            no messages
  --stats            say at the end what the engine did
  --follow-exec      what the program and its children execute runs under pydbi, too
  --no-cache         do not use translations of earlier runs, and keep none; the environment
                     variable PYDBI_CACHE names the folder where they are kept, or is "off"
  --help             this text"""
_FLAGS = ("--quiet", "--stats", "--follow-exec", "--no-cache")
_ENOENT = 2
_GARBAGE = 50_000
"""Objects after which cyclic garbage is looked for: beginning a program makes many and no garbage,
and a search among them takes longer than most of the other things that are done here."""
_NOT_FOUND, _NOT_EXECUTABLE, _USAGE_STATUS = 127, 126, 2
"""Exit statuses, as shells have them."""


class _UsageError(Exception):
    """The command is wrong."""


class _Options(NamedTuple):
    flags: frozenset[str]
    command: list[str]


def _parse(arguments: Sequence[str]) -> _Options:
    """Split *arguments* into options and the program's command.

    Raises:
        _UsageError: the command is wrong.
    """
    flags = set()
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option == "--":
            break
        if option not in _FLAGS:
            raise _UsageError(f"unknown option {option}")
        flags.add(option)
    if not rest:
        raise _UsageError("no program given")
    return _Options(frozenset(flags), rest)


class _Messages:
    """Messages on this process's standard error, whatever the program does with its own."""

    def __init__(self, wanted: bool) -> None:
        try:
            self._descriptor = move_high(2) if wanted else -1
        except OSError:  # there is none
            self._descriptor = -1

    def write(self, text: str) -> None:
        """Write a line."""
        if self._descriptor >= 0:
            os.write(self._descriptor, f"pydbi run: {text}\n".encode(errors="backslashreplace"))

    def on_fork(self, _: Program, child: int) -> None:
        """In a child: close it, or a pipe that it is would stay open."""
        if child == 0 and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def main(arguments: Sequence[str]) -> int:
    """Run the command with *arguments*; unless it is wrong, the process ends as the program does.

    Returns:
        The exit status, if no program was run.
    """
    gc.set_threshold(_GARBAGE)
    if list(arguments[:1]) in (["--help"], ["-h"]):
        print(_USAGE)
        return 0
    try:
        options = _parse(arguments)
        messages = _Messages("--quiet" not in options.flags)
        follow = "--follow-exec" in options.flags
        cached = "--no-cache" not in options.flags
        program = Program(options.command, follow_exec=follow, own_process=True, disk_cache=cached)
    except _UsageError as error:
        print(f"pydbi run: error: {error} (--help tells more)", file=sys.stderr)
        return _USAGE_STATUS
    except ProgramError as error:
        print(f"pydbi run: {error}", file=sys.stderr)
        return _NOT_FOUND if error.errno == _ENOENT else _NOT_EXECUTABLE
    return _execute(program, messages, "--stats" in options.flags)


def _execute(program: Program, messages: _Messages, wants_stats: bool) -> NoReturn:
    """Run the program, and end this process as it has ended."""
    program.on_fork(messages.on_fork)
    if wants_stats:
        program.on_exit(lambda program, status: messages.write(_stats(program)))
    status = program.run()
    if program.fault is not None:
        messages.write(str(program.fault).partition("\n")[0])
    leave(status or 0)


def _stats(program: Program) -> str:
    """Return what the engine did, and what it did not."""
    counters = ", ".join(f"{name}={value}" for name, value in program.vm.stats.as_dict().items())
    refused = ", ".join(f"{name} ({count} times)" for name, count in program.refused.items())
    return counters + (f"; refused: {refused}" if refused else "")
