"""One test for each promise of ``docs/design/transparency.md``, named after it.

`tests/exec` compares whole processor states with native ones, over millions of instructions; here
each promise is shown by itself, at the gates, exits, faults and interruptions it could break at.
"""

from __future__ import annotations

import ast
import ctypes
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pydbi
from tests.child import ROOT
from tests.compat.harness import REGISTERS, RETURN, Guest, at
from tests.exec.native_runner import cpu_flags, vector_level
from tests.survive.host_traces import DUMP, PATTERN, guest_of, traces

STORE = "; ".join(f"mov [rip + data + {8 * n}], {name}" for n, name in enumerate(REGISTERS))
BRANCHES = """
    call f; lea rax, [rip + f]; call rax; mov [rip + data + 256], rax; call [rip + data + 256]
    lea rax, [rip + 1f]; jmp rax
 1: lea rax, [rip + 2f]; push rax; ret
 f: ret
 2:"""


def _noise(*_: object) -> Any:
    """A callback that uses what it can of the processor."""
    math.fsum([math.sin(0.5), 1e300, 1e-300])
    bytes(300).find(b"x")
    ctypes.set_errno(77)
    return pydbi.CONTINUE


def _before_and_after(g: Guest, callback: Callable[..., Any] = _noise) -> None:
    for position in (pydbi.PREINST, pydbi.POSTINST):
        g.vm.addCodeCB(position, callback, None)


def _watch(g: Guest) -> None:
    g.vm.addMemRangeCB(0, 1 << 47, pydbi.MEMORY_READ_WRITE, _noise, None)


INSTRUMENTS: dict[str, Callable[[Guest], object]] = {
    "nothing": lambda g: None,
    "callbacks": _before_and_after,
    "records": lambda g: g.vm.recordMemoryAccess(pydbi.MEMORY_READ_WRITE),
    "watch": _watch,
    "events": lambda g: g.vm.addVMEventCB(pydbi.SEQUENCE_EXIT | pydbi.SEQUENCE_ENTRY, _noise, None),
}
each_instrument = pytest.mark.parametrize("instruments", INSTRUMENTS)


@each_instrument
def test_general_registers(instruments: str) -> None:
    """All keep their values over branches, RIP-relative operands and gates, and in callbacks."""
    g = guest_of(f"mov r15, [rip + data + 512]; {BRANCHES}; lea rax, [rip + data]; {STORE}")
    INSTRUMENTS[instruments](g)
    for _ in range(2):
        g.set(r15=1)
        assert g.run()
        values = [g.data, *(0x1010101010101010 * (n + 1) for n in range(1, 15))]
        values[13] = int.from_bytes(bytes([PATTERN]) * 8, "little")
        stored = [int.from_bytes(g.read(8 * n, 8), "little") for n in range(15)]
        assert stored == values
        assert g.get("rsp") == g.stack_top


FLAGS = 0x8D5


@each_instrument
@pytest.mark.parametrize("flags", [0, FLAGS, 0x891, 0x44])
def test_flags(instruments: str, flags: int) -> None:
    """The arithmetic flags pass over everything that sets none; DF, AC and ID do so too."""
    g = guest_of(
        f"push {flags | 0x240402}; popfq; {BRANCHES}; mov rbx, [rip + data]; "
        "jrcxz end; pushfq; pop rdx; cld"
    )
    INSTRUMENTS[instruments](g)
    for _ in range(2):
        assert g.run()
        assert g.get("rdx") & (FLAGS | 0x240400) == flags | 0x240400


def test_the_stack() -> None:
    """Below rsp and above it nothing is written but what the guest pushes."""
    g = guest_of(
        f"nop; {BRANCHES}; mov rbx, [rip + data]; mov eax, 39; syscall; xor eax, eax; cpuid"
    )
    at_top = g.stack_top - g.data
    _before_and_after(g)
    for _ in range(2):
        assert g.run()
        size = 0x10000 - 0x8000
        pushed = set(range(at_top - 8, at_top))  # one word is ever in use
        changed = {n for n, byte in enumerate(g.read(0, size)) if byte != PATTERN}
        assert changed - pushed <= set(range(256, 264))


