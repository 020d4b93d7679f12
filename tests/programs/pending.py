"""What does not run under pydbi as it does natively, yet: each entry is an expected failure.

Entries are by the name of a case, or of a case and one mode: ``name: run --follow-exec``.
"""

from __future__ import annotations

from tests.programs.harness import Mode

PENDING: dict[str, str] = {}
"""Fails always. An entry that starts to pass fails the tests until it is taken out."""

INTERMITTENT: dict[str, str] = {}
"""Fails in some runs: it may pass."""


def reason(name: str, mode: Mode) -> str | None:
    """Say why the case *name* may fail in *mode*; None: it must pass."""
    if mode is Mode.AGAIN:
        return None
    known = PENDING | INTERMITTENT
    return known.get(f"{name}: {mode.value}", known.get(name))


def is_certain(name: str, mode: Mode) -> bool:
    """Tell whether the case fails always."""
    return name in PENDING or f"{name}: {mode.value}" in PENDING
