"""Tests of this folder run their children by `fork`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.vm.forked import run_forked


@pytest.fixture(scope="session")
def run_in_child() -> Callable[..., str]:
    """`tests.vm.forked.run_forked`, in place of the fixture that starts a new interpreter."""
    return run_forked
