"""The command line: ``python -m pydbi COMMAND ...``.

A command is a module of `pydbi.tools` with a function ``main(arguments) -> exit status``; it is
imported when it is asked for. What goes wrong is one line on standard error: exit status 2 for a
mistake in the command, 1 for a failure of what it runs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from errno import EDQUOT, EFBIG, EIO, ENOSPC

import pydbi
from pydbi.tools.messages import first_line, report

# Command name -> (module, one line of help).
COMMANDS = {
    "run": ("pydbi.tools.run", "run a program"),
    "attach": ("pydbi.tools.attach", "run a script inside a running process"),
    "preload": ("pydbi.preload", "run a program up to main, and a script for PyQBDIPreload"),
    "trace": ("pydbi.tools.trace", "print what a program or a library's function executes"),
    "count": ("pydbi.tools.count", "count what a program or a library's function executes"),
}

# What a shell reports for a program that a signal ended: 128 and the signal's number.
_EXIT_INTERRUPTED = 128 + 2
_EXIT_BROKEN_PIPE = 128 + 13
_DEPENDENCIES = ("capstone",)
_CANNOT_WRITE = frozenset({ENOSPC, EDQUOT, EFBIG, EIO})


def _usage() -> str:
    lines = [f"  {name:10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: pydbi COMMAND ...",
            "",
            "commands:",
            *lines,
            "",
            "pydbi COMMAND --help tells more; pydbi --version prints the version.",
            "Where pydbi is not installed as a command: python -m pydbi COMMAND ...",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: what follows the program's name; by default what the process was started with.
    """
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or [""]
    try:
        status = _run(command, rest)
        if sys.stdout is not None:  # as it is where descriptor 1 is closed
            sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has gone, as `head` does
        _drop_output()
        return _EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        report(command, "interrupted")
        return _EXIT_INTERRUPTED
    except pydbi.PydbiError as error:
        report(command, first_line(error))
        return 1
    except ModuleNotFoundError as error:
        if error.name not in _DEPENDENCIES:
            raise
        report(command, f"{error.name} is not installed: pip install {error.name}")
        return 1
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        _drop_output()
        report(command, f"cannot write to standard output: {error.strerror}")
        return 1


def _run(command: str, rest: list[str]) -> int:
    if command in ("-h", "--help"):
        print(_usage())
        return 0
    if command == "--version":
        print(f"pydbi {pydbi.__version__}")
        return 0
    if command not in COMMANDS:
        problem = f"unknown command {command!r}" if command else "no command given"
        report("", f"error: {problem}; commands: {', '.join(COMMANDS)} (--help tells more)")
        return 2
    status: int = importlib.import_module(COMMANDS[command][0]).main(rest)
    return status


def _drop_output() -> None:
    """Let Python write what is left to nowhere: it flushes standard output at its end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
