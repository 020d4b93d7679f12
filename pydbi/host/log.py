"""PyQBDI's log priorities on top of the standard library's logging.

logging is imported where it is used: that takes longer than the rest of pydbi.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydbi.host.late import load
from pydbi.types import LogPriority

if TYPE_CHECKING:
    from logging import Logger


def logger() -> Logger:
    """Return the logger ``pydbi``, to which all of pydbi's messages go."""
    load("logging")
    import logging

    return logging.getLogger("pydbi")


def setLogPriority(priority: LogPriority) -> None:
    """Let the logger ``pydbi`` pass messages of *priority* and above; beyond ERROR there are none.

    Raises:
        TypeError: *priority* is not a `LogPriority`.
    """
    if not isinstance(priority, LogPriority):
        raise TypeError(f"priority must be a LogPriority, not {priority!r}")
    import logging

    levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
    number = int(priority)
    logger().setLevel(levels[number] if number < len(levels) else logging.CRITICAL + 1)
