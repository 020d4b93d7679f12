"""What other processors need: the variants that this one would not choose."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]

MISSING = {
    "no FSGSBASE": ["has_fsgsbase"],
    "no AVX": ["has_avx", "has_avx512"],
    "no AVX-512": ["has_avx512"],
    "no BMI2": ["has_bmi2"],
    "none of them": ["has_fsgsbase", "has_avx", "has_avx512", "has_bmi2"],
}


@pytest.mark.parametrize("missing", MISSING)
def test_without_a_feature(run_in_child: Child, missing: str) -> None:
    """Calls, returns, callbacks, faults, nested VMs and FS work where the processor lacks it."""

    def child(missing: list[str]) -> None:
        import ctypes
        import struct
        import zlib

        import pytest

        from pydbi.host import cpu

        for name in missing:
            setattr(cpu, name, lambda: False)

        import pydbi
        from pydbi.jit.signals import install_handlers
        from pydbi.jit.stubs import stubs
        from tests.exec.guest_code import GuestCode

        stubs().base = "fsgsbase" if cpu.has_fsgsbase() else "prctl"
        install_handlers.cache_clear()
        library = ctypes.CDLL("libz.so.1")
        data = bytes(range(256)) * 20
        buffer = ctypes.create_string_buffer(data, len(data))
        function = ctypes.cast(library.adler32, ctypes.c_void_p).value

        def machine() -> pydbi.VM:
            vm = pydbi.VM()
            pydbi.allocateVirtualStack(vm.getGPRState(), 1 << 20)
            vm.addInstrumentedModuleFromAddr(function)
            return vm

        arguments = [1, ctypes.addressof(buffer), len(data)]
        expected = (True, zlib.adler32(data))
        assert machine().call(function, arguments) == expected

        inner, seen = machine(), []

        def on_instruction(vm: object, gpr: object, fpr: object, seen: list[float]) -> object:
            if len(seen) % 500 == 0:
                assert inner.call(function, arguments) == expected
            seen.append(sum(0.1 * n for n in range(4)))
            return pydbi.CONTINUE

        vm = machine()
        vm.addCodeCB(pydbi.PREINST, on_instruction, seen)
        vm.addCodeCB(pydbi.POSTINST, on_instruction, seen)
        assert vm.call(function, arguments) == expected
        assert len(seen) > 2000

        text = """start: movups xmm3, [rip + data]; mov rax, fs:[0]; mov rbx, fs:[16]
                  addps xmm3, xmm3; call next
                  ud2
            next: add rsp, 8; stc; mov ecx, [rdx]
            end: nop"""
        code = GuestCode(pydbi, text, "start", "next", "end")
        ctypes.memmove(code.data, struct.pack("<4f", 1, 2, 3, 4), 16)
        gpr, fpr = code.vm.getGPRState(), code.vm.getFPRState()
        code.vm.addCodeCB(pydbi.PREINST, on_instruction, seen)
        gpr.rdx = 16
        with pytest.raises(pydbi.GuestFault) as caught:
            code.vm.run(code["start"], code["end"])
        assert caught.value.fault_address == 16
        assert gpr.eflags & 1
        assert gpr.rax
        assert struct.unpack("<4f", fpr.xmm3) == (2, 4, 6, 8)
        gpr.rdx = code.data
        assert code.vm.run(gpr.rip, code["end"])
        assert gpr.rcx == 0x3F800000

    run_in_child(child, MISSING[missing])
