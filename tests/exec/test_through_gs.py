"""Memory through GS, which the engine uses itself: what FS does natively is what it must do.

Faults come at the first element of a repetition, in the middle, or in the other operand.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.exec.native_runner import cpu_flags

Child = Callable[..., str]

pytestmark = pytest.mark.skipif("fsgsbase" not in cpu_flags(), reason="it sets FS and GS bases")

_STRINGS = [
    f"{prefix} {operation}{size}"
    for size in "bq"
    for operation, prefixes in (
        ("lods", ("", "rep")),
        ("movs", ("", "rep", "repne")),
        ("cmps", ("", "repe", "repne")),
    )
    for prefix in prefixes
]
_PLACES = {
    # name: (offset of the source, offset of the target, count, direction)
    "none": (0x100, 0x200, 0, "cld"),
    "whole": (0x108, 0x108 + 0x800, 40, "cld"),
    "backward": (0x400, 0x600, 9, "std"),
    "first faults": (0x1000, 0x200, 5, "cld"),
    "source ends": (0xFF0, 0x7F0, 40, "cld"),
    "target ends": (0x200, 0xFF0, 40, "cld"),
    "begins": (0x10, 0x810, 40, "std"),
}
"""The second half of a page is as the first: an equal comparison goes on."""


@pytest.mark.parametrize("callbacks", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
def test_strings(run_in_child: Child, narrow: bool, callbacks: bool) -> None:
    """Every string instruction, whole or faulting; 32-bit addresses with garbage above them."""

    def child(
        strings: list[str],
        places: dict[str, tuple[int, int, int, str]],
        narrow: bool,
        callbacks: bool,
    ) -> None:
        from tests.exec.through_gs import HIGH, LOW, ThroughGs

        scene = ThroughGs(callbacks)
        faulted = 0
        for source, target, count, direction in places.values():
            for text in strings:
                high = 0xABCD << 32 if narrow else 0
                registers = {"rax": HIGH - 0x70000000, "rsi": 0x70000000 + source + high,
                             "rdi": LOW + target + high, "rcx": count + high}  # fmt: skip
                prefix = ".byte GS, 0x67" if narrow else ".byte GS"
                faulted += scene.compare(f"{direction}; {prefix}; {text}; cld", registers)
        assert faulted > 15

    run_in_child(child, _STRINGS, _PLACES, narrow, callbacks)


def test_fault_in_the_middle(run_in_child: Child) -> None:
    """rsi, rdi, rcx and the fault's address when some elements have been moved."""

    def child() -> None:
        from tests.exec.through_gs import HIGH, LOW, ThroughGs

        scene = ThroughGs(False)
        for prefix, high in ((".byte GS", 0), (".byte GS, 0x67", 5 << 32)):
            registers = {"rax": HIGH - 0x1234, "rsi": 0x1234 + 0xFFD + high,
                         "rdi": LOW + 8 + high, "rcx": 10 + high}  # fmt: skip
            fault, state, *_ = scene.outcome(f"{prefix}; rep movsb", "gs", registers)
            assert fault[:3] == (11, 2, HIGH + 0x1000)
            assert (state["rsi"], state["rdi"]) == (0x1234 + 0x1000, LOW + 11)
            assert state["rcx"] == 7

    run_in_child(child)


@pytest.mark.parametrize("callbacks", [False, True])
def test_wrapping_addresses(run_in_child: Child, callbacks: bool) -> None:
    """32-bit addresses wrap at 4 GiB, and the base is added behind that; 64-bit ones go on."""

    def child(callbacks: bool) -> None:
        from tests.exec.through_gs import HIGH, LOW, ThroughGs

        scene = ThroughGs(callbacks)
        registers = {"rax": HIGH, "rsp": LOW + 0x800, "rdi": LOW + 0x100, "rcx": 6}
        for direction, rsi in (("cld", 0xFFFFFFFE), ("std", 1)):
            registers["rsi"] = rsi
            for text in ("rep movsb", "rep lodsb", "repne cmpsb", "lodsd", "rep movsw"):
                code = f"{direction}; .byte GS, 0x67; {text}; cld"
                crosses = (text, direction) in (("lodsd", "cld"), ("rep movsw", "std"))
                assert scene.compare(code, registers) == crosses
            assert scene.compare(f"{direction}; .byte GS; rep movsb; cld", registers)
        registers |= {"rbx": 0xFFFFFFFC, "rcx": 2}
        for text in ("mov edx, gs:[ebx + ecx*4]", "push qword ptr gs:[ebx + ecx*4 + 8]"):
            assert not scene.compare(text, registers)

    run_in_child(child, callbacks)


