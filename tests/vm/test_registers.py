"""The fields of the states: those beyond PyQBDI, and how they hang together."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

import pydbi


def test_vector_registers_overlap() -> None:
    """xmm and ymm are the two lowest quarters of zmm, for all 32 registers; parts can be set."""
    state = pydbi.FPRState()
    for n in range(32):
        value = bytes(range(n, n + 64))
        setattr(state, f"zmm{n}", value)
        assert getattr(state, f"xmm{n}") == value[:16]
        assert getattr(state, f"ymm{n}") == value[16:32]
        setattr(state, f"xmm{n}", b"ab")
        setattr(state, f"ymm{n}", b"c" * 40)
        assert getattr(state, f"zmm{n}") == b"ab" + value[2:16] + b"c" * 16 + value[32:]
    assert state.k7 == 0
    state.k7 = (1 << 64) - 1
    assert (state.k6, state.k7) == (0, (1 << 64) - 1)
    for name, value in (("zmm5", "text"), ("zmm5", bytearray(64)), ("k0", -1), ("k0", 1 << 64)):
        with pytest.raises(TypeError):
            setattr(state, name, value)
    with pytest.raises(AttributeError):
        state.zmm32 = bytes(64)  # type: ignore[attr-defined]


def test_x87_pointers_have_two_forms() -> None:
    """fip and fdp are the 64-bit forms of ip and cs, dp and ds (SDM vol. 2, FXSAVE)."""
    state = pydbi.FPRState()
    state.fip, state.fdp = 0x1122_3344_5566_7788, 0x99AA_BBCC_DDEE_FF00
    assert (state.ip, state.cs) == (0x5566_7788, 0x3344)
    assert (state.dp, state.ds) == (0xDDEE_FF00, 0xBBCC)
    state.ip = state.cs = 1
    assert state.fip == 0x1122_0001_0000_0001


def test_text_shows_what_is_beyond_pyqbdi_if_it_is_used() -> None:
    """Without AVX-512 state the text is PyQBDI's; else the lines of zmm and k are added."""
    pyqbdi = pytest.importorskip("pyqbdi")
    texts = []
    for module in (pydbi, pyqbdi):
        state = module.FPRState()
        state.xmm3, state.ymm3, state.stmm2.st = b"low", b"high", b"\x01\x02"
        state.rfcw, state.mxcsr, state.ip, state.ds = 0x37F, 0x1F80, 0x1234, 7
        texts.append(str(state))
    assert texts[0] == texts[1]
    state = pydbi.FPRState()
    before = str(state).splitlines()
    state.zmm2, state.zmm20, state.k3 = bytes(63) + b"\x01", b"\x05", 0xFF
    added = [line for line in str(state).splitlines() if line not in before]
    assert added == [
        "zmm2  : 0x01" + "00" * 63,
        "zmm20 : 0x" + "00" * 63 + "05",
        "k3    : 0x00000000000000ff",
    ]


def test_guest_is_told_what_a_switch_may_not_restore() -> None:
    """on_write is called for registers that not every switch saves, in any way of setting them."""
    state = pydbi.FPRState()
    told = []
    state.on_write = lambda: told.append(1)

    def count(change: Callable[[], object]) -> int:
        told.clear()
        change()
        return len(told)

    register = pydbi.MMSTReg()
    for rare in (
        lambda: setattr(state, "ymm0", b""),
        lambda: setattr(state, "zmm0", b""),
        lambda: setattr(state, "xmm16", b""),
        lambda: setattr(state, "k0", 1),
        lambda: setattr(state, "rfcw", 1),
        lambda: setattr(state, "rfsw", 1),
        lambda: setattr(state, "ftw", 1),
        lambda: setattr(state, "stmm0", register),
        lambda: setattr(state.stmm0, "st", b"a"),
        lambda: setattr(state.fcw, "pc", 1),
        lambda: setattr(state.fsw, "tos", 1),
    ):
        assert count(rare) == 1
    for common in (
        lambda: setattr(state, "xmm0", b""),
        lambda: setattr(state, "mxcsr", 1),
        lambda: setattr(register, "st", b"a"),
    ):
        assert count(common) == 0


def test_views_are_the_state() -> None:
    """A view of an x87 word or register is that of the state, and keeps it alive."""
    state = pydbi.FPRState()
    word, register = state.fcw, state.stmm7
    assert (word, register) == (state.fcw, state.stmm7)
    assert len({word, state.fcw, state.fsw, pydbi.FPControl()}) == 3
    assert word != pydbi.FPRState().fcw
    word.rc, register.st = 2, b"text"
    assert (state.rfcw, state.stmm7.st) == (0x800, b"text" + bytes(6))
    other = copy.copy(state)
    other.fcw.rc = 1
    assert word.rc == 2
    del state
    assert (word.rc, register.st[:4]) == (2, b"text")


def test_pickle_of_something_else_is_refused() -> None:
    """A state does not take bytes of another size or architecture."""
    state = pydbi.GPRState()
    for content in (("X86_64", b"short"), ("AARCH64", bytes(160))):
        with pytest.raises(ValueError, match="are no GPRState"):
            state.__setstate__(content)
