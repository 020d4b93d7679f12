"""The guest's state: set before a run, kept across callbacks that clobber it, found afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.exec.native_runner import vector_level

Child = Callable[..., str]

AVX512 = pytest.mark.skipif(vector_level() < 2, reason="this CPU has no AVX-512")


@pytest.mark.parametrize("engine", ["pydbi", "pyqbdi"])
def test_copies(run_in_child: Child, engine: str) -> None:
    """States copy, deep-copy and pickle; a copy stands alone."""

    def child(engine: str) -> None:
        import copy
        import importlib
        import pickle

        module = importlib.import_module(engine)
        vm = module.VM()
        gpr, fpr = vm.getGPRState(), vm.getFPRState()
        gpr.rax, gpr.r15, gpr.eflags = 1, 2, 0x246
        fpr.xmm0, fpr.ymm15 = b"0123456789abcdef", bytes(range(16))
        fpr.mxcsr = 0x3F80
        for one in (copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))):
            others = one(gpr), one(fpr)
            assert type(others[0]) is type(gpr)
            assert type(others[1]) is type(fpr)
            assert (others[0].rax, others[0].r15, others[0].eflags) == (1, 2, 0x246)
            assert others[1].xmm0 == b"0123456789abcdef"
            assert (others[1].ymm15, others[1].mxcsr) == (bytes(range(16)), 0x3F80)
            others[0].rax, others[1].xmm0 = 77, bytes(16)
            assert (vm.getGPRState().rax, vm.getFPRState().xmm0) == (1, b"0123456789abcdef")
        other = module.VM()
        other.setGPRState(gpr)
        other.setFPRState(fpr)
        assert other.getGPRState().r15 == 2
        assert other.getFPRState().ymm15 == bytes(range(16))

    run_in_child(child, engine)


@pytest.mark.parametrize("engine", ["pydbi", "pyqbdi"])
def test_indices(run_in_child: Child, engine: str) -> None:
    """state[index] counts the registers as REG_* does; others are an IndexError."""

    def child(engine: str) -> None:
        import importlib

        module = importlib.import_module(engine)
        state = module.GPRState()
        names = "rax rbx rcx rdx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rbp rsp rip"
        for index, name in enumerate(names.split()):
            state[index] = index + 1
            assert getattr(state, name) == index + 1
            setattr(state, name, 100 + index)
            assert state[index] == 100 + index
            assert name in str(state)
        for index, name in ((module.REG_FLAG, "eflags"), (18, "fs"), (19, "gs")):
            state[index] = 1000 + index
            assert getattr(state, name) == state[index] == 1000 + index
        assert len(list(state)) == 20
        for index, error in ((20, IndexError), (1000, IndexError), (-1, TypeError)):
            with pytest.raises(error):
                state[index]
            with pytest.raises(error):
                state[index] = 0
        for index in (1.0, "rax", None, 1 << 40):
            with pytest.raises(TypeError):
                state[index]
        assert state[module.REG_SP] == 115
        assert state[module.REG_PC] == 116

    run_in_child(child, engine)


@pytest.mark.parametrize("engine", ["pydbi", "pyqbdi"])
def test_values_out_of_range(run_in_child: Child, engine: str) -> None:
    """Registers take 64-bit unsigned integers; anything else raises TypeError, without effect."""

    def child(engine: str) -> None:
        import importlib

        module = importlib.import_module(engine)
        state = module.GPRState()
        state.rax = (1 << 64) - 1
        accepted = []
        for value in (-1, 1 << 64, 1.5, "text", None):
            try:
                state.rax = value
            except TypeError:
                assert state.rax == (1 << 64) - 1
            else:
                accepted.append(value)
                state.rax = (1 << 64) - 1
        assert not accepted

    run_in_child(child, engine)


LEVELS = {
    # what the guest executes first decides what a switch saves
    "plain": ("nop", 1),
    "x87": ("fld1; fstp st(0)", 1),
    "avx512": ("vpxord zmm30, zmm30, zmm30", 2),
    "both": ("fld1; fstp st(0); vpxord zmm30, zmm30, zmm30", 2),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("noise", ["none", "floats", "libm", "memcpy", "exec"])
def test_vector_registers(run_in_child: Child, level: str, noise: str) -> None:
    """Vector registers set from Python reach the guest, survive any callback, and come back."""
    code, needed = LEVELS[level]
    if vector_level() < needed:
        pytest.skip("this CPU has no AVX-512")

    def child(code: str, needed: int, noise: str) -> None:
        import ctypes
        import math
        import random

        import pydbi
        from tests.vm.scenario import Scenario

        wide = needed > 1
        lines = []
        for n in range(32 if wide else 16):
            register, size = ("zmm", 64) if wide else ("ymm", 32)
            lines.append(f"vmovups [rip + data + {n * 64}], {register}{n}; nop")
        if wide:
            lines += [f"kmovq [rip + data + {2048 + 8 * n}], k{n}" for n in range(8)]
        lines += ["vpermq ymm3, ymm4, 0x1b"]
        scene = Scenario(
            "pydbi", f"{code}\nstart: nop\n" + "\n".join(lines) + "\nend: nop", "start"
        )
        libm = ctypes.CDLL("libm.so.6")
        libm.pow.restype = ctypes.c_double
        libm.pow.argtypes = (ctypes.c_double, ctypes.c_double)
        large = ctypes.create_string_buffer(1 << 16)

        def disturb(*_: object) -> pydbi.VMAction:
            if noise == "floats":
                assert sum(x * 0.5 for x in range(10)) == 22.5
                assert math.sqrt(2.0) * math.sqrt(2.0) != 2.0
            elif noise == "libm":
                assert libm.pow(2.0, 0.5) == math.sqrt(2.0)
            elif noise == "memcpy":
                assert bytes(large) == bytes(1 << 16)
                ctypes.memmove(large, bytes(1 << 16), 1 << 16)
                assert "x" * 1000 in "y" * 3000 + "x" * 1000
            else:
                exec("import json; json.dumps([1.5, {'a': 'b'}] * 20)")
            return pydbi.CONTINUE

        if noise != "none":
            scene.vm.addCodeCB(pydbi.PREINST, disturb, None)
            scene.vm.addCodeCB(pydbi.POSTINST, disturb, None)
        chance = random.Random(1)
        fpr = scene.vm.getFPRState()
        assert scene.run()
        for _ in range(3):
            size = 64 if wide else 32
            values = [chance.randbytes(size) for _ in range(32 if wide else 16)]
            masks = [chance.getrandbits(64) for _ in range(8)]
            for n, value in enumerate(values):
                setattr(fpr, f"zmm{n}", value)
            for n, mask in enumerate(masks if wide else ()):
                setattr(fpr, f"k{n}", mask)
            assert scene.run("start")
            for n, value in enumerate(values):
                assert scene.read(64 * n, size) == value, n
                if n != 3:
                    assert getattr(fpr, f"zmm{n}")[:size] == value
            if wide:
                assert scene.read(2048, 64) == b"".join(m.to_bytes(8, "little") for m in masks)
                assert [getattr(fpr, f"k{n}") for n in range(8)] == masks
            quads = [values[4][8 * n : 8 * n + 8] for n in (3, 2, 1, 0)]
            assert fpr.zmm3[:32] == b"".join(quads)
            assert (fpr.xmm3, fpr.ymm3) == (b"".join(quads[:2]), b"".join(quads[2:]))

    run_in_child(child, code, needed, noise)


@AVX512
def test_avx512_state_set_before_it_is_used(run_in_child: Child) -> None:
    """zmm and k registers set from Python are there at the guest's first AVX-512 instruction."""

    def child() -> None:
        from tests.vm.scenario import Scenario

        text = "nop\nvmovups [rip + data], zmm17; kmovq [rip + data + 64], k3\nend: nop"
        for way in ("attribute", "setFPRState"):
            scene = Scenario("pydbi", text)
            fpr = scene.vm.getFPRState()
            if way == "setFPRState":
                fpr = scene.module.FPRState()
                fpr.mxcsr = 0x1F80
            fpr.zmm17, fpr.k3 = bytes(range(64)), 0x1122334455667788
            if way == "setFPRState":
                scene.vm.setFPRState(fpr)
            assert scene.run()
            assert scene.read(0, 64) == bytes(range(64))
            assert scene.read(64, 8) == (0x1122334455667788).to_bytes(8, "little")

    run_in_child(child)


