"""Ctrl-C, timers, timeouts and stops reach a guest that never calls back; it can go on then."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import pydbi
from tests.compat.harness import Guest
from tests.survive.fates import check_fate

PROMPT = 5.0
"""Seconds: far more than it takes, for the machine may be busy."""

LOOPS = {
    # name: (loop with rcx as its counter, sums up in rdx)
    "one block": "a: inc rbx; add rdx, rbx; dec rcx; jnz a",
    "many blocks": "a: inc rbx; jmp b; c: dec rcx; jnz a; jmp end; b: add rdx, rbx; jmp c",
    "indirect branches": (
        "lea rsi, [rip + b]; a: inc rbx; jmp rsi; c: dec rcx; jnz a; jmp end; b: add rdx, rbx;jmp c"
    ),
    "calls and returns": "a: inc rbx; call f; dec rcx; jnz a; jmp end; f: add rdx, rbx; ret",
    "indirect calls": (
        "lea rsi, [rip + f]; a: inc rbx; call rsi; dec rcx; jnz a; jmp end; f: add rdx, rbx; ret"
    ),
    "system calls": "a: inc rbx; mov rdi, rcx; mov eax, 39; syscall; mov rcx, rdi; add rdx, rbx; "
    "dec rcx; jnz a",
}


COUNTED = "a: inc rbx; add rdx, rbx; mov [rip + data], rbx; dec rcx; jnz a"
"""A loop whose progress can be seen in memory, at any time."""


def progress(g: Guest) -> int:
    """How far `COUNTED` has come."""
    return int.from_bytes(g.read(0, 8), "little")


@contextmanager
def signal_after(seconds: float) -> Iterator[Callable[[], None]]:
    """Let another process press Ctrl-C so many seconds after what this yields was called."""
    parent = os.getpid()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        if os.read(reader, 1):
            time.sleep(seconds)
            os.kill(parent, signal.SIGINT)
        os._exit(0)
    os.close(reader)

    def begin() -> None:
        os.write(writer, b".")

    try:
        yield begin
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def press_ctrl_c(g: Guest, start: int, seconds: float = 0.02) -> int:
    """Run *g* from *start*, assert that Ctrl-C soon ends that, and return where to go on.

    On a busy machine it may come before the guest has begun.
    """
    g.set(rip=start)
    with signal_after(seconds) as begin:

        def run() -> None:
            begin()
            g.vm.run(start, g["end"])

        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run()
        assert time.monotonic() - began < seconds + PROMPT
    return g.get("rip")


@contextmanager
def stopped_when_under_way(g: Guest, turns: int = 1) -> Iterator[list[int]]:
    """Have another thread stop *g*, a `COUNTED`, when it has seen it advance *turns* times.

    Yields:
        The progress that it has seen.
    """
    seen = [progress(g)]

    def work() -> None:
        while len(seen) <= turns:
            time.sleep(0.002)
            now = progress(g)
            if now != seen[-1]:
                seen.append(now)
        g.vm.stop()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield seen
    thread.join()


def endless(qbdi: Any, text: str = LOOPS["one block"]) -> Guest:
    """A guest whose counter lasts for years."""
    g = Guest(qbdi, text)
    g.set(rbx=0, rdx=0, rcx=1 << 62)
    return g


def finish(g: Guest, rounds: int = 1000) -> None:
    """Let *g* go on from where it is for so many rounds, and check what it has summed up."""
    g.set(rcx=rounds, rdi=rounds)
    assert g.vm.run(g.get("rip"), g["end"])
    total = g.get("rbx")
    assert total >= rounds - 1
    assert g.get("rdx") == total * (total + 1) // 2 & (1 << 64) - 1


@pytest.mark.parametrize("name", LOOPS)
def test_ctrl_c(name: str) -> None:
    """Ctrl-C ends an endless loop at once, again and again; the guest goes on to the right end."""
    g = endless(pydbi, LOOPS[name])
    start = g["start"]
    for _ in range(3):
        start = press_ctrl_c(g, start)
        assert g["start"] <= start < g["end"]
    finish(g)


def test_ctrl_c_beside_pyqbdi(qbdi: Any) -> None:
    """PyQBDI does not notice Ctrl-C while a guest loops."""

    def press() -> None:
        g = endless(qbdi)
        with signal_after(0.02) as begin:
            begin()
            g.run()

    right = "raises KeyboardInterrupt"
    check_fate(qbdi, press, pyqbdi="hangs", right=right, reason="the loop goes on")


def test_ctrl_c_in_a_string_instruction() -> None:
    """REP MOVSB over megabytes is interrupted between two rounds of it, and goes on."""
    g = Guest(pydbi, "again: mov rsi, r8; mov rdi, r9; mov rcx, r10\nat: rep movsb; jmp again")
    size = 64 << 20
    memory = pydbi.alignedAlloc(2 * size, 4096)
    assert memory
    for offset in range(0, size, 4096):
        ctypes.memset(memory + offset, offset >> 12 & 0xFF, 4096)
    g.set(r8=memory, r9=memory + size, r10=size)
    start = g["start"]
    for _ in range(4):
        start = press_ctrl_c(g, start)
        if start == g["at"]:
            assert g.get("rsi") - memory == g.get("rdi") - memory - size == size - g.get("rcx")
    while g.get("rip") != g["at"] or not g.get("rcx"):
        with pytest.raises(pydbi.GuestTimeout):
            g.vm.run(g.get("rip"), g["end"], timeout=0.003)
    done = size - g.get("rcx")
    assert ctypes.string_at(memory + size, done) == ctypes.string_at(memory, done)


def test_ctrl_c_in_a_callback() -> None:
    """Ctrl-C in a callback comes out of run, from the line where it struck."""
    g = Guest(pydbi, "inc rbx\nat: inc rbx")
    with signal_after(0.05) as begin:

        def wait(vm: Any, gpr: Any, fpr: Any, data: object) -> pydbi.VMAction:
            begin()
            time.sleep(60)
            return pydbi.CONTINUE

        number = g.vm.addCodeAddrCB(g["at"], pydbi.PREINST, wait, None)
        with pytest.raises(KeyboardInterrupt) as caught:
            g.run()
    assert "wait" in [entry.name for entry in caught.traceback]
    assert g.get("rip") == g["at"]
    g.vm.deleteInstrumentation(number)
    rbx = g.get("rbx")
    assert g.vm.run(g["at"], g["end"])
    assert g.get("rbx") == rbx + 1


def test_ctrl_c_among_native_calls() -> None:
    """A loop that spends its time in malloc and free, which run natively, is interrupted too."""
    g = Guest(pydbi, "push rbp\na: mov edi, 64; call r12; mov rdi, rax; call r13; inc rbx; jmp a")
    library = ctypes.CDLL(None)
    for register, name in (("r12", "malloc"), ("r13", "free")):
        g.set(**{register: ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0})
    g.set(rbx=0)
    start = g["start"]
    presses = 0
    while presses < 3 or g.get("rbx") <= 1000:  # it is the more presses the busier the machine is
        start = press_ctrl_c(g, start)
        presses += 1


def test_stop_from_another_thread() -> None:
    """`stop` lets run end as STOP does: it returns True; the guest can go on."""
    g = endless(pydbi, COUNTED)
    g.vm.stop()  # nothing runs: nothing happens
    start = g["start"]
    for _ in range(3):
        with stopped_when_under_way(g):
            assert g.vm.run(start, g["end"]) is True
        start = g.get("rip")
        assert start != g["end"]
    g.vm.stop()
    finish(g)


@contextmanager
def ticking(handler: Callable[[], None]) -> Iterator[None]:
    """Call *handler* every 10 ms while what is inside runs."""
    signal.signal(signal.SIGALRM, lambda number, frame: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_stop_from_a_signal_handler() -> None:
    """A Python signal handler stops the guest; it may look at the guest's state first."""
    g = endless(pydbi, COUNTED)
    seen = []

    def handler() -> None:
        if progress(g) != before and len(seen) < count:
            seen.append(g.get("rbx"))
            g.vm.stop()

    start = g["start"]
    for count in range(1, 4):
        before = progress(g)
        with ticking(handler):
            assert g.vm.run(start, g["end"]) is True
        start = g.get("rip")
        assert len(seen) == count
        assert before <= seen[-1] <= progress(g) + 1
    finish(g)


def test_other_threads_go_on() -> None:
    """Python's other threads run while a guest loops, without its help."""
    g = endless(pydbi, COUNTED)
    with stopped_when_under_way(g, turns=20) as seen:
        assert g.run() is True
    assert len(seen) == 21
    assert seen == sorted(seen)


def test_python_handlers_run_at_their_time() -> None:
    """setitimer's handlers run while a guest loops, and their exceptions come out of it."""
    g = endless(pydbi, COUNTED)
    ticks: list[float] = []

    def handler() -> None:
        if progress(g):
            ticks.append(time.monotonic())
        if len(ticks) == 20:
            raise LookupError("enough")

    with ticking(handler), pytest.raises(LookupError, match="enough"):
        g.run()
    assert ticks[-1] - ticks[0] < 20 * 0.01 + PROMPT
    finish(g)
