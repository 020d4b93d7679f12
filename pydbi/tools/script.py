"""Scripts that are executed inside a process that is not theirs."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

import pydbi

_OWN = os.path.join(os.path.dirname(os.path.abspath(pydbi.__file__)), "")
_kept: list[ModuleType] = []
"""Their functions are called as long as the process lives."""


def execute_script(path: str, arguments: Sequence[str]) -> ModuleType:
    """Execute a script with ``__name__ == "__main__"`` and return its module.

    Args:
        path: the file.
        arguments: `sys.argv`.

    Raises:
        OSError: it cannot be read.
        BaseException: what it raises.
    """
    script = ModuleType("__main__")
    script.__dict__.update(__file__=path, __builtins__=__builtins__)
    _kept.append(script)
    sys.argv = list(arguments)
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what the process prints comes in between
            stream.reconfigure(line_buffering=True)
    with open(path, "rb") as file:
        source = file.read()
    exec(compile(source, path, "exec"), script.__dict__)
    return script


def failure(error: BaseException) -> str:
    """Return an exception that a script has raised as a traceback of the script's own lines.

    What pydbi does between them is left out.
    """
    shown = traceback.TracebackException.from_exception(error)
    seen: set[int] = set()
    pending: list[traceback.TracebackException | None] = [shown]
    while pending:
        one = pending.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            theirs = [line for line in one.stack if not line.filename.startswith(_OWN)]
            one.stack = traceback.StackSummary.from_list(theirs)
            pending += [one.__cause__, one.__context__]
    return "".join(shown.format())
