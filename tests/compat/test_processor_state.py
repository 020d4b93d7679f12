"""What callbacks see of the processor, and that what they set counts."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.harness import REGISTERS, Guest, at, either, wrong

Make = Callable[..., Guest]


def set_register(name: str, value: int) -> Callable[[Any, Any], Any]:
    return lambda gpr, fpr: setattr(gpr, name, value)


def test_registers_are_seen(guest: Make) -> None:
    """A callback sees the registers before the instruction, and the next one its result."""
    lines = "\n".join(f"at_{name}: add {name}, 5" for name in REGISTERS)
    g = guest(lines)
    g.set(**{name: 37 + n for n, name in enumerate(REGISTERS)})

    def values(gpr: Any, fpr: Any) -> list[int]:
        return [getattr(gpr, name) for name in REGISTERS]

    before = [at(g, f"at_{name}", values) for name in REGISTERS]
    after = [at(g, f"at_{name}", values, "POST") for name in REGISTERS]
    assert g.run()
    for done, (log, later) in enumerate(zip(before, after, strict=True)):
        assert log == [[37 + n + 5 * (n < done) for n in range(15)]]
        assert later == [[37 + n + 5 * (n <= done) for n in range(15)]]


@pytest.mark.parametrize("position", ["PRE", "POST"])
def test_registers_can_be_set(guest: Make, position: str) -> None:
    """What a callback writes into a register is what the guest goes on with."""
    lines = [
        f"at_{name}: add {name}, 5; mov [rip + data + {8 * n}], {name}"
        for n, name in enumerate(REGISTERS)
    ]
    g = guest("\n".join(lines))
    for n, name in enumerate(REGISTERS):
        at(g, f"at_{name}", set_register(name, 1000 + n), position)
    assert g.run()
    expected = [1000 + n + (5 if position == "PRE" else 0) for n in range(15)]
    assert list(struct.unpack("<15Q", g.read(0, 120))) == expected
    assert [g.get(name) for name in REGISTERS] == expected


def test_register_can_be_set_by_index(guest: Make) -> None:
    """So it is by index."""
    g = guest("a: inc rbx")
    at(g, "a", lambda gpr, fpr: gpr.__setitem__(1, 10))
    assert g.run()
    assert g.get("rbx") == 11


def test_all_registers_survive_callbacks(guest: Make) -> None:
    """A callback that does much changes nothing of the guest."""
    g = guest("a: nop\nb: nop\nc: nop")
    values = {name: 0x0123456789ABCDEF + n for n, name in enumerate(REGISTERS)}
    g.set(**values, eflags=0xAD7)
    g.vm.getFPRState().xmm7 = b"0123456789abcdef"

    def work(gpr: Any, fpr: Any) -> float:
        return sum(float(x) ** 0.5 for x in range(100)) + len(str(copy.copy(gpr)))

    for label in "abc":
        at(g, label, work)
        at(g, label, work, "POST")
    assert g.run()
    assert {name: g.get(name) for name in REGISTERS} == values
    assert g.get("eflags") == 0xAD7
    assert g.vm.getFPRState().xmm7 == b"0123456789abcdef"
    assert g.get("rsp") == g.stack_top


def test_states_are_live(guest: Make) -> None:
    """A state that is kept shows the present, also later."""
    g = guest("a: mov eax, 1\nb: mov eax, 2\nc: nop")
    g.set(rax=0)
    kept: list[Any] = []
    for label in "abc":
        at(g, label, lambda gpr, fpr: kept.append(gpr) or gpr.rax)
    seen = at(g, "c", lambda gpr, fpr: [state.rax for state in kept])
    assert g.run()
    assert seen == [[2, 2, 2]]
    assert kept[0] is kept[1] is kept[2]


def test_state_from_before_the_run(guest: Make, qbdi: Any) -> None:
    """A state taken from the VM before a run shows the present during the run too."""
    g = guest("a: mov eax, 1\nb: mov eax, 2\nc: nop")
    g.set(rax=0)
    outside = g.vm.getGPRState()
    seen = [at(g, label, lambda gpr, fpr: (outside.rax, gpr.rax)) for label in "abc"]
    assert g.run()
    late = either(qbdi, pyqbdi=[0, 0, 0], right=[0, 1, 2], reason="it changes when the run ends")
    assert [log[0] for log in seen] == list(zip(late, [0, 1, 2], strict=True))
    assert outside.rax == 2


def test_state_of_a_callback_after_the_run(guest: Make, qbdi: Any) -> None:
    """A state kept from a callback goes on to be the VM's."""
    g = guest("a: mov eax, 1")
    kept: list[Any] = []
    at(g, "a", lambda gpr, fpr: kept.append(gpr))
    assert g.run()
    assert kept[0].rax == 1
    g.set(rax=99)
    late = either(qbdi, pyqbdi=1, right=99, reason="it stays as it was at the end of the run")
    assert kept[0].rax == late


def test_copy_in_a_callback(guest: Make) -> None:
    """A copied state keeps the past."""
    g = guest("a: mov eax, 1\nb: mov eax, 2\nc: nop")
    g.set(rax=0)
    kept: list[Any] = []
    for label in "abc":
        at(g, label, lambda gpr, fpr: kept.append(copy.copy(gpr)))
    assert g.run()
    assert [state.rax for state in kept] == [0, 1, 2]