def test_x87_state(run_in_child: Child) -> None:
    """The x87 stack, its control word and tags are the guest's across callbacks that use x87."""

    def child() -> None:
        import ctypes
        import struct

        import pydbi
        from tests.vm.scenario import Scenario

        text = """
        fninit; fldpi; fld1; fldl2e; fldcw [rip + data + 256]
        fld1; fld1; fadd; fmul; fstp tbyte ptr [rip + data]
        faddp; fstp tbyte ptr [rip + data + 16]
        fnstcw [rip + data + 32]; fnstsw [rip + data + 34]
        end: nop"""
        results = []
        libm = ctypes.CDLL("libm.so.6")
        libm.powl.restype = ctypes.c_longdouble
        libm.powl.argtypes = (ctypes.c_longdouble, ctypes.c_longdouble)

        def disturb(*_: object) -> pydbi.VMAction:
            assert libm.powl(3.0, 2.0) == 9.0
            return pydbi.CONTINUE

        for noise in (False, True):
            scene = Scenario("pydbi", text)
            scene._pages[0x8100:0x8102] = struct.pack("<H", 0xC7F)  # round towards zero
            if noise:
                scene.vm.addCodeCB(pydbi.PREINST, disturb, None)
                scene.vm.addCodeCB(pydbi.POSTINST, disturb, None)
            assert scene.run()
            results.append((scene.read(0, 36), scene.vm.getFPRState().rfcw))
        assert results[0] == results[1]
        assert results[0][1] == 0xC7F

    run_in_child(child)


