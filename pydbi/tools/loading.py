"""Programs that cannot be loaded: what is said, and the exit status."""

from __future__ import annotations

import errno

from pydbi.program import ProgramError
from pydbi.tools.messages import Messages

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
"""Exit statuses, as shells have them."""


def report_not_loaded(messages: Messages, error: OSError) -> int:
    """Say why a program cannot be loaded, and return the exit status."""
    text = str(error)
    if not isinstance(error, ProgramError):
        text = f"the program cannot be loaded: {error.strerror}"
        if error.errno == errno.ENOMEM:
            text += "; is the address space limited (ulimit -v)?"
    messages.write(f"pydbi {messages.command}: {text}\n")
    return _NOT_FOUND if error.errno == errno.ENOENT else _NOT_EXECUTABLE
