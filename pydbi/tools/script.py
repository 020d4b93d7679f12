"""Scripts that are executed inside a process that is not theirs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType

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
