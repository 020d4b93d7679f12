"""The other end of ``pydbi attach``: what runs in the process that was attached to."""

from __future__ import annotations

import ctypes
from typing import Any

from pydbi.tools.script import execute_script, failure

_reports: list[Any] = []
"""They are read from outside, some time later."""


def run_script(path: str, arguments: list[str], report: int) -> None:
    """Execute a script in this process.

    Args:
        arguments: what follows the script's name in `sys.argv`.
        report: address of two words; they get the address and the size of a traceback if the script
            ends with an exception.
    """
    try:
        execute_script(path, [path, *arguments])
    except SystemExit as end:
        if end.code not in (None, 0):
            _report(report, f"the script has ended with {end.code!r}")
    except BaseException as error:
        _report(report, failure(error))


def _report(place: int, text: str) -> None:
    data = text.encode(errors="replace")
    buffer = ctypes.create_string_buffer(data, len(data))
    _reports.append(buffer)
    words = (ctypes.c_uint64 * 2).from_address(place)
    words[1] = len(data)
    words[0] = ctypes.addressof(buffer)