def test_set_state_in_a_callback(guest: Make) -> None:
    """setGPRState in a callback counts as setting the registers one by one."""
    g = guest("a: mov rbx, rax\nb: mov rcx, rax")
    g.set(rax=1)

    def change(gpr: Any, fpr: Any) -> None:
        state = copy.copy(gpr)
        state.rax = 66
        g.vm.setGPRState(state)

    at(g, "b", change)
    assert g.run()
    assert (g.get("rbx"), g.get("rcx")) == (1, 66)


FLAGS = {
    # code: eflags after it, from 0x202
    "stc": 0x203, "xor eax, eax": 0x246, "std": 0x602, "mov al, 127; inc al": 0xA92,
    "mov al, 255; add al, 1": 0x257, "mov eax, 1; dec eax": 0x246, "mov al, 3; test al, al": 0x206,
    "mov al, 128; shl al, 1": 0xA47,
}  # fmt: skip


@pytest.mark.parametrize("code", FLAGS)
def test_flags_are_seen(guest: Make, code: str) -> None:
    """A callback sees the flags that the guest's last instruction left."""
    g = guest(f"{code}\nhere: nop")
    g.set(eflags=0x202)
    seen = at(g, "here", lambda gpr, fpr: gpr.eflags & ~0x10 | FLAGS[code] & 0x10)
    assert g.run()
    assert seen == [FLAGS[code]]


@pytest.mark.parametrize(
    ("bit", "code"), [(1, "setc"), (4, "setp"), (0x40, "setz"), (0x80, "sets"), (0x800, "seto")]
)
@pytest.mark.parametrize("value", [0, 1])
def test_flags_can_be_set(guest: Make, bit: int, code: str, value: int) -> None:
    """Flags that a callback writes are the guest's."""
    g = guest(f"a: nop\nhere: {code} al")
    g.set(rax=0, eflags=0x202 if value else 0xAD7)
    at(g, "here", lambda gpr, fpr: setattr(gpr, "eflags", gpr.eflags & ~bit | bit * value))
    assert g.run()
    assert g.get("rax") == value


def test_a_branch_can_be_turned(guest: Make) -> None:
    """So a callback decides where a conditional branch goes."""
    g = guest("xor eax, eax\nbranch: jz there\ninc rbx\nthere: nop")
    g.set(rbx=0)
    at(g, "branch", lambda gpr, fpr: setattr(gpr, "eflags", gpr.eflags & ~0x40))
    assert g.run()
    assert g.get("rbx") == 1


def test_stack_pointer_can_be_moved(guest: Make) -> None:
    """rsp set in a callback is where the guest pushes."""
    g = guest("a: nop\nb: push rax")
    g.set(rax=7)
    at(g, "b", set_register("rsp", g.data + 0x100))
    assert g.run()
    assert g.read(0xF8, 8) == (7).to_bytes(8, "little")
    assert g.get("rsp") == g.data + 0xF8


def test_argument_of_a_function(guest: Make) -> None:
    """A callback at a function's entry changes its argument, one at its return the result."""
    g = guest("function: lea rax, [rdi + rdi]\nlast: ret")
    at(g, "function", lambda gpr, fpr: setattr(gpr, "rdi", gpr.rdi + 1))
    at(g, "last", lambda gpr, fpr: setattr(gpr, "rax", gpr.rax * 10))
    assert g.vm.call(g.base, [20]) == (True, 420)


def test_return_address_can_be_changed(guest: Make) -> None:
    """A callback before ret may put another address on the stack."""
    g = guest("call f\ninc rbx\nthere: jmp end\nf: nop\nback: ret")
    g.set(rbx=0)
    at(g, "back", lambda gpr, fpr: g.qbdi.writeRword(gpr.rsp, g["there"]))
    assert g.run()
    assert g.get("rbx") == 0


def test_memory_in_a_callback(guest: Make) -> None:
    """A callback sees what the guest stored, and the guest what the callback stored."""
    g = guest("mov qword ptr [rip + data], 5\nb: mov rax, [rip + data]")
    seen = at(g, "b", lambda gpr, fpr: g.qbdi.readRword(g.data))
    at(g, "b", lambda gpr, fpr: g.qbdi.writeRword(g.data, 6))
    assert g.run()
    assert (seen, g.get("rax")) == ([5], 6)


def test_syscall(guest: Make, qbdi: Any) -> None:
    """A system call is executed, with callbacks before and after it; rcx and r11 are changed."""
    import os

    g = guest("mov eax, 39\nb: syscall\nc: nop")
    g.set(eflags=0x202, rcx=5)
    before = at(g, "b", lambda gpr, fpr: gpr.rax)
    after = at(g, "b", lambda gpr, fpr: gpr.rax, "POST")
    assert g.run()
    assert (before, after) == ([39], [os.getpid()])
    assert g.get("r11") & ~0x54 == 0x202
    if not wrong(qbdi, "rcx is an address in its cache"):
        assert g.get("rcx") == g["c"]


def test_processor_identification(guest: Make) -> None:
    """cpuid works: leaf 0 gives the vendor's name."""
    g = guest("xor eax, eax; cpuid; mov [rip + data], ebx; mov [rip + data + 4], edx")
    assert g.run()
    assert g.read(0, 8) in (b"AuthenticAMD"[:8], b"GenuineIntel"[:8])


def test_time_stamp(guest: Make) -> None:
    """rdtsc counts up."""
    g = guest("rdtsc; shl rdx, 32; or rax, rdx; mov rbx, rax; rdtsc; shl rdx, 32; or rax, rdx")
    assert g.run()
    assert 0 < g.get("rbx") < g.get("rax")