def test_rounding_modes(run_in_child: Child) -> None:
    """MXCSR modes of the guest hold for the guest, and never for Python in its callbacks."""

    def child() -> None:
        import math
        import struct

        import pydbi
        from tests.vm.scenario import Scenario

        text = """
        ldmxcsr [rip + data]
        again: movsd xmm0, [rip + data + 8]; divsd xmm0, [rip + data + 16]
        movsd [rip + data + 24], xmm0; stmxcsr [rip + data + 32]
        dec rcx; jnz again
        end: nop"""

        def work(*_: object) -> pydbi.VMAction:
            assert 1.0 / 3.0 == 0.3333333333333333
            assert -1.0 / 3.0 == -0.3333333333333333
            assert math.exp(1) == math.e
            assert 5e-324 > 0 and 2.0**-1074 / 2 == 0  # noqa: PT018
            return pydbi.CONTINUE

        for instrumented in (False, True):
            scene = Scenario("pydbi", text)
            if instrumented:
                scene.vm.addCodeCB(pydbi.PREINST, work, None)
                scene.vm.addCodeCB(pydbi.POSTINST, work, None)
            thirds = {0: "5555", 1: "5555", 2: "5655", 3: "5555"}
            for mode in (0, 1, 2, 3, 0):
                for more in (0, 0x8040):  # flush to zero, denormals are zero
                    value = 0x1F80 | mode << 13 | more
                    scene._pages[0x8000:0x8018] = struct.pack("<Qdd", value, 1.0, 3.0)
                    scene.set(rcx=3)
                    assert scene.run()
                    work()
                    assert scene.read(24, 2).hex() == thirds[mode]
                    stored = int.from_bytes(scene.read(32, 4), "little")
                    assert stored == value | 0x20  # inexact
                    assert scene.vm.getFPRState().mxcsr == stored

    run_in_child(child)


