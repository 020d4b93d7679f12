"""pydbi with one mistake, chosen by PYDBI_TEST_FLAW: what the harness must notice."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pydbi
from pydbi import InstPosition, VMAction

__all__ = ["VM", "InstPosition", "VMAction"]

_FLAW = os.environ.get("PYDBI_TEST_FLAW", "")
_TRIGGER = b"\x0f\x31"
"""RDTSC: only snippets that contain it are executed wrongly."""


class VM(pydbi.VM):
    """Runs everything right but what contains the trigger."""

    def run(self, start: int, stop: int) -> bool:
        done = super().run(start, stop)
        if _TRIGGER in ctypes.string_at(start, stop - start):
            self._go_wrong()
        return done

    def _go_wrong(self) -> None:
        gpr, fpr = self.getGPRState(), self.getFPRState()
        if _FLAW == "register":
            gpr.r9 ^= 1 << 40
        elif _FLAW == "flag":
            gpr.eflags ^= 0x10
        elif _FLAW == "vector":
            fpr.xmm7 = bytes([fpr.xmm7[0] ^ 1])
        elif _FLAW == "x87":
            fpr.rfsw ^= 0x3800
        elif _FLAW == "stack":
            ctypes.memset((gpr.rsp & -0x1000) + 0xFF0, 0x5A, 2)
        elif _FLAW == "exception":
            raise RuntimeError("a mistake on purpose")
        elif _FLAW == "crash":
            ctypes.string_at(8)
        self.setGPRState(gpr)
        self.setFPRState(fpr)

    def addCodeCB(self, pos: Any, cbk: Any, data: object, priority: int = 0) -> int:  # noqa: N802
        """With the flaw "callback": a callback that is called twice at the trigger."""

        def twice(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
            if ctypes.string_at(gpr.rip, 2) == _TRIGGER:
                gpr.rip += 1
                cbk(vm, gpr, fpr, data)
                gpr.rip -= 1
            return cbk(vm, gpr, fpr, data)

        used = twice if _FLAW == "callback" and pos is InstPosition.PREINST else cbk
        return super().addCodeCB(pos, used, data, priority)
