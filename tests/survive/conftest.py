"""Each test's body runs in a forked child, as in the conformance suite; ``qbdi`` is each engine."""

from __future__ import annotations

from tests.compat.conftest import guest, pytest_configure, pytest_pyfunc_call, qbdi

__all__ = ["guest", "pytest_configure", "pytest_pyfunc_call", "qbdi"]
