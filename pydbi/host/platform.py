"""Whether this machine and this Python can run pydbi at all."""

from __future__ import annotations

import os
import sys

from pydbi.errors import PlatformError


def check_platform() -> None:
    """Return if this is a 64-bit Python on x86-64 Linux.

    Raises:
        PlatformError: it is something else; the message says what.
    """
    # sys.platform and os.uname, and not the platform module: that one costs milliseconds.
    machine = os.uname().machine if hasattr(os, "uname") else "an unknown processor"
    bits = sys.maxsize.bit_length() + 1
    if not (sys.platform == "linux" and machine == "x86_64" and bits == 64):
        raise PlatformError(
            "pydbi runs on x86-64 Linux with a 64-bit Python; "
            f"this is a {bits}-bit Python on {sys.platform}, {machine}"
        )
