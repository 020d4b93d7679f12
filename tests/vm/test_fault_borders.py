"""Faults that are not the guest's, operands out of reach, and bytes that are no instruction."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]


@pytest.mark.parametrize("instrumented", [False, True])
def test_operands_out_of_reach(run_in_child: Child, instrumented: bool) -> None:
    """RIP-relative operands beyond the arena's reach work, and fault with all registers exact."""

    def child(instrumented: bool) -> None:
        import ctypes
        import struct

        import pytest

        import pydbi
        from pydbi.host.memory import map_memory
        from tests.jit.maze import machine, map_code

        vm = machine()
        if instrumented:
            vm.addCodeCB(pydbi.PREINST, lambda *_: pydbi.CONTINUE, None)
        place = map_code(1 << 16, 0x2000_0000_0000)
        mapped = place + (1 << 31) - (16 << 20)
        map_memory(4096, 3, mapped, fixed_noreplace=True)
        unmapped = mapped + 4096
        word = 0x1122334455667788
        # before the displacement, behind it, and what register or memory it changes
        codes = {
            "mov rdx, [m]": ("488b15", "", "rdx", word),
            "mov r9, [m]": ("4c8b0d", "", "r9", word),
            "mov rsi, [m]": ("488b35", "", "rsi", word),
            "mov edi, [m]": ("8b3d", "", "rdi", word & 0xFFFFFFFF),
            "add [m], rsi": ("480135", "", "m", word + 0x66),
            "add qword [m], 5": ("488305", "05", "m", word + 5),
            "mov dword [m], imm": ("c705", "78563412", "m", word & ~0xFFFFFFFF | 0x12345678),
            "cmp qword [m], 5": ("48833d", "05", "m", word),
            "movups xmm3, [m]": ("0f101d", "", "xmm3", word),
            "vmovups ymm3, [m]": ("c5fc101d", "", "xmm3", word),
            "vpaddq xmm3, xmm4, [m]": ("c5d9d41d", "", "xmm3", word),
            "pshufd xmm3, [m], e4": ("660f701d", "e4", "xmm3", word),
            "push qword [m]": ("ff35", "", "pushed", word),
            "lock xadd [m], rdx": ("f0480fc115", "", "rdx", word),
            "cmpxchg [m], rdx": ("480fb115", "", "rax", word),
            "imul r10, [m], 3": ("4c6915", "03000000", "r10", word * 3),
            "movzx ebx, byte [m]": ("0fb61d", "", "rbx", 0x88),
            "bt qword [m], 3": ("480fba25", "03", "m", word),
            "mulx": ("c462e3f61d", "", "rbx", None),
        }
        names = [
            "rax",
            "rbx",
            "rcx",
            "rdx",
            "rsi",
            "rdi",
            "r8",
            "r9",
            "r10",
            "r11",
            "r12",
            "r13",
            "r14",
            "r15",
            "rbp",
        ]
        gpr, fpr = vm.getGPRState(), vm.getFPRState()
        rsp = gpr.rsp
        values = {name: 0x11 * n for n, name in enumerate(names, 2)}
        assert values["rsi"] == 0x66
        for name, (head, tail, changed, result) in codes.items():
            opcode, rest = bytes.fromhex(head), bytes.fromhex(tail)
            for target in (mapped, unmapped):
                start = place + 0x100
                end = start + len(opcode) + 4 + len(rest)
                code = opcode + struct.pack("<i", target - end) + rest
                ctypes.memmove(start, code, len(code))
                vm.clearCache(start, end)
                ctypes.memmove(mapped, struct.pack("<QQQQ", word, 0, 0, 0), 32)
                gpr.rsp = rsp
                fpr.zmm3, fpr.zmm4 = bytes(range(32)), bytes(32)
                for register, value in values.items():
                    setattr(gpr, register, value)
                if target == unmapped:
                    with pytest.raises(pydbi.GuestFault) as caught:
                        vm.run(start, end)
                    assert caught.value.app_address == gpr.rip == start, name
                    assert caught.value.fault_address == unmapped
                    assert caught.value.code == code
                    assert fpr.zmm3[:32] == bytes(range(32))
                    assert gpr.rsp == rsp
                    expected = {}
                else:
                    assert vm.run(start, end)
                    assert ctypes.c_uint64.from_address(gpr.rsp).value == word or (
                        changed != "pushed"
                    )
                    found = ctypes.c_uint64.from_address(mapped).value
                    if changed == "m":
                        assert found == result, name
                    if changed == "xmm3":
                        assert fpr.xmm3[:8] == struct.pack("<Q", result), name
                    expected = {changed: result}
                for register, value in values.items():
                    if name == "mulx" and register in ("r11", "rbx") and target == mapped:
                        continue
                    value = expected.get(register, value)
                    assert getattr(gpr, register) == value & (1 << 64) - 1, (name, register)
        first = vm._engine.cache.arenas[0]
        assert not first.reaches(mapped)

    run_in_child(child, instrumented)


