"""The helper that runs code in a child process."""

from __future__ import annotations

import pytest

from tests.child import run_in_child

FAILED = pytest.fail.Exception


def show(number: int, text: str) -> None:
    """Print what was given; runs in the child."""
    import sys

    print(number, text)
    sys.exit(3)


def test_function_with_arguments() -> None:
    """A function runs in the child with its arguments, and its output comes back."""
    assert run_in_child(show, 1, "two", status=3) == "1 two\n"


def test_crash_is_a_failure_with_the_output() -> None:
    """A child killed by a signal fails the test with the signal and what it printed."""
    crash = "import ctypes; print('before', flush=True); ctypes.string_at(16)"
    with pytest.raises(FAILED, match=r"(?s)killed by SIGSEGV.*before.*Segmentation fault"):
        run_in_child(crash)


def test_unexpected_status_is_a_failure() -> None:
    """A child that ends with another status than expected fails the test."""
    with pytest.raises(FAILED, match="exit status 1, not 0"):
        run_in_child("raise ValueError")


def test_hanging_child_is_a_failure() -> None:
    """A child that runs too long is killed and fails the test."""
    with pytest.raises(FAILED, match=r"longer than 0\.5 s"):
        run_in_child("import time; time.sleep(60)", timeout=0.5)
