"""x87, SSE and AVX registers: what callbacks see of them, and that what they set counts."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import Guest, at, either, wrong
from tests.exec.native_runner import vector_level

Make = Callable[..., Guest]

AVX = pytest.mark.skipif(vector_level() < 1, reason="this CPU has no AVX")


@pytest.mark.parametrize(
    ("kind", "move", "size"),
    [("xmm", "movups", 16), pytest.param("ymm", "vmovups", 32, marks=AVX)],
)
def test_vector_registers(guest: Make, kind: str, move: str, size: int) -> None:
    """A register (of ymm: its upper half) is seen, can be set in a callback, and comes out."""
    lines = [
        f"""
        {move} {kind}{n}, [rip + data + {n}]
        b{n}: {move} [rip + data + {64 + 32 * n}], {kind}{n}"""
        for n in range(16)
    ]
    g = guest("\n".join(lines))
    g.write(0, bytes(range(64)))
    values = [bytes([n + 100]) * 16 for n in range(16)]
    names = [f"{kind}{n}" for n in range(16)]
    logs = []
    for n, (name, value) in enumerate(zip(names, values, strict=True)):
        logs.append(at(g, f"b{n}", lambda gpr, fpr, name=name: getattr(fpr, name)))
        at(g, f"b{n}", lambda gpr, fpr, name=name, value=value: setattr(fpr, name, value))
    assert g.run()
    for n in range(16):
        loaded = bytes(range(n, n + size))
        assert logs[n] == [loaded[-16:]]
        assert g.read(64 + 32 * n, size) == loaded[:-16] + values[n]
        assert getattr(g.vm.getFPRState(), names[n]) == values[n]


@AVX
def test_vectors_go_in(guest: Make) -> None:
    """Vector registers set before a run are the guest's."""
    g = guest("vmovups [rip + data], ymm5; vzeroupper")
    fpr = g.vm.getFPRState()
    fpr.xmm5, fpr.ymm5 = b"x" * 16, b"y" * 16
    assert g.run()
    assert g.read(0, 32) == b"x" * 16 + b"y" * 16
    assert (fpr.xmm5, fpr.ymm5) == (b"x" * 16, bytes(16))


def test_floating_point_argument_and_result(guest: Make) -> None:
    """A double goes in and comes out in xmm0."""
    g = guest("addsd xmm0, xmm0; ret")
    g.vm.getFPRState().xmm0 = struct.pack("<d", 1.25)
    assert g.vm.call(g.base, [])[0] is True
    assert struct.unpack("<d", g.vm.getFPRState().xmm0[:8]) == (2.5,)


X87 = """
    fninit; fld1; fldpi
    b: fldcw [rip + data]
    c: fstp qword ptr [rip + data + 8]
    d: fstp st(0)"""
PI, ONE = "35c26821a2da0fc90040", "0000000000000080ff3f"


def test_x87_state_is_seen(guest: Make) -> None:
    """Control word, top of stack, tags and registers, in the order of the stack."""
    g = guest(X87 + "\ne: nop")
    g.write(0, b"\x7f\x0c")  # rounding towards zero

    def look(gpr: Any, fpr: Any) -> Any:
        return fpr.rfcw, fpr.fsw.tos, fpr.ftw, fpr.stmm0.st.hex(), fpr.stmm1.st.hex()

    logs = [at(g, label, look) for label in "bcde"]
    assert g.run()
    assert [log[0][:4] for log in logs] == [
        (0x37F, 6, 0xC0, PI), (0xC7F, 6, 0xC0, PI), (0xC7F, 7, 0x80, ONE), (0xC7F, 0, 0, "00" * 10)
    ]  # fmt: skip
    assert logs[0][0][4] == ONE
    assert struct.unpack("<d", g.read(8, 8)) == (3.141592653589793,)


def test_x87_state_can_be_set(guest: Make) -> None:
    """A register of the stack, and the rounding mode, set by a callback."""
    g = guest("fninit; fld1\nb: fistp qword ptr [rip + data]")

    def change(gpr: Any, fpr: Any) -> None:
        fpr.stmm0.st = struct.pack("<QH", 0xF << 60, 0x4000)  # 3.75
        fpr.fcw.rc = 3

    at(g, "b", change)
    assert g.run()
    assert g.read(0, 8) == (3).to_bytes(8, "little")
    assert g.vm.getFPRState().rfcw == 0xF7F


def test_mxcsr_goes_in_and_comes_out(guest: Make) -> None:
    """The rounding mode is the guest's, and its exception flags are seen afterwards."""
    g = guest("divsd xmm0, xmm1")
    fpr = g.vm.getFPRState()
    fpr.mxcsr = 0x7F80  # towards zero
    fpr.xmm0, fpr.xmm1 = struct.pack("<d", 1.0), struct.pack("<d", -3.0)
    assert g.run()
    assert fpr.xmm0[:8].hex() == "555555555555d5bf"
    assert fpr.mxcsr == 0x7FA0


def test_mxcsr_in_callbacks(guest: Make, qbdi: Any) -> None:
    """A callback sees the mxcsr that the guest loaded."""
    g = guest("ldmxcsr [rip + data]\nb: nop\nc: stmxcsr [rip + data + 8]")
    g.write(0, (0x3F80).to_bytes(4, "little"))
    seen = at(g, "b", lambda gpr, fpr: fpr.mxcsr)
    assert g.run()
    assert seen == [either(qbdi, pyqbdi=0x1F80, right=0x3F80, reason="ldmxcsr loads the host's")]
    if not wrong(qbdi, "the state keeps the old value"):
        assert g.vm.getFPRState().mxcsr == 0x3F80
        assert g.read(8, 4) == (0x3F80).to_bytes(4, "little")


def test_rounding_mode_of_python(guest: Make) -> None:
    """Python computes as ever in callbacks of a guest with another rounding mode."""
    g = guest("nop\nb: nop")
    g.vm.getFPRState().mxcsr = 0x7F80
    seen = at(g, "b", lambda gpr, fpr: -1.0 / 3.0 + len("x") * 0.0)
    assert g.run()
    assert seen == [-0.3333333333333333]
    assert g.vm.getFPRState().mxcsr == 0x7F80
