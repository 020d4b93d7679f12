"""Modules that are imported while a guest runs: a signal handler's exception is not lost there."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
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


def test_a_handler_that_raises_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes just when signals are blocked is raised, and they do not stay blocked."""
    block = signal.pthread_sigmask
    blocked = block(signal.SIG_BLOCK, [])

    def block_and_raise(how: int, signals: Iterable[int]) -> set[int]:
        before = block(how, signals)
        if how == signal.SIG_BLOCK and signals:
            raise TimeoutError
        return before

    monkeypatch.setattr(signal, "pthread_sigmask", block_and_raise)
    with pytest.raises(TimeoutError):
        load("no_such_module")
    assert block(signal.SIG_BLOCK, []) == blocked


def test_an_error_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an import raises comes out, and no signal stays blocked."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load("no_such_module")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
