"""System calls as the kernel makes them: raw words in, a result or -errno out."""

from __future__ import annotations

import ctypes
import sys

from pydbi.host.libc import libc

LOWEST_ERROR = -4095
"""Results from here to -1 are errors; see the kernel's IS_ERR_VALUE."""
_PADDING = ((0,) * 6, (0,) * 5, (0,) * 4, (0,) * 3, (0,) * 2, (0,), ())
_errno, _syscall = ctypes.get_errno, libc.syscall


def call(number: int, *arguments: int) -> int:
    """Make a system call with up to six arguments and return its result, or -errno.

    The interpreter lock is released meanwhile. Arguments are taken modulo 2**64.
    """
    result: int = _syscall(number, *arguments, *_PADDING[len(arguments)])
    return -_errno() if result == -1 else result


def note(message: str, *values: object) -> None:
    """Log *message* at level INFO, if somebody has asked for messages.

    Who has not imported logging cannot have; importing it takes longer than starting most programs.
    """
    if "logging" in sys.modules:
        from pydbi.host.log import logger

        logger().info(message, *values)
