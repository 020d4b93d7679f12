"""No address of pydbi's shows in a guest's registers, stack or data, whatever has happened."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import pydbi
from tests.compat.harness import SIZE, Guest
from tests.survive.host_traces import DUMPING, guest_of, host_ranges, traces, traces_in

BRANCHES = """
    lea rax, [rip + f]; call rax
    lea rax, [rip + f]; mov [rip + data + 64], rax; call [rip + data + 64]
    call f; lea rax, [rip + 1f]; push rax; ret 0
 1: lea rax, [rip + 2f]; jmp rax
 2: lea rax, [rip + 3f]; push rax; jmp [rsp]
 3: pop rax; call 4f
 4: pop rax; mov ecx, 3
 5: call f; loop 5b
    mov ecx, 1; jrcxz 6f; mov rbp, rsp; enter 32, 3; leave
 6: jmp done
 f: push rbx; call g; pop rbx; ret
 g: ret
 done:"""
STATE = """
    fld1; fldpi; fstp st(1); stmxcsr [rip + data + 72]; pushfq; popfq
    vpxor ymm1, ymm1, ymm1; rdfsbase r8; mov r9, gs; rdgsbase r10
    cld; std; cld; lea rbx, [rip + data]; xlatb; cpuid; rdtsc; xor eax, eax; xor ecx, ecx; xgetbv"""
CALLS = """
    mov eax, 39; syscall; mov edi, 1000; mov eax, 3; syscall
    mov eax, 158; mov edi, 0x1004; lea rsi, [rip + data + 80]; syscall
    mov eax, 9; xor edi, edi; mov esi, 4096; mov edx, 3; mov r10d, 0x22; mov r8d, -1; xor r9d, r9d
    syscall; mov rdi, rax; mov eax, 11; syscall"""
STRINGS = """
    lea rsi, [rip + data]; lea rdi, [rip + data + 96]; mov ecx, 5; rep movsb
    mov ecx, 2; repne scasb; mov ecx, 3; rep stosq"""
OPERANDS = """
    mov rbx, [rip + data]; add [rip + data + 8], rbx; mov rcx, [rip + start]
    xchg rdx, [rip + data + 16]; push [rip + data]; pop [rip + data + 24]
    mov ebx, 99; bts [rip + data], rbx"""
CHANGE = "mov byte ptr [rip + changed + 1], 7; jmp changed; changed: mov al, 1"
TEXTS = {
    "branches": BRANCHES,
    "state": STATE,
    "system calls": CALLS,
    "strings": STRINGS,
    "operands": OPERANDS,
    "changed code": CHANGE,
}


def _go_on(*_: object) -> Any:
    return pydbi.CONTINUE


def _watch(g: Guest) -> None:
    g.vm.addMemRangeCB(g.base, g.base + SIZE, pydbi.MEMORY_READ_WRITE, _go_on, None)


def _events(g: Guest) -> None:
    kinds = (
        pydbi.SEQUENCE_ENTRY, pydbi.SEQUENCE_EXIT, pydbi.BASIC_BLOCK_ENTRY, pydbi.BASIC_BLOCK_EXIT,
        pydbi.BASIC_BLOCK_NEW, pydbi.EXEC_TRANSFER_CALL, pydbi.EXEC_TRANSFER_RETURN,
    )  # fmt: skip
    for kind in kinds:
        g.vm.addVMEventCB(kind, _go_on, None)


INSTRUMENTS: dict[str, Callable[[Guest], object]] = {
    "nothing": lambda g: None,
    "mapped twice": lambda g: setattr(g.vm, "mapCodeTwice", True),
    "before": lambda g: g.vm.addCodeCB(pydbi.PREINST, _go_on, None),
    "after": lambda g: g.vm.addCodeCB(pydbi.POSTINST, _go_on, None),
    "breaking": lambda g: g.vm.addCodeCB(pydbi.POSTINST, lambda *_: pydbi.BREAK_TO_VM, None),
    "accesses": lambda g: g.vm.addMemAccessCB(pydbi.MEMORY_READ_WRITE, _go_on, None),
    "recording": lambda g: g.vm.recordMemoryAccess(pydbi.MEMORY_READ_WRITE),
    "watch": _watch,
    "events": _events,
    "partly instrumented": lambda g: (
        _events(g),
        g.vm.removeInstrumentedRange(g["start"] + 8, g["start"] + 24),
    ),
}


@pytest.mark.parametrize("instruments", INSTRUMENTS)
@pytest.mark.parametrize("text", TEXTS)
def test_nothing_is_left(text: str, instruments: str) -> None:
    """After each kind of code, under each kind of instrumentation, the guest sees nothing."""
    g = guest_of(f"{TEXTS[text]}\n{DUMPING}")
    INSTRUMENTS[instruments](g)
    for _ in range(2):  # new, and warm
        assert g.run()
        assert traces(g) == []


def test_a_trace_is_found() -> None:
    """The search finds what it looks for, wherever it is put."""
    g = guest_of("nop")
    assert g.run()
    for what, (low, high) in host_ranges(g.vm).items():
        ctypes.memmove(g.data + 131, (low + high >> 1).to_bytes(8, "little"), 8)
        assert ("memory", g.data + 131 - g.base, what) in traces(g)
    assert traces_in(bytes(64), host_ranges(g.vm)) == []
    g.set(r12=g.vm._guest.address)
    assert ("general registers", 80, "context") in traces(g)


def test_in_every_callback() -> None:
    """What callbacks see, and what is on the stack while they run, has no trace either."""
    g = guest_of("\n".join([BRANCHES, CALLS, OPERANDS, STRINGS]))
    seen: list[Any] = []

    def look(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append(traces(g))
        return pydbi.CONTINUE

    for position in (pydbi.PREINST, pydbi.POSTINST):
        g.vm.addCodeCB(position, look, None)
    assert g.run()
    assert len(seen) > 100
    assert not any(seen)


FAULTS = {
    "a read": "xor eax, eax; push rbx; mov rbx, [rax]",
    "a read of memory that is recorded": "mov rdx, [rip + data]; xor eax, eax; add [rax + 8], rdx",
    "a jump": "xor eax, eax; push rbx; jmp rax",
    "a call": "xor eax, eax; call rax",
    "a return": "push 16; ret",
    "a division": "xor ecx, ecx; push rcx; div rcx",
    "an invalid instruction": "push rax; ud2",
    "a breakpoint": "push rax; int3",
    "a bad string": "xor edi, edi; mov ecx, 5; rep stosb",
    "a refused instruction": "push rax; .byte 0x48, 0xff, 0x2d, 0, 0, 0, 0",
}


@pytest.mark.parametrize("instruments", ["nothing", "mapped twice", "after", "accesses", "watch"])
@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault(fault: str, instruments: str) -> None:
    """After a fault, and when the guest goes on behind it."""
    g = guest_of(f"{BRANCHES}\n{FAULTS[fault]}\nbehind: {DUMPING}")
    INSTRUMENTS[instruments](g)
    with pytest.raises((pydbi.GuestFault, pydbi.UnsupportedInstruction)) as caught:
        g.run()
    assert traces(g) == []
    assert not traces_in(str(caught.value).encode(), host_ranges(g.vm))
    g.set(rsp=g.stack_top)
    assert g.run("behind")
    assert traces(g) == []


LOOP = f"mov r15, -1\n again: {BRANCHES}\n{OPERANDS}\n dec r15; jnz again"


@pytest.mark.parametrize("instruments", ["nothing", "mapped twice", "recording", "watch"])
@pytest.mark.parametrize("kick", ["a timeout", "a stop", "a signal"])
def test_after_a_kick(kick: str, instruments: str) -> None:
    """Where a running guest is interrupted, again and again; and when it goes on."""
    g = guest_of(f"{LOOP}\n{DUMPING}")
    INSTRUMENTS[instruments](g)
    start = g["start"]
    for _ in range(12):
        start = _kick(g, kick, start)
        assert traces(g) == []
    g.set(r15=1)
    assert g.vm.run(start, g["end"])
    assert traces(g) == []


def _kick(g: Guest, kick: str, start: int) -> int:
    """Run from *start* until that is interrupted; return where to go on."""
    if kick == "a timeout":
        with pytest.raises(pydbi.GuestTimeout):
            g.vm.run(start, g["end"], timeout=0.01)
    elif kick == "a stop":
        done = threading.Event()

        def stop() -> None:
            while not done.wait(0.01):
                g.vm.stop()

        stopper = threading.Thread(target=stop)
        stopper.start()
        g.vm.run(start, g["end"])
        done.set()
        stopper.join()
    else:
        signal.signal(signal.SIGALRM, _interrupt)
        with pytest.raises(InterruptedError):
            _run_and_wait(g, start)
    rip = g.get("rip")
    return rip if g["start"] <= rip < g["end"] else start  # it may have come before the run


def _run_and_wait(g: Guest, start: int) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    g.vm.run(start, g["end"])
    time.sleep(1)


def _interrupt(number: int, frame: object) -> None:
    raise InterruptedError


def test_after_an_exception() -> None:
    """Where a callback has raised, and when the guest goes on."""
    g = guest_of(f"{BRANCHES}\n{DUMPING}")
    turn = 0

    def throw(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        nonlocal turn
        turn += 1
        if turn % 7:
            return pydbi.CONTINUE
        raise KeyError(turn)

    for position in (pydbi.PREINST, pydbi.POSTINST):
        g.vm.addCodeCB(position, throw, None)
    start, count = g["start"], 0
    while start != g["end"]:
        try:
            assert g.vm.run(start, g["end"])
        except KeyError:
            count += 1
            assert traces(g) == []
        start = g.get("rip")
    assert count > 10
    assert traces(g) == []


def test_after_a_call_from_python() -> None:
    """A function that is called: what it finds on its stack, and what is left there."""
    g = guest_of(f"{BRANCHES}\n{DUMPING}\nret")
    for arguments in ([], [1, 2, 3], list(range(9))):
        assert g.vm.call(g["start"], arguments)[0]
        assert traces(g) == []


def test_after_a_native_excursion() -> None:
    """The C heap runs natively: what its frames leave below rsp are no addresses of pydbi's."""
    libc = ctypes.CDLL(None)
    malloc, free = (
        ctypes.cast(getattr(libc, name), ctypes.c_void_p).value for name in ("malloc", "free")
    )
    text = f"mov edi, 100; mov rax, {malloc}; call rax; mov rdi, rax; mov rax, {free}; call rax"
    g = guest_of(f"{text}\n{DUMPING}")
    g.vm.instrumentAllExecutableMaps()
    before = g.vm.stats.native_calls
    for _ in range(2):
        assert g.run()
        assert traces(g) == []
    assert g.vm.stats.native_calls - before == 4
