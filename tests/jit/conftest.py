"""Tests of this folder run their children by `fork`; what they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pydbi.jit.cache import CodeCache
from tests.vm.forked import run_forked


@pytest.fixture(scope="session")
def run_in_child() -> Callable[..., str]:
    """`tests.vm.forked.run_forked`, in place of the fixture that starts a new interpreter."""
    return run_forked


@pytest.fixture
def cache() -> Iterator[CodeCache]:
    """A small code cache with one arena."""
    made = CodeCache(1 << 20)
    here = made.records_address
    made.arena_for(here, here, here + 1)
    yield made
    made.close()
