"""Interruptions of a guest that is hardly ever in translated code: it waits, or calls back."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import time
from pathlib import Path
from typing import Any

import pytest

import pydbi
from pydbi.jit.signals import kick_signal
from tests.compat.harness import Guest, at
from tests.survive.test_interrupts import PROMPT, endless, finish, press_ctrl_c

PAUSE, NANOSLEEP = 34, 35
_SYS_TGKILL = 234
_INTERRUPTED = (1 << 64) - 4  # -EINTR


@pytest.mark.parametrize("number", [PAUSE, NANOSLEEP])
def test_ctrl_c_in_a_system_call_that_waits(number: int) -> None:
    """A guest that waits again and again is interrupted behind the call, which gave EINTR."""
    text = f"a: mov eax, {number}; lea rdi, [rip + data]; xor esi, esi; syscall; inc rbx; jmp a"
    g = Guest(pydbi, text)
    g.write(0, (3).to_bytes(8, "little") + bytes(8))
    start = g["start"]
    for _ in range(3):
        start = press_ctrl_c(g, start, 0.05)
        assert g.get("rax") == (1 << 64) - 4 or start <= g["a"] + 14


@pytest.mark.parametrize("how", ["PRE", "POST", "both", "blocks"])
def test_timeouts_among_callbacks(how: str) -> None:
    """Where a callback stands at each instruction, a timeout comes in time too."""
    g = endless(pydbi)

    def look(vm: Any, gpr: Any, fpr: Any, data: object) -> pydbi.VMAction:
        return pydbi.CONTINUE

    if how in ("PRE", "both"):
        g.vm.addCodeCB(pydbi.PREINST, look, None)
    if how in ("POST", "both"):
        g.vm.addCodeCB(pydbi.POSTINST, look, None)
    if how == "blocks":
        g.vm.addVMEventCB(pydbi.BASIC_BLOCK_ENTRY, lambda *_: pydbi.CONTINUE, None)
    start = g["start"]
    for _ in range(10):
        begin = time.monotonic()
        with pytest.raises(pydbi.GuestTimeout):
            g.vm.run(start, g["end"], timeout=0.02)
        assert time.monotonic() - begin < PROMPT
        start = g.get("rip")
    finish(g)


def test_stop_among_callbacks() -> None:
    """A callback that calls `stop` ends the run as soon as the guest has gone on."""
    g = endless(pydbi)

    def stop(vm: pydbi.VM, gpr: Any, fpr: Any, data: object) -> pydbi.VMAction:
        vm.stop()
        return pydbi.CONTINUE

    g.vm.addCodeCB(pydbi.PREINST, stop, None)
    for _ in range(5):
        begin = time.monotonic()
        assert g.vm.run(g["start"], g["end"]) is True
        assert time.monotonic() - begin < PROMPT


def test_stop_just_before_a_system_call_that_waits() -> None:
    """A kick that comes when the guest is about to be entered is not the last one."""
    g = Guest(
        pydbi,
        "a: xor edi, edi; lea rsi, [rip + data]; mov edx, 1; xor eax, eax; syscall; inc rbx; jmp a",
    )
    reader, _ = os.pipe()
    os.dup2(reader, 0)
    guest = g.vm._engine.guest
    enter = guest.enter

    def stop_and_enter() -> int:
        g.vm.stop()
        return enter()

    guest.enter = stop_and_enter
    for _ in range(3):
        assert g.vm.run(g["a"], g["end"]) is True
        assert g.get("rbx") == 0


@pytest.mark.parametrize("together", [False, True])
def test_callbacks_behind_an_interrupted_call(together: bool) -> None:
    """A call that the guest's own signal ends has its callbacks, also where a kick comes first."""
    g = Guest(
        pydbi,
        "mov eax, 13; mov edi, 10; lea rsi, [rip + data + 8]; xor edx, edx; mov r10d, 8; syscall;"
        "jmp end; handler: inc qword ptr [rip + data]; ret; restorer: mov eax, 15; syscall;"
        "wait: xor edi, edi; lea rsi, [rip + data + 64]; mov edx, 1; xor eax, eax; call: syscall;"
        "nop; mov rbx, [rip + data]; nop",
    )
    flags = 4 | 0x04000000  # SA_SIGINFO | SA_RESTORER
    g.write(8, struct.pack("<4Q", g["handler"], flags, g["restorer"], 0))
    assert g.run()
    before = at(g, "call", lambda gpr, _: gpr.rax)
    after = at(g, "call", lambda gpr, _: gpr.rax, "POST")
    reader, _ = os.pipe()
    os.dup2(reader, 0)
    waiting = os.getpid()
    helper = os.fork()
    if helper == 0:
        while not Path(f"/proc/{waiting}/syscall").read_text().startswith("0 0x0 "):
            time.sleep(0.01)
        os.kill(waiting, signal.SIGSTOP)
        while ") T " not in Path(f"/proc/{waiting}/stat").read_text():
            time.sleep(0.01)
        if together:
            ctypes.CDLL(None).syscall(_SYS_TGKILL, waiting, waiting, kick_signal())
        os.kill(waiting, signal.SIGUSR1)
        os.kill(waiting, signal.SIGCONT)
        os._exit(0)
    assert g.run("wait")
    os.waitpid(helper, 0)
    assert (g.get("rax"), g.get("rbx")) == (_INTERRUPTED, 1)
    assert (before, after) == ([0], [_INTERRUPTED])
