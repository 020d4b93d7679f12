"""Running a function in a forked child: as crash-safe as `tests.child`, without a new interpreter.

The tests here run generated code in some hundred children; starting Python and importing the
engines for each would take longer than all of them together.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

import pytest

with contextlib.suppress(ImportError):
    import pyqbdi  # noqa: F401  # children then need not load it

import pydbi  # noqa: F401


def run_forked(
    function: Callable[..., Any], *arguments: object, timeout: float = 120, status: int = 0
) -> str:
    """Call *function* with *arguments* in a forked child and return what it printed.

    Fails the calling test, with the child's output, if it raises, crashes or hangs.
    """
    with tempfile.TemporaryFile() as output:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _be_the_child(function, arguments, output)
        code = _wait(child, timeout)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if code is None:
        pytest.fail(f"the child ran longer than {timeout} s\n{text}")
    if code != status:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        pytest.fail(f"the child: {how}, not {status}\n{text}")
    return text


def _be_the_child(
    function: Callable[..., Any], arguments: tuple[object, ...], output: BinaryIO
) -> NoReturn:
    status = 1
    try:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        faulthandler.enable(file=2)
        warnings.resetwarnings()
        sys.unraisablehook = sys.__unraisablehook__
        gc.collect()
        function(*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int, timeout: float) -> int | None:
    """Return how the child ended, or None if it had to be killed."""
    limit = time.monotonic() + timeout
    delay = 0.001
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(delay)
        delay = min(delay * 1.5, 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
