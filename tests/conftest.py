"""Fixtures for all tests."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable

import hypothesis
import pytest

from tests import child

if "PYDBI_CACHE" not in os.environ:  # of the tests' own, empty at first
    os.environ["PYDBI_CACHE"] = tempfile.mkdtemp(prefix="pydbi-cache-")
    atexit.register(shutil.rmtree, os.environ["PYDBI_CACHE"], ignore_errors=True)

# A change is checked with examples that are always the same; at other times they are new.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session")
def run_in_child() -> Callable[..., str]:
    """`tests.child.run_in_child`; session-wide, so that hypothesis may use it in its examples."""
    return child.run_in_child
