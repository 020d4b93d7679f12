"""What becomes of PyQBDI and of pydbi, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.compat.harness import either, fate

_HANGS, _PATIENCE = 0.5, 10.0
"""Seconds to wait for what is known to hang, and for what is not: the machine may be busy."""


def check_fate(
    qbdi: Any, function: Callable[[], Any], *, pyqbdi: str, right: str, reason: str
) -> None:
    """Call *function* in a child and assert how that ends: as *pyqbdi* on PyQBDI, else as *right*.

    Both are what `harness.fate` returns; *reason* says what is wrong with PyQBDI. Where that
    is up to chance, *pyqbdi* has several, with ``or`` between them.
    """
    expected = either(qbdi, pyqbdi=pyqbdi, right=right, reason=reason)
    patience = _HANGS if expected == "hangs" else _PATIENCE
    assert fate(function, timeout=patience) in expected.split(" or ")
