"""pydbi with one mistake, chosen by PYDBI_TEST_FLAW, in code that begins with NOP."""

from __future__ import annotations

import ctypes
import os
import time

import pydbi
from pydbi import InstPosition, MemoryAccessType, Options, VMAction, VMEvent
from pydbi.errors import DecodeError, GuestFault
from tests.exec import flawed_engine
from tests.fuzz.layout import DATA

__all__ = ["VM", "InstPosition", "MemoryAccessType", "Options", "VMAction", "VMEvent"]

_FLAW = os.environ.get("PYDBI_TEST_FLAW", "")
_NOP = 0x90


class VM(flawed_engine.VM):
    """Runs everything right but code that begins with NOP; has some more flaws."""

    def run(self, start: int, stop: int, *, timeout: float | None = None) -> bool:
        try:
            return pydbi.VM.run(self, start, stop, timeout=timeout)
        except GuestFault as fault:
            if ctypes.string_at(start, 1)[0] == _NOP:
                self._go_wrong()
                self._end_wrongly(fault)
            raise

    def _end_wrongly(self, fault: GuestFault) -> None:
        if _FLAW == "memory":
            ctypes.memset(DATA + 0x123, ctypes.string_at(DATA + 0x123, 1)[0] ^ 0xFF, 1)
        elif _FLAW == "address":
            fault.fault_address += 1
        elif _FLAW == "decoder":
            raise DecodeError(self.getGPRState().rip, b"\x90")
        elif _FLAW == "hang":
            time.sleep(1000)
