"""FPRState as an object: words, vectors, the x87 registers, copies, text."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import wrong

pytestmark = pytest.mark.in_parent


LARGEST = (1 << 64) - 1
COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda state: pickle.loads(pickle.dumps(state)),
}
NUMBERS = {
    # bits of the field
    "rfcw": 16, "rfsw": 16, "ftw": 8, "fop": 16, "ip": 32, "cs": 16, "dp": 32, "ds": 16,
    "mxcsr": 32, "mxcsrmask": 32,
}  # fmt: skip
VECTORS = [f"{kind}{n}" for kind in ("xmm", "ymm") for n in range(16)]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_the_floating_point_state(qbdi: Any, name: str) -> None:
    """Each is 0 at first and takes what fits in its bits."""
    state = qbdi.FPRState()
    assert getattr(state, name) == 0
    largest = (1 << NUMBERS[name]) - 1
    for value in (1, largest):
        setattr(state, name, value)
        assert getattr(state, name) == value
    for value in (largest + 1, -1, 1.0, b"1", None):
        with pytest.raises(TypeError):
            setattr(state, name, value)
    assert getattr(state, name) == largest
    assert [other for other in NUMBERS if getattr(state, other)] == [name]


@pytest.mark.parametrize("kind", ["xmm", "ymm"])
def test_vector_registers(qbdi: Any, kind: str) -> None:
    """Each is 16 bytes: xmm the lower half of the register, ymm the upper one."""
    for name in (name for name in VECTORS if name.startswith(kind)):
        state = qbdi.FPRState()
        assert getattr(state, name) == bytes(16)
        setattr(state, name, bytes(range(1, 17)))
        assert getattr(state, name) == bytes(range(1, 17))
        assert type(getattr(state, name)) is bytes
        assert [other for other in VECTORS if getattr(state, other) != bytes(16)] == [name]


@pytest.mark.parametrize("name", ["xmm0", "ymm0", "xmm15", "ymm15"])
def test_short_and_long_vector_values(qbdi: Any, name: str) -> None:
    """Less than 16 bytes replace the low part, and more are cut."""
    state = qbdi.FPRState()
    setattr(state, name, b"0123456789abcdef")
    setattr(state, name, b"XY")
    assert getattr(state, name) == b"XY23456789abcdef"
    setattr(state, name, b"")
    assert getattr(state, name) == b"XY23456789abcdef"
    setattr(state, name, b"q" * 40)
    assert getattr(state, name) == b"q" * 16
    assert [other for other in VECTORS if getattr(state, other) != bytes(16)] == [name]


@pytest.mark.parametrize("name", ["xmm0", "ymm15"])
def test_what_is_no_vector(qbdi: Any, name: str) -> None:
    """Vectors are bytes; else TypeError."""
    state = qbdi.FPRState()
    for value in (5, None, "text", [1], 1.5):
        with pytest.raises(TypeError):
            setattr(state, name, value)
    assert getattr(state, name) == bytes(16)


@pytest.mark.parametrize("number", range(8))
def test_x87_registers(qbdi: Any, number: int) -> None:
    """stmmN is an MMSTReg in the state: ten bytes; short values replace the low part."""
    state = qbdi.FPRState()
    register = getattr(state, f"stmm{number}")
    assert type(register) is qbdi.MMSTReg
    assert register.st == bytes(10)
    register.st = b"123456789012"
    assert getattr(state, f"stmm{number}").st == register.st == b"1234567890"
    register.st = b"ab"
    assert register.st == b"ab34567890"
    others = [getattr(state, f"stmm{n}").st for n in range(8) if n != number]
    assert others == [bytes(10)] * 7


@pytest.mark.parametrize("value", [5, None, "text"])
def test_what_is_no_x87_register(qbdi: Any, value: object) -> None:
    """Its bytes are bytes; else TypeError."""
    with pytest.raises(TypeError):
        qbdi.MMSTReg().st = value


def test_x87_register_is_assigned(qbdi: Any) -> None:
    """A register of its own can be assigned, which copies it; bytes cannot."""
    state, register = qbdi.FPRState(), qbdi.MMSTReg()
    register.st = b"0123456789"
    state.stmm3 = register
    register.st = b"x"
    assert state.stmm3.st == b"0123456789"
    with pytest.raises(TypeError):
        state.stmm3 = b"0123456789"


CONTROL = {"invalid": 0, "denorm": 1, "zdiv": 2, "ovrfl": 3, "undfl": 4, "precis": 5}
STATUS = {**CONTROL, "stkflt": 6, "errsumm": 7, "c0": 8, "c1": 9, "c2": 10, "c3": 14, "busy": 15}


FIELDS = {
    # field: its lowest bit, its size in bits
    "fcw": {**{name: (bit, 1) for name, bit in CONTROL.items()}, "pc": (8, 2), "rc": (10, 2)},
    "fsw": {**{name: (bit, 1) for name, bit in STATUS.items()}, "tos": (11, 3)},
}


@pytest.mark.parametrize("word", FIELDS)
def test_bit_fields(qbdi: Any, word: str) -> None:
    """A field of the control or status word is these bits of it; what does not fit is cut."""
    for field, (low, bits) in FIELDS[word].items():
        state = qbdi.FPRState()
        fields = getattr(state, word)
        largest = (1 << bits) - 1
        setattr(fields, field, largest)
        assert (field, getattr(state, "r" + word)) == (field, largest << low)
        assert getattr(getattr(state, word), field) == largest
        setattr(fields, field, largest + 1)
        assert getattr(state, "r" + word) == 0
        setattr(state, "r" + word, 0xFFFF)
        assert getattr(fields, field) == largest


def test_words_are_assigned(qbdi: Any) -> None:
    """fcw and fsw can be set to an FPControl and an FPStatus, which are copied."""
    state, control, status = qbdi.FPRState(), qbdi.FPControl(), qbdi.FPStatus()
    control.rc, status.tos = 2, 5
    state.fcw, state.fsw = control, status
    assert (state.rfcw, state.rfsw) == (0x800, 0x2800)
    control.rc = 1
    assert state.fcw.rc == 2
    for name in ("fcw", "fsw"):
        with pytest.raises(TypeError):
            setattr(state, name, 5)


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_the_floating_point_state(qbdi: Any, how: str) -> None:
    """A copy has the same values and stands alone."""
    state = qbdi.FPRState()
    state.rfcw, state.mxcsr, state.ftw = 0x37F, 0x1F80, 3
    state.xmm0, state.ymm15, state.stmm2.st = b"x" * 16, b"y" * 16, b"z" * 10
    other = COPIES[how](state)
    assert type(other) is qbdi.FPRState
    assert (other.rfcw, other.mxcsr, other.ftw) == (0x37F, 0x1F80, 3)
    assert (other.xmm0, other.ymm15, other.stmm2.st) == (b"x" * 16, b"y" * 16, b"z" * 10)
    other.xmm0, other.rfcw = b"w" * 16, 0
    assert (state.xmm0, state.rfcw) == (b"x" * 16, 0x37F)


def test_text_of_the_floating_point_state(qbdi: Any) -> None:
    """str shows the fields in hexadecimal, vectors as one number, ymm with both halves."""
    state = qbdi.FPRState()
    state.rfcw, state.ftw, state.mxcsr, state.ip = 0x37F, 0xC0, 0x1F80, 0x1234
    state.stmm1.st = bytes(range(10))
    state.xmm2, state.ymm2 = bytes(range(16)), bytes(range(16, 32))
    lines = str(state).splitlines()
    assert (lines[0], lines[-1]) == ("=== FPRState begin ===", "=== FPRState end ===")
    for line in (
        "rfcw  : 0x037f",
        "rfsw  : 0x0000",
        "ftw   : 0xc0",
        "ip    : 0x00001234",
        "cs    : 0x0000",
        "mxcsr : 0x00001f80",
        "stmm1 : 0x09080706050403020100",
        "xmm2  : 0x0f0e0d0c0b0a09080706050403020100",
        "ymm2  : 0x1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100",
        "ymm15 : 0x" + "00" * 32,
    ):
        assert line in lines


def test_wide_vector_registers(qbdi: Any) -> None:
    """pydbi's zmm is the whole register, xmm and ymm its two low quarters; k0 to k7 are masks."""
    state = qbdi.FPRState()
    if wrong(qbdi, "it has no AVX-512 state"):
        assert not hasattr(state, "zmm0")
        return
    state.zmm1, state.zmm31, state.k7 = bytes(range(64)), b"z" * 64, LARGEST
    assert (state.xmm1, state.ymm1) == (bytes(range(16)), bytes(range(16, 32)))
    state.xmm1, state.ymm1 = b"x" * 16, b"y" * 16
    assert state.zmm1 == b"x" * 16 + b"y" * 16 + bytes(range(32, 64))
    assert (state.zmm31, state.k7, state.k0) == (b"z" * 64, LARGEST, 0)