def test_fault_of_the_host(run_in_child: Child) -> None:
    """A fault of Python's own code still goes to faulthandler, and kills the process."""

    def child() -> None:
        import ctypes

        import pydbi

        vm = pydbi.VM()
        assert vm.stats.faults == 0
        ctypes.string_at(8)

    output = run_in_child(child, status=-11)
    assert "Fatal Python error: Segmentation fault" in output
    assert "string_at" in output


@pytest.mark.parametrize("where", ["in a callback", "in a native function", "in native libpython"])
def test_fault_while_the_guest_runs(run_in_child: Child, where: str) -> None:
    """A fault in a callback, or in a function that runs natively, is not taken for the guest's."""

    def child(where: str) -> None:
        import ctypes

        import pydbi
        from tests.vm.scenario import Scenario

        if where == "in native libpython":
            function = ctypes.pythonapi.PyUnicode_FromString
        else:
            function = ctypes.CDLL(None).free
        scene = Scenario("pydbi", "nop; mov rdi, 8; call rbx\nend: nop")
        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address
        scene.set(rbx=address)
        if where == "in a callback":
            scene.vm.addCodeCB(pydbi.PREINST, lambda *_: ctypes.string_at(8), None)
        print("before", flush=True)
        scene.run()

    output = run_in_child(child, where, status=-11)
    assert "before" in output
    assert "Fatal Python error: Segmentation fault" in output


@pytest.mark.parametrize("position", ["first", "in the middle", "behind a branch"])
@pytest.mark.parametrize("instrumented", [False, True])
def test_bytes_that_are_no_instruction(
    run_in_child: Child, position: str, instrumented: bool
) -> None:
    """DecodeError with address and bytes, when they are about to be executed and not before."""

    def child(position: str, instrumented: bool) -> None:
        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        before = {"first": "", "in the middle": "inc rbx;", "behind a branch": "inc rbx; jmp at;"}
        for bad in (
            "06",
            "62f1",
            "c5f8ff",
            "0f04",
            "66666666666666666666666666666690",
            "d6",
            "ff38",
        ):
            values = ", ".join(f"0x{byte:02x}" for byte in bytes.fromhex(bad))
            text = f"{before[position]}\nat: .byte {values}\n.byte 0x90\nend: nop"
            scene = Scenario("pydbi", text, "at")
            if instrumented:
                scene.vm.addCodeCB(pydbi.PREINST, lambda *_: pydbi.CONTINUE, None)
            for _ in range(2):
                scene.set(rbx=0)
                with pytest.raises((pydbi.DecodeError, pydbi.UnsupportedInstruction)) as caught:
                    scene.run()
                assert type(caught.value) is pydbi.DecodeError or bad == "ff38"
                assert caught.value.app_address == scene["at"] == scene.register("rip")
                assert caught.value.code.startswith(bytes.fromhex(bad)[:15])
                assert scene.register("rbx") == (position != "first")

    run_in_child(child, position, instrumented)


