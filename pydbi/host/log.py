"""PyQBDI's log priorities on top of the standard library's logging."""

from __future__ import annotations

from pydbi.types import LogPriority


def setLogPriority(priority: LogPriority) -> None:
    """Let the logger ``pydbi`` pass messages of *priority* and above.

    Raises:
        TypeError: *priority* is not a `LogPriority`.
    """
    if not isinstance(priority, LogPriority):
        raise TypeError(f"priority must be a LogPriority, not {priority!r}")
    import logging  # here, because importing it takes longer than the rest of pydbi

    levels = {
        LogPriority.DEBUG: logging.DEBUG,
        LogPriority.INFO: logging.INFO,
        LogPriority.WARNING: logging.WARNING,
        LogPriority.ERROR: logging.ERROR,
        LogPriority.DISABLE: logging.CRITICAL + 1,
    }
    logging.getLogger("pydbi").setLevel(levels[priority])
