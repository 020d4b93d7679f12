"""``python -m pydbi run``: run a program under pydbi, as if it had been started by itself.

Its output is untouched and its exit status is this command's; what a signal ends dies of that
signal. Options are read by hand: argparse takes longer to import than most programs to start.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from pydbi.program import Program
from pydbi.program.surroundings import leave
from pydbi.tools.messages import Messages, first_line, report
from pydbi.tuples import NamedTuple

_USAGE = """\
usage: pydbi run [options] [--] PROGRAM [ARGUMENT ...]

Run a program under pydbi. Its exit status is returned; messages go to standard error.

options:
  --progress         show on the terminal, while the program computes, how long it runs and
                     how many blocks were translated
  --stats            say at the end what the engine did
  --quiet            no messages, but for those asked for by --stats
  --follow-exec      what the program and its children execute runs under pydbi, too
  --no-cache         do not use translations of earlier runs, and keep none; the environment
                     variable PYDBI_CACHE names the folder where they are kept, or is "off"
  -h, --help         this text"""
_FLAGS = ("--progress", "--stats", "--quiet", "--follow-exec", "--no-cache")
_HELP = ("-h", "--help")
_GARBAGE = 50_000
"""Objects after which cyclic garbage is looked for: beginning a program makes many and no garbage,
and a search among them takes longer than most of the other things that are done here."""
_USAGE_STATUS = 2


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
        if option in _HELP:
            return _Options(frozenset(_HELP), [])
        if option not in _FLAGS:
            raise _UsageError(f"unknown option {option}")
        flags.add(option)
    if not rest:
        raise _UsageError("no program given")
    return _Options(frozenset(flags), rest)


def main(arguments: Sequence[str]) -> int:
    """Run the command with *arguments*; unless it is wrong, the process ends as the program does.

    Returns:
        The exit status, if no program was run.
    """
    gc.set_threshold(_GARBAGE)
    try:
        flags, command = _parse(arguments)
    except _UsageError as error:
        report("run", f"error: {error} (--help tells more)")
        return _USAGE_STATUS
    if not command:
        print(_USAGE)
        return 0
    quiet = "--quiet" in flags
    if quiet and "--stats" not in flags:
        messages = Messages("run", wanted=False)  # without a descriptor that the program would see
    else:
        messages = Messages.beside_program("run", not quiet)
    follow, cached = "--follow-exec" in flags, "--no-cache" not in flags
    try:
        program = Program(command, follow_exec=follow, own_process=True, disk_cache=cached)
    except OSError as error:
        from pydbi.tools.loading import report_not_loaded

        return report_not_loaded(messages, error)
    return _execute(program, messages, flags)


def _execute(program: Program, messages: Messages, flags: frozenset[str]) -> NoReturn:
    """Run the program, and end this process as it has ended."""
    if "--progress" in flags:
        _show_progress(program, messages)
    program.on_fork(partial(_on_fork, messages))
    if "--stats" in flags:
        program.on_exit(lambda program, _: messages.write(f"pydbi run: {_stats(program)}\n"))
    status = program.run()
    if program.fault is not None:
        messages.say(first_line(program.fault))
    leave(status or 0)


def _on_fork(messages: Messages, _: Program, child: int) -> None:
    if child == 0:
        messages.leave_to_parent()


def _show_progress(program: Program, messages: Messages) -> None:
    """Show how far the program is while it computes."""
    from pydbi.tools.progress import Progress

    progress = Progress(messages)
    if not progress.shown:
        return

    def on_tick(program: Program) -> None:
        if progress.is_due():
            stats = program.vm.stats
            kept = f" and {stats.restored_blocks:,} kept ones" if stats.restored_blocks else ""
            progress.show(f"{stats.blocks:,} blocks translated{kept}")

    def on_fork(_: Program, child: int) -> None:
        if child == 0:
            progress.leave_to_parent()

    program.on_tick(on_tick)
    program.on_fork(on_fork)
    program.on_exit(lambda program, _: progress.end())
    for name in ("execve", "execveat"):  # another program has the terminal from there
        program.addSyscallCB(name, before=lambda vm, call: progress.hide())


def _stats(program: Program) -> str:
    """Return what the engine did, and what it did not."""
    counters = ", ".join(f"{name}={value}" for name, value in program.vm.stats.as_dict().items())
    refused = ", ".join(f"{name} ({count} times)" for name, count in program.refused.items())
    return counters + (f"; refused: {refused}" if refused else "")
