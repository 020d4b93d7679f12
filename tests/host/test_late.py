"""Modules that are imported while a guest runs: a signal handler's exception is not lost there."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from pydbi.host.late import load

RAISING = "import os, signal\nos.kill(os.getpid(), signal.SIGALRM)\nDONE = True\n"


def _time_out(number: int, frame: object) -> None:
    raise TimeoutError


def test_a_handler_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that raises an OSError while a module is imported runs behind that."""
    (tmp_path / "imported_late.py").write_text(RAISING)
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.signal(signal.SIGALRM, _time_out)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        with pytest.raises(TimeoutError):
            load("imported_late")
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
        assert sys.modules["imported_late"].DONE
        load("imported_late")  # it is there: nothing is executed
    finally:
        signal.signal(signal.SIGALRM, before)
        sys.modules.pop("imported_late", None)


def test_an_error_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an import raises comes out, and no signal stays blocked."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load("no_such_module")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
