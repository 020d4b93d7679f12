"""Signals that an instruction raises: what the kernel says natively, GuestFault says too."""

from __future__ import annotations

import ctypes
import pickle
import random
import signal
import struct
from collections.abc import Callable
from typing import Any

import pytest

import pydbi
from tests.compat.harness import BASE, DATA, REGISTERS, Guest
from tests.exec.machine_state import FLAGS_COMPARED, random_word
from tests.survive.native_fault import native_fault

_PRIVATE_ANONYMOUS_FIXED_NOREPLACE = 0x02 | 0x20 | 0x100000
UNMAPPED, NON_CANONICAL = 0x10_0000, 1 << 63
_SETUP = "mov dword ptr [rip + data], {}; ldmxcsr [rip + data]; pxor xmm0, xmm0; pxor xmm1, xmm1; "
_X87 = "fninit; mov word ptr [rip + data], {}; fldcw [rip + data]; "

# rax is not mapped, rbx not canonical, rcx and rdx are 0; what stands before `at` is executed.
CASES = {
    "read": "mov rdx, [rax]",
    "read and write": "lock xadd [rax + 8], rsi",
    "read of a non-canonical address": "mov rdx, [rbx]",
    "the same through the stack segment": "mov rdx, [rsp + rbx]",
    "vector load": "movups xmm3, [rax - 16]",
    "page border": "mov rsi, [rip + data + 0x7ffd]",
    "string": "mov rdi, rax; mov ecx, 5; at: rep stosq",
    "string, after some rounds": "lea rdi, [rip + data + 0x7ff0]; mov ecx, 5; at: rep stosq",
    "misaligned vector": "movaps xmm0, [rsp + 1]",
    "misaligned CMPXCHG16B": "cmpxchg16b [rsp + 1]",
    "misaligned, with AC": "push 0x40202; popfq; at: mov rdx, [rsp + 1]",
    "push": "mov rsp, rax; at: push rbx",
    "pop": "mov rsp, rax; at: pop rbx",
    "pop into memory": "push rbx; at: pop qword ptr [rax]",
    "enter": "mov rsp, rax; at: enter 8, 0",
    "leave": "mov rbp, rax; at: leave",
    "ret": "mov rsp, rax; at: ret",
    "call, bad stack": "mov rsp, rax; at: call end",
    "call through memory": "call [rax]",
    "pushfq, popfq": "mov rsp, rax; at: popfq",
    "division by zero": "div rcx",
    "division overflow": "mov edx, 5; mov ecx, 5; at: div rcx",
    "SSE: division by zero": _SETUP.format(0x1D80) + "mov esi, 1; cvtsi2ss xmm0, esi; at: divss "
    "xmm0, xmm1",
    "SSE: invalid": _SETUP.format(0x1F00) + "at: divps xmm0, xmm1",
    "SSE: inexact": _SETUP.format(0xF80) + "mov esi, 1; cvtsi2ss xmm0, esi; mov esi, 3; "
    "cvtsi2ss xmm1, esi; at: divss xmm0, xmm1",
    "x87: division by zero": _X87.format(0x37B) + "fldz; fld1; fdiv st, st(1); at: fwait",
    "x87: reported by the next": _X87.format(0x37B) + "fldz; fld1; fdiv st, st(1); at: fld1",
    "x87: invalid": _X87.format(0x37E) + "fldz; fldz; fdivrp st(1), st; at: fwait",
    "UD2": "ud2",
    "UD1": ".byte 0x0f, 0xb9, 0xc0",
    "UD0": ".byte 0x0f, 0xff, 0xc0",
    "ICEBP": ".byte 0xf1",
    "INT n": "int 0x21",
    "HLT": "hlt",
    "CLI": "cli",
    "IN": "in al, dx",
    "a move from CR0": "mov rax, cr0",
    "XSETBV": "xsetbv",
    "SWAPGS": "swapgs",
    "MONITOR": "monitor",
    "a selector of the kernel's": "mov eax, 8; at: mov ds, eax",
    "a jump to nowhere": "jmp rax",
    "a call of nothing": "call rax",
    "a return to nowhere": "push rax; ret",
    "a jump to data": f"lea rdx, [rip + data + {0x8000}]; jmp rdx",
}
MODES: dict[str, Callable[[pydbi.VM], Any]] = {
    "plain": lambda vm: None,
    "callbacks": lambda vm: [
        vm.addCodeCB(position, lambda *_: pydbi.CONTINUE, None)
        for position in (pydbi.PREINST, pydbi.POSTINST)
    ],
    "records": lambda vm: vm.recordMemoryAccess(pydbi.MEMORY_READ_WRITE),
}
_COMPARED = (*REGISTERS, "rsp", "rip")


