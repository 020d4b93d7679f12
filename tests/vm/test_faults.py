"""What raises a signal natively raises GuestFault here, with the guest's state exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Child = Callable[..., str]

CASES = {
    # name: (code, signal, si_code, fault address: rax, the instruction's own, or a number)
    "read unmapped": ("mov rdx, [rax]", 11, 1, "rax"),
    "read non-canonical": ("mov rdx, [rbx]", 11, 128, 0),
    "write unmapped": ("mov [rax + 8], rdx", 11, 1, "rax + 8"),
    "write read-only": ("mov [rsi], rdx", 11, 2, "rsi"),
    "read-modify-write": ("add qword ptr [rax], 5", 11, 1, "rax"),
    "vector load": ("vmovdqu ymm1, [rax]", 11, 1, "rax"),
    "misaligned": ("movaps xmm1, [rsp + 1]", 11, 128, 0),
    "string": ("rep movsb", 11, 2, "rdi"),
    "divide by zero": ("div rcx", 8, 1, "rip"),
    "divide overflow": ("mov rdx, 0x7fff; mov rcx, 1; at2: idiv rcx", 8, 1, "rip"),
    "ud2": ("ud2", 4, 2, "rip"),
    "int3": ("int3", 5, 128, None),
    "hlt": ("hlt", 11, 128, 0),
    "push": ("mov rsp, 64; at2: push rdx", 11, 1, 56),
    "pop": ("mov rsp, 64; at2: pop rdx", 11, 1, 64),
    "call": ("mov rsp, 64; at2: call there", 11, 1, 56),
    "call through register": ("mov rsp, 64; at2: call rdx", 11, 1, 56),
    "call through memory": ("call [rax]", 11, 1, "rax"),
    "call through memory, bad stack": ("mov rsp, 64; at2: call [rip + data]", 11, 1, 56),
    "jmp through memory": ("jmp [rax + 16]", 11, 1, "rax + 16"),
    "jmp through rsp": ("mov rsp, 64; at2: jmp [rsp + 8]", 11, 1, 72),
    "ret": ("mov rsp, 64; at2: ret", 11, 1, 64),
    "ret with bytes": ("mov rsp, 64; at2: ret 32", 11, 1, 64),
    "leave": ("mov rbp, 64; at2: leave", 11, 1, 64),
    "rip-relative": ("mov rdx, [rip + data + 0x100000000000 - 0x100000000000 + 0x70000000]",
                     11, 1, None),
    "gs": ("mov rdx, gs:[0x30]", 11, 1, 0x30),
    "gs indirect": ("call gs:[rcx + 0x38]", 11, 1, 0x38),
    "x87": ("fld qword ptr [rax]", 11, 1, "rax"),
    "cmpxchg16b": ("cmpxchg16b [rax]", 11, 1, "rax"),
}  # fmt: skip


@pytest.mark.parametrize("instrumented", ["", "PRE", "POST"])
@pytest.mark.parametrize("name", CASES)
def test_faults(run_in_child: Child, name: str, instrumented: str) -> None:
    """Signal, code, address, bytes and all registers are those before the instruction."""

    def child(case: tuple[str, int, int, object], instrumented: str) -> None:
        import pytest

        import pydbi
        from pydbi.host.memory import map_memory
        from tests.vm.scenario import Scenario

        text, signal, si_code, where = case
        place = "at2" if "at2" in text else "at"
        labels = "at at2" if place == "at2" else "at"
        head = "add r8, 1; stc; std; lea r9, [r8 + r8]; cld; cmp r8, r9"
        scene = Scenario(
            "pydbi", f"{head}\nat: {text}\nnop\nthere: inc r8\nend: nop", labels + " there"
        )
        if instrumented:
            scene.add(instrumented, "x")
        values = {name: 0x1111 * n for n, name in enumerate(("r10", "r11", "r12", "r14"), 3)}
        values |= {
            "rax": 0x10_0000, "rbx": 1 << 63, "rcx": 0, "rdx": 0, "rsi": map_memory(4096, 1),
            "rdi": map_memory(4096, 1), "r8": 5, "r15": 77, "rbp": scene.data,
        }  # fmt: skip
        if "rep" in text:
            values["rcx"] = 3
        rsp = scene.gpr.rsp
        fpr = scene.vm.getFPRState()
        fpr.zmm1 = bytes(range(32))
        for _ in range(2):
            scene.set(rsp=rsp, **values)
            with pytest.raises(pydbi.GuestFault) as caught:
                scene.run()
            fault = caught.value
            rip = scene[place]
            assert (fault.signal, fault.si_code) == (signal, si_code)
            assert fault.app_address == scene.register("rip") == rip
            expected = dict(values, r8=6, r9=12, rsp=rsp, rip=rip)
            if place == "at2":
                assign = {"rsp": ("rsp", 64), "rbp": ("rbp", 64), "rdx": ("rdx", 0x7FFF)}
                register, value = assign[text.split()[1].strip(",")]
                expected[register] = value
                if register == "rdx":
                    expected["rcx"] = 1
            for register, value in expected.items():
                assert scene.register(register) == value, register
            flags = scene.register("eflags")
            assert flags & 0x8D5 == 0x95 | flags & 0x10  # CF, PF, SF of 6 - 12 (and AF)
            assert fpr.zmm1[:32] == bytes(range(32))
            if where is not None:
                address = eval(where, {}, expected) if isinstance(where, str) else where
                assert fault.fault_address == address
            size = len(fault.code)
            assert fault.code == bytes(scene._pages[rip - scene.base : rip - scene.base + size])
            assert size
            # The guest can go on somewhere else.
            assert scene.vm.run(scene["there"], scene["end"])
            assert scene.register("r8") == 7

    run_in_child(child, CASES[name], instrumented)


@pytest.mark.parametrize("target", ["0", "64", "0x7fff00000000", "1 << 63"])
@pytest.mark.parametrize("kind", ["jmp rax", "call rax", "push rax; ret", "jmp [rip + data]"])
def test_jump_to_nowhere(run_in_child: Child, kind: str, target: str) -> None:
    """A jump to where nothing is raises the fault of that address, the branch having been done."""

    def child(kind: str, target: str) -> None:
        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        address = eval(target)
        scene = Scenario("pydbi", f"nop\nat: {kind}\nnext: nop\nend: nop", "at next")
        scene._pages[0x8000:0x8008] = address.to_bytes(8, "little")
        rsp = scene.register("rsp")
        for _ in range(3):
            scene.set(rax=address, rsp=rsp)
            with pytest.raises(pydbi.GuestFault) as caught:
                scene.run()
            assert caught.value.signal == 11
            assert caught.value.app_address == address
            assert scene.register("rip") == address
            assert scene.register("rsp") == rsp - 8 * ("call" in kind)

    run_in_child(child, kind, target)


def test_code_that_may_not_be_executed(run_in_child: Child) -> None:
    """Jumping to data that is not executable is a fault, also after it was executable."""

    def child() -> None:
        import ctypes

        import pytest

        import pydbi
        from pydbi.host.memory import protect_memory
        from tests.jit.maze import machine, map_code

        vm = machine()
        page = map_code(4096)
        ctypes.memmove(page, b"\xb8\x07\x00\x00\x00\xc3", 6)
        for protection in (3, 1, 0):
            protect_memory(page, 4096, protection)
            vm.clearCache(page, page + 4096)
            with pytest.raises(pydbi.GuestFault) as caught:
                vm.call(page, [])
            fault = caught.value
            assert (fault.signal, fault.si_code) == (11, 2)
            assert fault.app_address == fault.fault_address == page
        protect_memory(page, 4096, 5)
        assert vm.call(page, []) == (True, 7)

    run_in_child(child)


def test_bus_error(run_in_child: Child) -> None:
    """Access past the end of a mapped file is SIGBUS."""

    def child() -> None:
        import ctypes
        import mmap
        import tempfile

        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        with tempfile.TemporaryFile() as file:
            file.truncate(8192)
            pages = mmap.mmap(file.fileno(), 8192)
            file.truncate(100)
        address = ctypes.addressof(ctypes.c_char.from_buffer(pages)) + 4096
        scene = Scenario("pydbi", "nop\nat: mov rdx, [rax + 8]\nend: nop", "at")
        scene.set(rax=address, rdx=5)
        with pytest.raises(pydbi.GuestFault) as caught:
            scene.run()
        assert (caught.value.signal, caught.value.si_code) == (7, 2)
        assert caught.value.fault_address == address + 8
        assert caught.value.app_address == scene["at"]
        assert scene.register("rdx") == 5

    run_in_child(child)


@pytest.mark.parametrize("instrumented", [False, True])
def test_fault_at_every_position(run_in_child: Child, instrumented: bool) -> None:
    """Wherever in a block of mixed instructions a load faults, rip and registers are exact."""

    def child(instrumented: bool) -> None:
        import pytest

        import pydbi
        from tests.vm.scenario import Scenario

        pieces = [
            "lea rbx, [rip + data]", "mov rcx, [rip + data]", "call f{n}; f{n}: pop rdx",
            "jmp j{n}; int3; j{n}: nop", "push rbx; pop rsi", "cmp rbx, 1; jz j{n}; j{n}: nop",
            "lea rdi, [rip + f{n}]; push rdi; ret; f{n}: nop", "nop dword ptr [rax + rax]",
            "mov rdi, fs:[0]", "cpuid; xor ecx, ecx",
        ]  # fmt: skip
        lines = []
        for number, piece in enumerate(pieces * 3):
            lines.append(f"l{number}: mov r10, [r11]; inc r12; {piece.format(n=number)}")
        count = len(lines)
        labels = " ".join(f"l{number}" for number in range(count))
        scene = Scenario("pydbi", "\n".join(lines) + "\nend: nop", labels)
        if instrumented:
            scene.add("PRE", "x")
            scene.add("POST", "y")
        word = scene.data + 0x100
        rsp = scene.register("rsp")
        broken = 0

        def break_pointer(
            vm: object, gpr: pydbi.GPRState, fpr: object, data: object
        ) -> pydbi.VMAction:
            gpr.r11 = 0x1000
            return pydbi.CONTINUE

        for number in range(count):
            identity = scene.vm.addCodeAddrCB(
                scene[f"l{number}"], pydbi.PREINST, break_pointer, None
            )
            for _ in range(2):
                scene.set(r10=99, r11=word, r12=0)
                with pytest.raises(pydbi.GuestFault) as caught:
                    scene.run()
                assert caught.value.app_address == scene[f"l{number}"] == scene.register("rip")
                assert scene.register("r12") == number
                assert scene.register("r10") == (0 if number else 99)
                assert scene.register("rsp") == rsp
                broken += 1
            scene.vm.deleteInstrumentation(identity)
            scene.set(r11=word)  # mended: it goes on where it was
            assert scene.vm.run(scene.register("rip"), scene["end"])
            assert scene.register("r12") == count
        assert broken == 2 * count

    run_in_child(child, instrumented)