def test_return_addresses() -> None:
    """A call pushes the app address behind it, and a function may go where it finds out it is."""
    g = guest_of("""
        call f; a: call [rip + data]; b: call 1f; 1: pop rdx; jmp end
     f: mov rbx, [rsp]; lea rax, [rip + g]; mov [rip + data], rax; ret
     g: mov rcx, [rsp]; ret""")
    _before_and_after(g)
    assert g.run()
    assert g.get("rbx") == g["a"]
    assert g.get("rcx") == g["b"]
    assert g.get("rdx") == g["b"] + 5


@each_instrument
def test_its_own_code(instruments: str) -> None:
    """Code that reads itself finds the bytes that are there, through any kind of operand."""
    g = guest_of("""
     a: mov rbx, [rip + a]; lea rsi, [rip + a]; mov rcx, [rsi]; lodsq; movups xmm3, [rip + a]
        call 1f; 1: pop rdi; mov rdx, [rdi + a - 1b]""")
    INSTRUMENTS[instruments](g)
    for _ in range(2):
        assert g.run()
        own = g.code[:16]
        for name in ("rbx", "rcx", "rax", "rdx"):
            assert g.get(name).to_bytes(8, "little") == own[:8]
        assert bytes(g.vm.getFPRState().xmm3) == own


def test_code_that_changes() -> None:
    """What the guest writes over its own code is executed, also right behind the store."""
    g = guest_of("""
        mov ecx, 20
     a: mov byte ptr [rip + b + 1], cl; jmp b; b: mov al, 77; movzx eax, al; add rdx, rax
        loop a""")
    g.set(rdx=0)
    assert g.run()
    assert g.get("rdx") == sum(range(21))


@each_instrument
def test_rcx_and_r11_after_syscall(instruments: str) -> None:
    """rcx is the app address behind it, r11 the flags before it."""
    text = "; ".join(f"mov eax, {number}; xor ebx, ebx; syscall; a{number}: mov [rip + data + "
                     f"{16 * n}], rcx; mov [rip + data + {16 * n + 8}], r11"
                     for n, number in enumerate((39, 11, 334)))  # fmt: skip
    g = guest_of(f"xor edi, edi; xor esi, esi; {text}")
    INSTRUMENTS[instruments](g)
    for _ in range(2):
        assert g.run()
        for n, number in enumerate((39, 11, 334)):  # in place; through Python; unknown
            assert int.from_bytes(g.read(16 * n, 8), "little") == g[f"a{number}"]
            assert int.from_bytes(g.read(16 * n + 8, 8), "little") & 0xD5F == 0x246 & 0xD5F


def test_errno() -> None:
    """A callback's C code sets errno, and the guest, between two gates, finds its own."""
    place = ctypes.CDLL(None)["__errno_location"]
    place.restype = ctypes.c_size_t
    g = guest_of(f"mov rax, {place()}; mov dword ptr [rax], 34; nop; nop; mov ebx, [rax]")
    close = ctypes.CDLL(None)["close"]

    def fail(*_: object) -> Any:
        close(-1)
        return pydbi.CONTINUE

    _before_and_after(g, fail)
    assert g.run()
    assert g.get("rbx") == 34
    assert g.vm.getErrno() == 34


def test_mxcsr() -> None:
    """The guest's rounding holds in the guest only; flags that Python raises stay with Python."""
    g = guest_of("""
        mov dword ptr [rip + data], 0x7f80; ldmxcsr [rip + data]
        mov eax, 3; cvtsi2sd xmm0, eax; mov eax, 1; cvtsi2sd xmm1, eax; nop
        stmxcsr [rip + data + 8]; a: divsd xmm1, xmm0; stmxcsr [rip + data + 16]""")
    _before_and_after(g)
    thirds = at(g, "a", lambda gpr, fpr: 1.0 / (3.0 + fpr.mxcsr * 0))
    assert g.run()
    assert thirds == [1.0 / 3.0]
    assert g.read(8, 4) == bytes.fromhex("807f0000")  # nothing raised
    assert g.read(16, 4) == bytes.fromhex("a07f0000")  # inexact
    quotient = ctypes.c_double.from_buffer_copy(bytes(g.vm.getFPRState().xmm1)[:8]).value
    assert quotient == 1.0 / 3.0  # towards zero, which is the nearest here
    assert g.vm.getFPRState().mxcsr == 0x7FA0


