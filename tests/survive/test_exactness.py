"""A guest that is interrupted is at an instruction boundary, its state exact to the last bit."""

from __future__ import annotations

import ctypes
import random
import threading
from typing import Any

import pytest

import pydbi
from tests.compat.harness import Guest
from tests.exec.snippets import Snippet
from tests.survive.kicker import Kicker
from tests.survive.loops import Loops, Start, loop, random_loops

_GO_ON = pydbi.CONTINUE
_MILLISECONDS = 4
_NEVER = 1 << 30


def _go_on(*_: object) -> pydbi.VMAction:
    return _GO_ON


def _watch(vm: pydbi.VM) -> None:
    vm.addMemRangeCB(0x1000, 0x2000, pydbi.MEMORY_READ_WRITE, _go_on, None)


INSTRUMENTS = {
    "nothing": lambda vm: None,
    "records": lambda vm: vm.recordMemoryAccess(pydbi.MEMORY_READ_WRITE),
    "watch": _watch,
    "transfers": lambda vm: vm.addVMEventCB(pydbi.EXEC_TRANSFER_CALL, _go_on, None),
    "some callbacks": lambda vm: vm.addMnemonicCB("*XCHG*", pydbi.PREINST, _go_on, None),
}
CASES = [
    # family, place, instruments, milliseconds of the native loop
    ("branches", "near", "nothing", 5),
    ("branches", "distant", "records", 1),
    ("integer", "near", "nothing", 5),
    ("integer", "distant", "watch", 1),
    ("stack", "distant", "nothing", 5),
    ("strings", "near", "nothing", 5),
    ("vector", "distant", "records", 1),
    ("x87", "near", "nothing", 5),
    ("system", "distant", "nothing", 2),
    ("mixed", "near", "transfers", 3),
    ("mixed", "distant", "some callbacks", 0.2),
    ("mixed", "near", "records", 1),
]


def interrupt(
    loops: Loops, vm: pydbi.VM, share: int = 8, milliseconds: float = _MILLISECONDS
) -> int:
    """Run all *loops* under fire and return how often they were interrupted.

    One in *share* interrupted states is checked, and each end.
    """
    kicker = Kicker(vm)
    for start in loops.starts(milliseconds):
        _interrupt_loop(start, vm, kicker, share)
    return kicker.count


def _interrupt_loop(start: Start, vm: pydbi.VM, kicker: Kicker, share: int) -> None:
    def look(app: int) -> None:
        if not kicker.count % share:
            start.check_interrupted(vm)

    start.prepare(vm)
    with kicker.kicking(look, 100):
        assert vm.run(start.start, start.stop)
    start.check_end(vm)


@pytest.mark.parametrize(("family", "place", "instruments", "milliseconds"), CASES)
def test_random_loops(family: str, place: str, instruments: str, milliseconds: float) -> None:
    """Going on natively from where it was interrupted leads to the end that natively it has."""
    loops = Loops(random_loops(family, range(6)), place)
    vm = loops.machine(pydbi)
    INSTRUMENTS[instruments](vm)
    assert interrupt(loops, vm, 8, milliseconds) > 10


GS = """
    lea rax, [rip + data + 4096]; wrgsbase rax
    mov rbx, gs:[8]; add gs:[16], rbx; xor edx, edx; movups xmm1, gs:[rdx + 24]
    push qword ptr gs:[40]; pop qword ptr gs:[48]; inc dword ptr gs:[rdx + 4]
    mov esi, 3; lock xadd gs:[rsi + 8], rdi; lea r8, [rip + L@_1]; mov gs:[200], r8
    call gs:[200]; jmp L@_2; L@_1: ret; L@_2: xor eax, eax; wrgsbase rax"""
