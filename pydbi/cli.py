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

import pydbi

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


def _usage() -> str:
    lines = [f"  {name:10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m pydbi COMMAND ...",
            "",
            "commands:",
            *lines,
            "",
            "python -m pydbi COMMAND --help tells more; --version prints the version.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: what follows the program's name; by default what the process was started with.
    """
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or [""]
    if command in ("-h", "--help"):
        print(_usage())
        return 0
    if command == "--version":
        print(f"pydbi {pydbi.__version__}")
        return 0
    if command not in COMMANDS:
        problem = f"unknown command {command!r}" if command else "no command given"
        print(f"pydbi: error: {problem}; commands: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        status: int = importlib.import_module(COMMANDS[command][0]).main(rest)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone, as `head` does. Python flushes standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        print(f"pydbi {command}: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except pydbi.PydbiError as error:
        first_line = str(error).partition("\n")[0]
        print(f"pydbi {command}: {first_line}", file=sys.stderr)
        return 1
    return status