@pytest.mark.parametrize("code", ["ljmp", "lcall", "iretq", "pop fs", "mov gs", "retf", "66 jmp"])
@pytest.mark.parametrize("instrumented", [False, True])
def test_refused_instructions(run_in_child: Child, code: str, instrumented: bool) -> None:
    """What cannot be translated raises UnsupportedInstruction when it is reached."""

    def child(code: str, instrumented: bool) -> None:
        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        text = {
            "ljmp": "rex.w jmp fword ptr [rax]", "lcall": "call fword ptr [rax]",
            "iretq": "iretq", "pop fs": "pop fs", "mov gs": "mov gs, eax", "retf": "retf",
            "66 jmp": ".byte 0x66, 0xeb, 0",
        }[code]  # fmt: skip
        scene = Scenario("pydbi", f"inc rbx; nop\nat: {text}\nnop\nend: nop", "at")
        if instrumented:
            scene.vm.addCodeCB(pydbi.POSTINST, lambda *_: pydbi.CONTINUE, None)
        for _ in range(2):
            scene.set(rbx=0)
            with pytest.raises(pydbi.UnsupportedInstruction) as caught:
                scene.run()
            size = len(caught.value.code)
            offset = scene["at"] - scene.base
            assert caught.value.code == bytes(scene._pages[offset : offset + size])
            assert size >= 1
            assert caught.value.app_address == scene["at"] == scene.register("rip")
            assert scene.register("rbx") == 1

    run_in_child(child, code, instrumented)


def test_code_at_the_end_of_a_page(run_in_child: Child) -> None:
    """Code up to the last mapped byte runs; behind it, and across it, is the fault of that page."""

    def child() -> None:
        import ctypes

        import pytest

        import pydbi
        from pydbi.host.memory import protect_memory
        from tests.jit.maze import machine, map_code

        vm = machine()
        gpr = vm.getGPRState()
        for protection in (7, 5):
            page = map_code(8192)
            end = page + 4096
            for tail in (b"\x48\xff\xc3\xc3", b"\xeb\xfe", b"\x48\xff\xc3", b"\x48\xb8\x01\x02"):
                protect_memory(page, 8192, 7)
                ctypes.memmove(page, b"\x90" * 4096, 4096)
                start = end - len(tail) - 3
                ctypes.memmove(end - len(tail), tail, len(tail))
                protect_memory(page, 4096, protection)
                protect_memory(end, 4096, 0)
                vm.clearCache(page, end + 4096)
                gpr.rbx = 0
                if tail == b"\x48\xff\xc3\xc3":
                    assert vm.call(start, [])[0]
                    assert gpr.rbx == 1
                elif tail == b"\xeb\xfe":
                    assert vm.run(start, end - 2)
                else:
                    with pytest.raises(pydbi.GuestFault) as caught:
                        vm.run(start, 0)
                    assert caught.value.signal == 11
                    whole = tail == b"\x48\xff\xc3"
                    assert gpr.rbx == whole
                    assert caught.value.fault_address == end
                    assert gpr.rip == (end if whole else end - len(tail))

    run_in_child(child)


def test_instruction_across_pages(run_in_child: Child) -> None:
    """An instruction that lies on two pages is translated, whichever of them was read before."""

    def child() -> None:
        import ctypes

        from pydbi.host.memory import protect_memory
        from tests.jit.maze import machine, map_code

        code = b"\x48\xb8" + (0x1122334455667788).to_bytes(8, "little") + b"\xc3"
        for protection in (7, 5):
            vm = machine()
            page = map_code(3 * 4096)
            for split in range(1, 11):
                start = page + 4096 - split
                protect_memory(page, 8192, 7)
                ctypes.memmove(start, code, len(code))
                protect_memory(page, 8192, protection)
                vm.clearCache(page, page + 8192)
                assert vm.call(start, []) == (True, 0x1122334455667788)

    run_in_child(child)