def guest_of(text: str, address: int, mode: str = "plain") -> Guest:
    """The case's code, with data behind it that is not executable, and random registers."""
    g = Guest(pydbi, f"{text}\nnop", at=address)
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(g.data), 0x8000, 3)
    MODES[mode](g.vm)
    rng = random.Random(text)
    g.set(**{name: random_word(rng) for name in REGISTERS})
    g.set(rax=UNMAPPED, rbx=NON_CANONICAL, rcx=0, rdx=0, rsp=g.stack_top - 64, eflags=0x202)
    return g


def registers_of(g: Guest) -> dict[str, int]:
    """The registers to begin with, natively."""
    found = {name: g.get(name) for name in (*_COMPARED, "eflags")}
    return {**found, "rip": g["start"]}


@pytest.mark.parametrize("name", CASES)
def test_as_the_kernel_says(name: str) -> None:
    """Signal, si_code, address and all registers are the native ones, in each mode."""
    for number, mode in enumerate(MODES):
        g = guest_of(CASES[name], BASE - (number + 1 << 32), mode)
        begin = registers_of(g)
        memory = ctypes.string_at(g.data, DATA)
        native = native_fault(begin)
        for _ in range(2):
            ctypes.memmove(g.data, memory, DATA)
            g.set(**{register: value for register, value in begin.items() if register != "rip"})
            with pytest.raises(pydbi.GuestFault) as caught:
                g.run()
            fault = caught.value
            said = (fault.signal, fault.si_code, fault.fault_address)
            assert said == (native.signal, native.si_code, native.address), mode
            for register in _COMPARED:
                assert g.get(register) == native.registers[register], (mode, register)
            flags = g.get("eflags") ^ native.registers["eflags"]
            assert not flags & FLAGS_COMPARED, (mode, hex(flags))
            assert fault.app_address == native.registers["rip"]
            assert signal.Signals(native.signal).name in str(fault)


def test_breakpoints() -> None:
    """INT3 leaves rip at itself, where a debugger's user wants it; natively it is behind."""
    for number, text in enumerate(("int3", ".byte 0xcd, 3")):
        g = guest_of(text, BASE - (number + 1 << 32))
        native = native_fault(registers_of(g))
        with pytest.raises(pydbi.GuestFault) as caught:
            g.run()
        assert (caught.value.signal, caught.value.si_code) == (signal.SIGTRAP, native.si_code)
        assert caught.value.app_address == g.get("rip") == g["start"]
        assert native.registers["rip"] == g["start"] + number + 1


MISDECODED = {
    "an opcode that 64-bit mode has not": "06",
    "an opcode that nobody has": "0f04",
    "LOCK on registers": "f001c0",
    "LOCK on NOP": "f090",
    "a prefix before VEX": "66c5f877",
    "INTO": "ce",
}


@pytest.mark.parametrize("name", MISDECODED)
def test_no_instruction(name: str) -> None:
    """Where the processor raises SIGILL because the bytes mean nothing, it is a DecodeError."""
    code = bytes.fromhex(MISDECODED[name])
    text = f"inc rsi\nat: .byte {', '.join(map(hex, code))}"
    for number, mode in enumerate(MODES):
        g = guest_of(text, BASE - (number + 1 << 32), mode)
        native = native_fault(registers_of(g))
        assert (native.signal, native.registers["rip"]) == (signal.SIGILL, g["at"])
        for _ in range(2):
            rsi = g.get("rsi")
            with pytest.raises(pydbi.DecodeError) as caught:
                g.run()
            assert caught.value.app_address == g.get("rip") == g["at"]
            assert caught.value.code.startswith(code)
            assert g.get("rsi") == rsi + 1  # what stands before is executed
            assert g.vm.run(g["at"] + len(code), g["end"])


def test_random_faults() -> None:
    """Random loads and stores that fault in the midst of a block, wherever they stand."""
    rng = random.Random(8)
    names = [name for name in REGISTERS if name != "rax"]
    for number in range(40):
        lines = []
        for _ in range(rng.randrange(12)):
            first, second = rng.sample(names, 2)
            lines.append(rng.choice((
                "add {0}, {1}", "lea {0}, [{0} + {1} * 2]", "mov [rip + data + 8], {0}",
                "push {0}; pop {1}", "xor {0}, [rip + data + 8]", "adc {0}, 5", "bswap {1}",
                "movq xmm5, {0}; paddq xmm5, xmm5; movq {1}, xmm5", "xchg {0}, {1}",
            )).format(first, second))  # fmt: skip
        faulting = rng.choice((
            "mov {0}, [rax]", "add [rax + 24], {0}", "cmp byte ptr [rax], 7", "movups xmm1, [rax]",
            "push qword ptr [rax]", "bts qword ptr [rax], 5", "xchg [rax], {0}",
            "imul {0}, [rax], 77", "sbb {0}, [rax - 9]",
        )).format(rng.choice(names))  # fmt: skip
        text = "\n".join([*lines, f"at: {faulting}", *lines])
        g = guest_of(text, BASE - (number + 1 << 32), rng.choice(list(MODES)))
        begin = registers_of(g)
        native = native_fault(begin)
        with pytest.raises(pydbi.GuestFault) as caught:
            g.run()
        assert caught.value.fault_address == native.address
        for register in _COMPARED:
            assert g.get(register) == native.registers[register], (text, register)
        assert not (g.get("eflags") ^ native.registers["eflags"]) & FLAGS_COMPARED, text
        g.set(rax=g.data + 0x4000)  # mended
        assert g.vm.run(g["at"], g["end"])