def test_x87_and_mmx() -> None:
    """Eight registers, control and status hold across gates; MMX is the same registers."""
    g = guest_of("""
        fninit; mov word ptr [rip + data], 0xc7f; fldcw [rip + data]
        fld1; fldpi; fldl2e; fldz; fld1; fadd st(0), st(1); nop
        fstp qword ptr [rip + data + 8]; fstp st(0); fstp qword ptr [rip + data + 16]
        fstp qword ptr [rip + data + 24]; fnstcw [rip + data + 32]; fnstsw [rip + data + 34]
        emms; mov rax, 0x123456789abcdef; movq mm5, rax; nop; movq rbx, mm5; emms""")
    _before_and_after(g)
    for _ in range(2):
        assert g.run()
        values = [ctypes.c_double.from_buffer_copy(g.read(place, 8)).value for place in (8, 16, 24)]
        assert values == [1.0, math.log2(math.e), math.pi]
        assert g.read(32, 2) == b"\x7f\x0c"
        assert int.from_bytes(g.read(34, 2), "little") >> 11 & 7 == 7  # one register is left
        assert g.get("rbx") == 0x123456789ABCDEF


@each_instrument
@pytest.mark.parametrize("level", [1, 2])
def test_vector_registers(instruments: str, level: int) -> None:
    """Registers and opmasks, in full width, hold whatever Python executes in between."""
    if vector_level() < level:
        pytest.skip("this CPU has no AVX-512")
    kind, count, size = (("ymm", 16, 32), ("zmm", 32, 64))[level - 1]
    wide = level > 1
    lines = [f"vmovups {kind}{n}, [rip + data + {4096 + size * n}]" for n in range(count)]
    lines += [f"kmovq k{n}, [rip + data + {4096 + 8 * n}]" for n in range(8) if wide]
    lines += ["call f; jmp 1f; f: ret; 1: mov rbx, [rip + data]; mov eax, 39; syscall"]
    lines += [f"vmovups [rip + data + {size * n}], {kind}{n}" for n in range(count)]
    lines += [f"kmovq [rip + data + {2048 + 8 * n}], k{n}" for n in range(8) if wide]
    g = guest_of("\n".join(lines))
    content = bytes((7 * n + (n >> 8)) & 0xFF for n in range(count * size))
    INSTRUMENTS[instruments](g)
    for _ in range(2):
        g.write(4096, content)
        assert g.run()
        assert g.read(0, count * size) == content
        assert not wide or g.read(2048, 64) == content[:64]


def test_fs_and_gs() -> None:
    """The guest reads and sets its bases; operands use them; Python's own stay as they are."""
    if "fsgsbase" not in cpu_flags():
        pytest.skip("this kernel does not let programs set FS and GS")
    g = guest_of("""
        rdgsbase rdi; mov r8, gs; rdfsbase rsi; mov rbp, fs:[0]
        lea rax, [rip + data]; wrgsbase rax; lea rcx, [rip + data + 64]; wrfsbase rcx
        mov qword ptr [rax + 8], 11; mov qword ptr [rcx + 8], 22
        mov rbx, gs:[8]; mov rdx, fs:[8]; call f; add gs:[8], rbx; rdgsbase r9; rdfsbase r10
        jmp end; f: ret""")
    _before_and_after(g)
    threads = ctypes.pythonapi.PyThread_get_thread_ident
    threads.restype = ctypes.c_size_t
    assert g.run()
    assert (g.get("rdi"), g.get("r8")) == (0, 0)
    assert g.get("rsi") == g.get("rbp")  # the thread control block points to itself
    assert (g.get("rbx"), g.get("rdx")) == (11, 22)
    assert (g.get("r9"), g.get("r10")) == (g.data, g.data + 64)
    assert int.from_bytes(g.read(8, 8), "little") == 22
    assert threads() != g.data + 64


FAULTS = ("mov rax, [rbx]", "add [rbx], rcx", "movaps xmm1, [rbx + 8]", "call [rbx]", "div ebx",
          "push [rbx]", "rep movsb", "ud2", "jmp rbx", "lock xadd [rbx], rdx")  # fmt: skip


