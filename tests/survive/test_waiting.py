"""Interruptions of a guest that is hardly ever in translated code: it waits, or calls back."""

from __future__ import annotations

import time
from typing import Any

import pytest

import pydbi
from tests.compat.harness import Guest
from tests.survive.test_interrupts import PROMPT, endless, finish, press_ctrl_c

PAUSE, NANOSLEEP = 34, 35


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