_ADDRESSED = {
    # name: (code, features, whether it faults); rbx is at 0xff0 of HIGH, r12 at 0x800
    "xlat": ("mov al, 15; xlatb gs:[rbx]", "", False),
    "xlat faults": ("mov al, 16; xlatb gs:[rbx]", "", True),
    "narrow xlat": ("mov al, 15; .byte GS, 0x67; xlatb", "", False),
    "narrow xlat faults": ("mov al, 16; .byte GS, 0x67; xlatb", "", True),
    "pop": ("push 77; mov r11, rsp; mov rsp, r11; pop qword ptr gs:[r12]", "", False),
    "pop faults": ("push 77; pop qword ptr gs:[rbx + 12]", "", True),
    "absolute": (".byte GS, 0x48, 0xA3; .quad 0x70000ff8", "", False),
    "absolute, and faults": (".byte GS, 0x48, 0xA1; .quad 0x70000ff9", "", True),
    "masked move": ("mov rdi, r12; .byte GS; maskmovdqu xmm1, xmm2", "sse2", False),
    "masked move faults": ("pcmpeqd xmm2, xmm2; lea rdi, [rbx + 4]; "
                           ".byte GS; maskmovdqu xmm1, xmm2", "sse2", True),
    "narrow masked move": ("mov rdi, r12; bts rdi, 40; .byte GS, 0x67; vmaskmovdqu xmm1, xmm2",
                           "avx", False),
    "clzero": ("mov rax, rbx; .byte GS; clzero", "clzero", False),
    "clzero faults": ("lea rax, [rbx + 16]; .byte GS; clzero", "clzero", True),
    "gather": ("vpcmpeqd ymm2, ymm2, ymm2; vpsrld ymm1, ymm1, 25; "
               "vpgatherdd ymm3, dword ptr gs:[r12 + ymm1*4], ymm2", "avx2", False),
    "gather without base": ("vpcmpeqd ymm2, ymm2, ymm2; vpsrlq ymm1, ymm1, 56; "
                            "vpgatherqq ymm3, qword ptr gs:[ymm1*8 + 0x70000000], ymm2", "avx2",
                            False),
    "gather faults": ("vpcmpeqd ymm2, ymm2, ymm2; vpsrld ymm1, ymm1, 25; mov eax, 5; "
                      "vmovd xmm4, eax; vpslldq xmm4, xmm4, 8; vpslld xmm4, xmm4, 10; "
                      "vpaddd ymm1, ymm1, ymm4; vpgatherdd ymm3, dword ptr gs:[r12 + ymm1*4], ymm2",
                      "avx2", True),
    "scatter faults": ("kxnorw k1, k1, k1; vpsrld zmm1, zmm1, 22; "
                       "vpscatterdd dword ptr gs:[r12 + zmm1*4]{k1}, zmm25", "avx512f", True),
}  # fmt: skip


@pytest.mark.parametrize("callbacks", [False, True])
def test_other_addresses(run_in_child: Child, callbacks: bool) -> None:
    """Registers, memory and the fault of what has its address in a register, or many."""

    def child(cases: dict[str, tuple[str, str, bool]], callbacks: bool) -> None:
        from tests.exec.native_runner import cpu_flags
        from tests.exec.through_gs import HIGH, LOW, ThroughGs

        scene = ThroughGs(callbacks)
        registers = {"rax": HIGH - 0x70000000, "rbx": 0x70000FF0, "r12": 0x70000800,
                     "rsp": LOW + 0x800}  # fmt: skip
        for name, (text, feature, faults) in cases.items():
            if not feature or feature in cpu_flags():
                assert scene.compare(text, registers) == faults, name

    run_in_child(child, _ADDRESSED, callbacks)


def test_pop_based_on_rsp(run_in_child: Child) -> None:
    """The address of a pop is computed with the rsp that it leaves."""

    def child() -> None:
        from tests.exec.through_gs import HIGH, LOW, ThroughGs

        scene = ThroughGs(True)
        registers = {"rax": HIGH - LOW, "rsp": LOW + 0x800, "rbx": 1}
        for operand, faults in (("rsp", False), ("rsp + rbx*8 - 64", False), ("esp", False),
                                ("rsp + 0x7f9", True), ("esp + 0x7f9", True)):  # fmt: skip
            code = f"push 1234; pop qword ptr gs:[{operand}]"
            assert scene.compare(code, registers) == faults
        for displacement, faults in ((0x7FE, False), (0x7FF, True)):
            code = f"push bx; pop word ptr gs:[rsp + {displacement}]"
            assert scene.compare(code, registers) == faults

    run_in_child(child)


@pytest.mark.parametrize("callbacks", [False, True])
@pytest.mark.parametrize("prefix", ["", "GS", "GS, 0x67"])
def test_interrupted_repetition(run_in_child: Child, prefix: str, callbacks: bool) -> None:
    """A run that ends within a long repetition has an exact state, and goes on from it."""

    def child(prefix: str, callbacks: bool) -> None:
        import ctypes
        import time

        import pydbi
        from tests.exec.region import map_pages
        from tests.exec.through_gs import ThroughGs

        size = 12 << 20 if "0x67" in prefix else 128 << 20
        scene = ThroughGs(callbacks)
        source, target = map_pages(None, size, 3), map_pages(0x50000000, size, 3)
        ctypes.memset(source, 7, size)
        ctypes.memset(target, 1, size)
        base = source - 0x1000 if prefix else 0
        head = f".byte {prefix}; " if prefix else ""
        start, end = scene.prepare(f"{head}rep movsb", "gs")
        gpr = scene.vm.getGPRState()
        gpr.rax, gpr.rsi, gpr.rdi, gpr.rcx = base, source - base, target, size
        scene.vm.setGPRState(gpr)
        at, stops, began = start, 0, time.monotonic()
        while True:
            try:
                assert scene.vm.run(at, end, timeout=0.002)
                break
            except pydbi.GuestTimeout:
                gpr = scene.vm.getGPRState()
                at = gpr.rip
                if gpr.rip == end - (len(prefix.split(",")) if prefix else 0) - 2:
                    done = size - gpr.rcx
                    assert (gpr.rsi, gpr.rdi) == (source - base + done, target + done)
                    stops += bool(0 < done < size)
            assert time.monotonic() < began + 60
        gpr = scene.vm.getGPRState()
        assert stops, "it was never interrupted in the middle"
        assert (gpr.rsi, gpr.rdi, gpr.rcx) == (source - base + size, target + size, 0)
        assert ctypes.string_at(target, size).count(b"\7") == size

    run_in_child(child, prefix, callbacks)