@each_instrument
@pytest.mark.parametrize("code", FAULTS)
def test_rip_in_faults(instruments: str, code: str) -> None:
    """A fault names the instruction's own address, with all registers as before it."""
    g = guest_of(f"mov rdx, [rip + data]; nop; bad: {code}\n nop")
    INSTRUMENTS[instruments](g)
    for _ in range(2):
        g.set(rbx=0, rsi=0, rdi=0, rdx=5, rcx=3, rax=6)
        with pytest.raises(pydbi.GuestFault) as caught:
            g.run()
        place = 0 if code == "jmp rbx" else g["bad"]
        assert caught.value.app_address == g.get("rip") == place
        assert [g.get(name) for name in ("rax", "rbx", "rcx", "rsi")] == [6, 0, 3, 0]
        assert g.get("rdx") == int.from_bytes(bytes([PATTERN]) * 8, "little")
        assert g.get("rsp") == g.stack_top


def test_refused_not_approximated() -> None:
    """What is not translated is an error when it is reached, after all that stands before it."""
    g = guest_of("mov ebx, 1; jrcxz b; jmp end; b: mov ebx, 2; retf")
    g.set(rcx=1)
    assert g.run()
    assert g.get("rbx") == 1
    g.set(rcx=0)
    with pytest.raises(pydbi.UnsupportedInstruction) as caught:
        g.run()
    assert g.get("rbx") == 2
    assert caught.value.app_address == g.get("rip") == g["b"] + 5


def test_not_executable() -> None:
    """Code on a page that may not be executed is a fault at its address, as natively."""
    g = guest_of("lea rax, [rip + data]; jmp rax")
    g.write(0, RETURN)
    page = ctypes.CDLL(None).mprotect
    page.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    assert page(g.data, 0x8000, 3) == 0
    with pytest.raises(pydbi.GuestFault) as caught:
        g.run()
    fault = caught.value
    assert (fault.signal, fault.si_code, fault.fault_address) == (11, 2, g.data)
    assert g.get("rip") == g.data


def test_transactions() -> None:
    """xbegin aborts at once; on a processor without transactions it is an invalid instruction."""
    g = guest_of("mov ebx, 1; xbegin aborted; mov ebx, 2; xend; jmp end; aborted: mov ebx, 3")
    if "rtm" in cpu_flags():
        assert g.run()
        assert g.get("rbx") == 3
    else:
        with pytest.raises(pydbi.GuestFault) as caught:
            g.run()
        assert caught.value.signal == 4
        assert g.get("rbx") == 1


def test_nothing_of_the_host() -> None:
    """A guest that stores all it can see of itself sees no address of pydbi's.

    `test_transparency_traces` does this after everything that can happen to a guest.
    """
    from tests.survive.host_traces import DUMPING

    g = guest_of(f"{BRANCHES}; mov eax, 39; syscall; {DUMPING}")
    _before_and_after(g)
    assert g.run()
    assert g.read(DUMP + 8, 8) != bytes([PATTERN]) * 8
    assert traces(g) == []


def test_pages() -> None:
    """No page of a VM is writable and executable with `mapCodeTwice`.

    `test_transparency_pages` looks at every mapping.
    """

    def writable_code() -> set[str]:
        with open("/proc/self/maps") as lines:
            return {line.split()[0] for line in lines if "wx" in line.split()[1]}

    before = writable_code()  # other tests' in the same process
    g = guest_of("inc rbx")
    g.vm.mapCodeTwice = True
    assert g.run()
    assert {
        span for span in writable_code() - before if not span.startswith(f"{g.base:x}-")
    } == set()


# The list and the tests agree.

DOCUMENT = ROOT / "docs" / "design" / "transparency.md"


def promises() -> set[str]:
    """The names of tests for the paragraphs under "Promised"."""
    text = DOCUMENT.read_text(encoding="utf-8").split("## Promised")[1].split("\n## ")[0]
    names = re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE | re.DOTALL)
    return {"test_" + "_".join(re.findall(r"[a-z0-9]+", name.lower())) for name in names}


def test_each_promise_has_its_test() -> None:
    """Each paragraph of the list has a test of its name here, and each test its paragraph."""
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    tests = {name for name in tests if name.startswith("test_")}
    assert len(promises()) > 15
    assert tests - {"test_each_promise_has_its_test"} == promises()