def test_unmasked_exceptions_stay_the_guests(run_in_child: Child) -> None:
    """A guest with unmasked floating-point exceptions faults; Python in its callbacks does not."""

    def child() -> None:
        import struct

        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        text = "ldmxcsr [rip + data]; nop\nat: divsd xmm0, xmm1\nend: nop"
        scene = Scenario("pydbi", text, "at")
        scene._pages[0x8000:0x8004] = struct.pack("<I", 0)

        def work(*_: object) -> pydbi.VMAction:
            assert 1.0 / 3.0 == 0.3333333333333333
            assert float("inf") - 1 > 0
            return pydbi.CONTINUE

        scene.vm.addCodeCB(pydbi.PREINST, work, None)
        fpr = scene.vm.getFPRState()
        fpr.xmm0, fpr.xmm1 = struct.pack("<dd", 1.0, 0), bytes(16)
        with pytest.raises(pydbi.GuestFault) as caught:
            scene.run()
        assert (caught.value.signal, caught.value.si_code) == (8, 3)
        assert caught.value.app_address == scene["at"]
        work()

    run_in_child(child)


def test_errno(run_in_child: Child) -> None:
    """A callback whose C code sets errno does not change the guest's."""

    def child() -> None:
        import ctypes
        import os

        import pydbi
        from tests.vm.scenario import Scenario

        # close(-1); then errno through __errno_location after a callback has failed otherwise
        scene = Scenario(
            "pydbi", "mov rdi, -1; call rbx; nop; nop; call r12; mov eax, [rax]\nend: nop"
        )
        library = ctypes.CDLL(None)

        def address(name: str) -> int:
            found = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            assert found
            return found

        def fail(*_: object) -> pydbi.VMAction:
            try:
                os.open("/does/not/exist", 0)
            except FileNotFoundError:
                return pydbi.CONTINUE
            raise AssertionError

        scene.vm.addInstrumentedModule("libc.so.6")
        scene.vm.addCodeCB(pydbi.PREINST, fail, None)
        scene.vm.addCodeCB(pydbi.POSTINST, fail, None)
        scene.set(rbx=address("close"), r12=address("__errno_location"))
        assert scene.run()
        assert scene.register("rax") == 9  # EBADF

    run_in_child(child)


def test_direction_and_alignment_flags(run_in_child: Child) -> None:
    """DF, AC and ID set by the guest hold across callbacks; Python runs with them clear."""

    def child() -> None:
        import ctypes

        import pydbi
        from tests.vm.scenario import Scenario

        text = """
        pushfq; or qword ptr [rsp], rbx; popfq
        nop; nop
        pushfq; pop rax
        end: pushfq; and qword ptr [rsp], ~0x240400; popfq"""

        def work(*_: object) -> pydbi.VMAction:
            buffer = ctypes.create_string_buffer(b"0123456789", 64)
            ctypes.memmove(ctypes.addressof(buffer) + 1, buffer, 20)
            assert buffer.value == b"00123456789"
            assert ctypes.c_uint32.from_buffer(buffer, 1).value == 0x33323130
            return pydbi.CONTINUE

        for instrumented in (False, True):
            scene = Scenario("pydbi", text)
            if instrumented:
                scene.vm.addCodeCB(pydbi.PREINST, work, None)
                scene.vm.addCodeCB(pydbi.POSTINST, work, None)
            for flags in (0, 0x400, 0x40000, 0x200000, 0x240400, 0x8D5, 0x2408C1):
                scene.set(rbx=flags, eflags=0x202)
                assert scene.run()
                assert scene.register("rax") & 0x244CD5 & flags == flags
                assert scene.register("eflags") & flags == flags
                work()

    run_in_child(child)