FAR = """
    add [rip + data + 4096], rbx; mov rcx, [rip + data + 4104]; adc r9, [rip + data + 4096]
    push qword ptr [rip + data + 4104]; pop qword ptr [rip + data + 4112]; rol r9, 7
    vpaddq ymm3, ymm4, [rip + data + 4128]; vmovups [rip + data + 4160], ymm3
    lea rdi, [rip + L@_1]; mov [rip + data + 512], rdi; call [rip + data + 512]; jmp L@_2
    L@_1: imul rbx, r9; ret; L@_2: xor rbx, rcx"""


@pytest.mark.parametrize("text", [GS, FAR], ids=["GS", "RIP out of reach"])
@pytest.mark.parametrize("records", [False, True])
def test_borrowed_registers(text: str, records: bool) -> None:
    """The registers that translations borrow for such operands are given back."""
    groups = [line.strip().split(";") for line in text.strip().splitlines()]
    snippet = loop(Snippet("fixed", 1, groups, {}, "r15"))
    # The processor cannot go on natively from a state with a GS base, nor may ticks come there.
    gs = text is GS
    loops = Loops([snippet], "near" if gs else "distant")
    vm = loops.machine(pydbi)
    if records:
        vm.recordMemoryAccess(pydbi.MEMORY_READ_WRITE)
    assert interrupt(loops, vm, _NEVER if gs else 2, 10) > 5


FLAGS_READ = {
    "behind an indirect call": (
        "lea rax, [rip + f]; a: call rax; dec rcx; jnz a; jmp end; f: {}; ret"
    ),
    "behind an indirect jump": (
        "lea rax, [rip + f]; lea rbx, [rip + b]; a: jmp rax; b: dec rcx; jnz a; jmp end; f: {};"
        "jmp rbx"
    ),
    "behind a return": "a: call f; {}; dec rcx; jnz a; jmp end; f: ret",
    "twice": "a: {0}; {0}; dec rcx; jnz a",
    "behind POPFQ": "a: push 0x202; popfq; {}; dec rcx; jnz a",
    "behind a move to SS": "mov ebx, ss; a: mov ss, ebx; {}; dec rcx; jnz a",
}


READERS = {
    "PUSHFQ": ("pushfq; pop r8; or r9, r8", 400_000),
    "SYSCALL": (
        "mov r8, rcx; mov r10, rax; mov eax, 39; syscall; mov rcx, r8; mov rax, r10; or r9, r11",
        50_000,
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", FLAGS_READ)
def test_no_trap_flag_shows(name: str, reader: str) -> None:
    """The guest is brought to a boundary by single steps, and never sees the trap flag set."""
    text, rounds = READERS[reader]
    g = Guest(pydbi, FLAGS_READ[name].format(text))
    g.set(rcx=rounds, r9=0)
    kicker = Kicker(g.vm, longest=40_000)
    with kicker.kicking(most=60):
        assert g.run()
    assert g.get("rcx") == 0
    assert g.get("r9") & 0x302 == 0x202
    assert kicker.count > 10


def test_timeouts() -> None:
    """The same by means of `timeout`: each run goes on where the last one was cut off."""
    loops = Loops(random_loops("mixed", range(40, 52)), "distant")
    vm = loops.machine(pydbi)
    rng = random.Random(1)
    cuts = 0
    for start in loops.starts(_MILLISECONDS):
        start.prepare(vm)
        at = start.start
        for _ in range(60):
            try:
                assert vm.run(at, start.stop, timeout=rng.uniform(1e-4, 8e-4))
                break
            except pydbi.GuestTimeout as timeout:
                cuts += 1
                at = timeout.app_address or 0
                assert at == vm.getGPRState().rip
                if cuts % 4 == 0:
                    start.check_interrupted(vm)
        else:
            assert vm.run(at, start.stop)
        start.check_end(vm)
    assert cuts > 20


def test_in_several_threads() -> None:
    """Threads whose guests are all kicked come to the right results."""
    everything = [Loops(random_loops("branches", [n, n + 9]), "near", n) for n in range(3)]
    failures: list[BaseException] = []
    counts: list[int] = []

    def work(loops: Loops) -> None:
        try:
            counts.append(interrupt(loops, loops.machine(pydbi), _NEVER))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(loops,)) for loops in everything]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert len(counts) == 3
    assert sum(counts) > 20


