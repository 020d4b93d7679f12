"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import child


@pytest.fixture(scope="session")
def run_in_child() -> Callable[..., str]:
    """`tests.child.run_in_child`; session-wide, so that hypothesis may use it in its examples."""
    return child.run_in_child
