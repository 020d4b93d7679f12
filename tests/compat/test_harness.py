"""The harness: what `fate` says of a process, and that labels and addresses are as promised."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import BASE, Guest, either, fate, wrong


def raise_key_error() -> None:
    raise KeyError


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (int, ("5",), "lives"), (raise_key_error, (), "raises KeyError"),
        (os._exit, (3,), "exit 3"),
        (os.abort, (), "SIGABRT"), (time.sleep, (60,), "hangs"),
    ],
    ids=["lives", "raises", "exit", "signal", "hangs"],
)  # fmt: skip
def test_fates(function: Callable[..., Any], arguments: Any, expected: str) -> None:
    """Each way in which a call can end has its word."""
    assert fate(function, *arguments, timeout=0.2) == expected


def test_fate_leaves_this_process_alone() -> None:
    """What happens in the fork stays there."""
    values = [1]
    assert fate(values.append, 2) == "lives"
    assert values == [1]
    assert fate(os.kill, os.getppid(), 0) == "lives"
    assert fate(signal.raise_signal, signal.SIGSEGV) == "SIGSEGV"


def test_deviations(qbdi: Any) -> None:
    """On PyQBDI a deviation is what it really does, on pydbi what is right."""
    theirs = qbdi.__name__ == "pyqbdi"
    assert wrong(qbdi, "an example") is theirs
    assert either(qbdi, pyqbdi=1, right=2, reason="an example") == (1 if theirs else 2)


def test_guest(guest: Callable[..., Guest]) -> None:
    """Code lies at BASE, between the labels start and end, and ret follows it."""
    g = guest("inc rax\nb: inc rax; c: nop")
    assert g.labels == {"start": BASE, "b": BASE + 3, "c": BASE + 6, "end": BASE + 7}
    assert g.qbdi.readMemory(BASE, 9) == b"\x48\xff\xc0\x48\xff\xc0\x90\xc3\xc3"
    assert (g.get("rsp"), g.data) == (g.stack_top, BASE + 0x8000)