def test_mended_by_mapping() -> None:
    """A guest that touches one missing page after the other goes on when each is mapped."""
    g = Guest(pydbi, "a: add [rdi], rcx; mov rdx, [rdi]; add rdi, 4096; dec rcx; jnz a")
    first = 0x90_0000_0000
    g.set(rdi=first, rcx=50)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    libc.mmap.restype = ctypes.c_void_p
    faults = []
    start = g["start"]
    places = set()
    while True:
        try:
            assert g.vm.run(start, g["end"])
            break
        except pydbi.GuestFault as fault:
            faults.append(fault.fault_address)
            mapped = libc.mmap(fault.fault_address, 4096, 3, 0x100022, -1, 0)
            assert mapped == faults[-1]
            start = g.get("rip")
            places.add((start, fault.app_address))
    assert places == {(g["a"], g["a"])}
    assert faults == [first + 4096 * number for number in range(50)]
    words = [ctypes.c_uint64.from_address(address).value for address in faults]
    assert words == list(range(50, 0, -1))


def test_thousands_of_faults() -> None:
    """Faults are ordinary: thousands of them, in calls and runs, leave nothing behind."""
    g = Guest(pydbi, "f: mov rax, [rdi]; ret")
    word = ctypes.c_uint64(77)
    for number in range(3000):
        with pytest.raises(pydbi.GuestFault) as caught:
            g.vm.call(g["f"], [8 * (number % 100)])
        assert caught.value.fault_address == 8 * (number % 100)
        g.set(rsp=g.stack_top)
        assert g.vm.call(g["f"], [ctypes.addressof(word)]) == (True, 77)
    assert g.vm.stats.faults == 3000


def test_a_fault_tells_all() -> None:
    """The instruction is an InstAnalysis; the text has its disassembly and the registers."""
    g = Guest(pydbi, "inc rsi\nat: mov rdx, qword ptr [rax + 8]")
    g.set(rax=0x100000, rsi=0x1234)
    with pytest.raises(pydbi.GuestFault) as caught:
        g.run()
    fault = caught.value
    assert fault.instruction.address == g["at"]
    assert fault.instruction.mnemonic == "MOV64rm"
    text = str(fault)
    for part in ("SIGSEGV", "0x100008", fault.instruction.disassembly.strip(), "rax", "0x1235"):
        assert part in text


def test_exceptions_are_values() -> None:
    """They are one family, say all in their text, and pickle."""
    for number, text in enumerate(("mov rdx, [rax]", ".byte 6", "ljmp [rsp]")):
        g = guest_of(text, BASE - (number + 1 << 32))
        with pytest.raises(pydbi.PydbiError) as caught:
            g.run()
        error = caught.value
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), again.app_address, again.code) == (
            str(error), error.app_address, error.code
        )  # fmt: skip
        assert f"{g['start']:#x}" in str(error)
        assert error.code
        assert ctypes.string_at(g["start"], len(error.code)) == error.code


def test_vectors_at_a_fault() -> None:
    """ymm registers, x87 and MXCSR at a fault are what the guest has put there."""
    text = "vmovups ymm7, [rip + data]; fld qword ptr [rip + data + 8]; ldmxcsr [rip + data + 64]"
    g = Guest(pydbi, f"{text}\nat: mov rax, [rcx]")
    values = struct.pack("<4d", 1.5, 2.5, -3.5, 4.5)
    g.write(0, values)
    g.write(64, struct.pack("<I", 0x7F80))
    g.set(rcx=8)
    with pytest.raises(pydbi.GuestFault):
        g.run()
    fpr: Any = g.vm.getFPRState()
    assert fpr.xmm7 + fpr.ymm7 == values
    assert fpr.mxcsr == 0x7F80
    assert fpr.stmm0.st == bytes.fromhex("00000000000000a00040")