def test_string_instructions() -> None:
    """REP over megabytes is interrupted between two rounds: what is left is in rcx, rsi and rdi."""
    g = Guest(pydbi, "at: rep movsb; nop; back: std; rep movsq; cld")
    size = 1 << 23
    source = ctypes.create_string_buffer(random.Random(2).randbytes(1 << 10) * (size >> 10), size)
    target = ctypes.create_string_buffer(size)
    origin, destination = ctypes.addressof(source), ctypes.addressof(target)
    kicker = Kicker(g.vm, longest=30_000)

    def look(app: int) -> None:
        left = g.get("rcx")
        if app == g["at"]:
            assert g.get("rsi") - origin == g.get("rdi") - destination == size - left
            assert (
                target.raw[: size - left] == source.raw[: size - left] if left % 64 == 0 else True
            )

    with kicker.kicking(look):
        g.set(rsi=origin, rdi=destination, rcx=size)
        assert g.run("start", "back")
    assert target.raw == source.raw
    assert kicker.boundaries.get(g["at"], 0) > 3
    ctypes.memset(target, 0, size)
    with kicker.kicking():
        g.set(rsi=origin + size - 8, rdi=destination + size - 8, rcx=size >> 3)
        assert g.run("back", "end")
    assert target.raw == source.raw
    assert kicker.count > 6


def test_every_place_is_a_boundary() -> None:
    """In a loop of many kinds of instructions interruptions come at nearly all of them."""
    text = (
        "a: inc rax; lea rbx, [rax + rax]; push rbx; pop rdx; call f; xor r8, rdx; dec rcx; jnz a"
    )
    g = Guest(pydbi, f"{text}; jmp end; f: add r9, rdx; ret")
    kicker = Kicker(g.vm, longest=20_000)
    g.set(rax=0, rcx=20_000_000, r9=0, r8=0)

    def stop(app: int) -> None:
        if kicker.count > 300:
            raise StopIteration

    with pytest.raises(StopIteration), kicker.kicking(stop):
        g.run()
    places = {address for address in kicker.boundaries if address < g["end"]}
    assert len(places) >= 5
    rounds = 20_000_000 - g.get("rcx")
    assert abs(g.get("rax") - rounds) <= 1
    gpr: Any = g.vm.getGPRState()
    gpr.rcx = 5
    assert g.vm.run(gpr.rip, g["end"])
    rounds = g.get("rax")
    assert g.get("r9") == rounds * (rounds + 1) & (1 << 64) - 1


PUSHING = {
    # -> what watches, and rounds
    "nothing": (INSTRUMENTS["nothing"], 400_000),
    "records": (INSTRUMENTS["records"], 200_000),
    "watch": (
        lambda vm: vm.addMemRangeCB(0, 1 << 47, pydbi.MEMORY_READ_WRITE, _go_on, None),
        5_000,
    ),
    "before": (lambda vm: vm.addCodeCB(pydbi.PREINST, _go_on, None), 5_000),
    "after": (lambda vm: vm.addCodeCB(pydbi.POSTINST, _go_on, None), 5_000),
}


@pytest.mark.parametrize("instruments", PUSHING)
def test_the_trap_flag_is_not_pushed(instruments: str) -> None:
    """PUSHF, in all its sizes, shows no trace of the steps by which the guest is interrupted."""
    text = "a: pushfq; pop rax; or r10, rax; pushfw; pop bx; or r10, rbx; .byte 0x2e; pushfq"
    g = Guest(pydbi, f"xor r10, r10; xor ebx, ebx\n{text}; pop rax; or r10, rax; dec rcx; jnz a")
    watch, rounds = PUSHING[instruments]
    watch(g.vm)
    g.set(rcx=rounds)
    kicker = Kicker(g.vm)
    with kicker.kicking():
        assert g.run()
    assert kicker.count > 20
    assert not g.get("r10") & 0x100
