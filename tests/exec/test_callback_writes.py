"""What a callback writes into GPRState and FPRState is what the guest goes on with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.exec.native_runner import vector_level

Child = Callable[..., str]


def test_general_register_written_before(run_in_child: Child) -> None:
    """A PREINST callback's rax is the one the instruction reads."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode

        code = GuestCode(pydbi, "mov eax, 5\nat: add rbx, rax\nend: nop", "at", "end")

        def write(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> object:
            gpr.rax, gpr.rbx = 0x123456789ABCDEF0, 1
            return pydbi.CONTINUE

        code.vm.addCodeAddrCB(code["at"], pydbi.PREINST, write, None)
        code.vm.run(code.base, code["end"])
        assert code.vm.getGPRState().rbx == 0x123456789ABCDEF1

    run_in_child(child)


def test_every_general_register_written_after(run_in_child: Child) -> None:
    """A POSTINST callback's registers are all there at the next instruction."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode
        from tests.exec.machine_state import GPR_NAMES

        names = [name for name in GPR_NAMES if name != "rsp"]
        stores = "\n".join(f"mov [rip + data + {8 * n}], {name}" for n, name in enumerate(names))
        code = GuestCode(pydbi, f"nop\n{stores}\nend: nop", "end")

        def write(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> object:
            for number, name in enumerate(names):
                setattr(gpr, name, 0x1111111111111111 * (number + 1))
            return pydbi.CONTINUE

        code.vm.addCodeAddrCB(code.base, pydbi.POSTINST, write, None)
        code.vm.run(code.base, code["end"])
        for number in range(len(names)):
            stored = int.from_bytes(code.read(8 * number, 8), "little")
            assert stored == 0x1111111111111111 * (number + 1), names[number]

    run_in_child(child)


def test_stack_pointer_written(run_in_child: Child) -> None:
    """A callback may move the guest's stack."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode

        code = GuestCode(pydbi, "mov eax, 7\nat: push rax\nend: nop", "at", "end")

        def write(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> object:
            gpr.rsp = code.data + 0x100
            return pydbi.CONTINUE

        code.vm.addCodeAddrCB(code["at"], pydbi.PREINST, write, None)
        code.vm.run(code.base, code["end"])
        assert code.vm.getGPRState().rsp == code.data + 0xF8
        assert code.read(0xF8, 8) == (7).to_bytes(8, "little")

    run_in_child(child)


def test_flags_written(run_in_child: Child) -> None:
    """Each status flag, and DF, can be set and cleared from a callback."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode
        from tests.exec.machine_state import STATUS_FLAGS

        text = """
        at: setc [rip + data]; setp [rip + data + 1]; setz [rip + data + 3]
        sets [rip + data + 4]; seto [rip + data + 6]; lahf; shr ah, 4; mov [rip + data + 2], ah
        and byte ptr [rip + data + 2], 1; lea rdi, [rip + data + 0x100]; stosb
        lea rax, [rip + data + 0x100]; cmp rdi, rax; setb [rip + data + 5]
        end: cld; nop"""
        code = GuestCode(pydbi, text, "at", "end")
        wanted = 0

        def write(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> object:
            gpr.eflags = gpr.eflags & ~0xCD5 | wanted
            return pydbi.CONTINUE

        code.vm.addCodeAddrCB(code["at"], pydbi.PREINST, write, None)
        for wanted in (*STATUS_FLAGS.values(), 0, 0xCD5):
            code.vm.run(code.base, code["end"])
            found = code.read(0, 7)
            expected = bytes(bool(wanted & bit) for bit in STATUS_FLAGS.values())
            assert found == expected, f"{wanted:#x}: {found.hex()}"

    run_in_child(child)


def test_vector_registers_written(run_in_child: Child) -> None:
    """xmm and ymm registers written before and after instructions take effect."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode

        text = """
        at: movups [rip + data], xmm3
        vmovups [rip + data + 32], ymm15
        end: nop"""
        code = GuestCode(pydbi, text, "at", "end")
        low, wide = bytes(range(16)), bytes(range(100, 132))

        def before(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> object:
            fpr.xmm3 = low
            return pydbi.CONTINUE

        def after(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> object:
            fpr.xmm15, fpr.ymm15 = wide[:16], wide[16:]
            return pydbi.CONTINUE

        code.vm.addCodeAddrCB(code["at"], pydbi.PREINST, before, None)
        code.vm.addCodeAddrCB(code["at"], pydbi.POSTINST, after, None)
        code.vm.run(code.base, code["end"])
        assert code.read(0, 16) == low
        assert code.read(32, 32) == wide

    run_in_child(child)


@pytest.mark.skipif(vector_level() < 2, reason="this CPU has no AVX-512")
def test_avx512_registers_written(run_in_child: Child) -> None:
    """zmm and opmask registers can be written as soon as a callback runs before they are used."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode

        text = """
        nop
        at: vmovups [rip + data], zmm21
        kmovq [rip + data + 64], k5
        end: nop"""
        code = GuestCode(pydbi, text, "at", "end")

        def write(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> object:
            fpr.zmm21 = bytes(range(64))
            fpr.k5 = 0x1122334455667788
            return pydbi.CONTINUE

        for place in (code["at"], code.base):
            code.vm.deleteAllInstrumentations()
            code.vm.setFPRState(pydbi.FPRState())
            code.vm.addCodeAddrCB(place, pydbi.PREINST, write, None)
            code.vm.run(code.base, code["end"])
            assert code.read(0, 64) == bytes(range(64))
            assert code.read(64, 8) == (0x1122334455667788).to_bytes(8, "little")

    run_in_child(child)


def test_floating_point_control_written(run_in_child: Child) -> None:
    """MXCSR, the x87 control word and ST(0) written by a callback take effect."""

    def child() -> None:
        import struct

        import pydbi
        from tests.exec.guest_code import GuestCode

        text = """
        fninit; fld1
        mov eax, 5; mov ecx, 2
        cvtsi2sd xmm0, eax; cvtsi2sd xmm1, ecx; divsd xmm0, xmm1
        at: cvtsd2si ebx, xmm0
        fist dword ptr [rip + data]
        fstp qword ptr [rip + data + 8]
        end: nop"""
        code = GuestCode(pydbi, text, "at", "end")
        current = [0]

        def write(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> object:
            fpr.mxcsr = 0x1F80 | current[0] << 13
            fpr.rfcw = 0x37F | current[0] << 10
            fpr.stmm0.st = struct.pack("<QH", 0xA000000000000000, 0x4000)  # 2.5
            return pydbi.CONTINUE

        code.vm.addCodeAddrCB(code["at"], pydbi.PREINST, write, None)
        for rounding, expected in ((0, 2), (1, 2), (2, 3), (3, 2)):
            current[0] = rounding
            code.vm.run(code.base, code["end"])
            assert code.vm.getGPRState().rbx == expected
            assert code.read(0, 4) == struct.pack("<i", expected)
            assert code.read(8, 8) == struct.pack("<d", 2.5)

    run_in_child(child)


def test_next_address_written(run_in_child: Child) -> None:
    """A changed rip with BREAK_TO_VM is where the guest goes on."""

    def child() -> None:
        import pydbi
        from tests.exec.guest_code import GuestCode

        text = "mov eax, 1\nat: mov eax, 2\nthere: mov ebx, 3\nend: nop"
        code = GuestCode(pydbi, text, "at", "there", "end")

        def write(vm: pydbi.VM, gpr: pydbi.GPRState, fpr: pydbi.FPRState, data: object) -> object:
            gpr.rip = code["there"]
            return pydbi.BREAK_TO_VM

        code.vm.addCodeAddrCB(code["at"], pydbi.PREINST, write, None)
        code.vm.run(code.base, code["end"])
        assert (code.vm.getGPRState().rax, code.vm.getGPRState().rbx) == (1, 3)

    run_in_child(child)
