"""The exceptions."""

from __future__ import annotations

import pickle

import pytest

import pydbi

CASES = [
    (pydbi.PlatformError("no"), ImportError, None, b""),
    (pydbi.DecodeError(0x10, b"\x06", "not in 64-bit mode"), ValueError, 0x10, b"\x06"),
    (pydbi.UnsupportedInstruction(0x20, b"\xcb", "far return"), NotImplementedError, 0x20, b"\xcb"),
    (pydbi.GuestFault(11, 1, 0x30, 0x7, b"\x8a\x07"), RuntimeError, 0x30, b"\x8a\x07"),
    (pydbi.CacheError("full", app_address=0x40), MemoryError, 0x40, b""),
    (pydbi.ReentryError("run inside run"), RuntimeError, None, b""),
    (pydbi.GuestMemoryError("bad", address=0x50), OSError, None, b""),
]


@pytest.mark.parametrize(("error", "builtin", "address", "code"), CASES)
def test_each_error_is_also_a_builtin_one(
    error: pydbi.PydbiError, builtin: type, address: int | None, code: bytes
) -> None:
    """Each exception is of pydbi's and of a builtin kind, and knows what it is about."""
    assert isinstance(error, pydbi.PydbiError)
    assert isinstance(error, builtin)
    assert (error.app_address, error.code) == (address, code)


@pytest.mark.parametrize("error", [case[0] for case in CASES], ids=lambda e: type(e).__name__)
def test_errors_can_be_pickled(error: pydbi.PydbiError) -> None:
    """A pickled exception keeps its text and its fields (a process pool sends them so)."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_fault_says_what_and_where() -> None:
    """A fault names the signal, its reason, the instruction and the address it accessed."""
    fault = pydbi.GuestFault(11, 1, 0x401000, 0xDEAD, b"\x8a\x07")
    assert (fault.signal, fault.si_code, fault.fault_address) == (11, 1, 0xDEAD)
    for part in ("SIGSEGV", "address not mapped", "0x401000", "8a 07", "0xdead"):
        assert part in str(fault)
    assert "0x401000" in str(pydbi.GuestFault(4, 2, 0x401000, 0x401000))
    assert "signal 64 (si_code 9)" in str(pydbi.GuestFault(64, 9, 0x401000, 0))
