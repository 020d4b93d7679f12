"""Guest code under a named engine, with callbacks that log where they were called."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from tests.exec.guest_code import GuestCode


class Scenario(GuestCode):
    """Assembled code whose labels name addresses in logs. It must have the label ``end``.

    Attributes:
        log: what the callbacks noted, each (name, label of rip); what they see at ``end`` is left
            out, for there PyQBDI calls them before it stops.
    """

    def __init__(self, engine: str, text: str, labels: str = "") -> None:
        self.module: Any = importlib.import_module(engine)
        names = [*labels.split(), "end"]
        super().__init__(self.module, text, *names)
        self.names = {self[name]: name for name in names}
        self.names.setdefault(self.base, "start")
        self.log: list[tuple[str, str]] = []
        self.gpr = self.vm.getGPRState()

    def where(self, address: int) -> str:
        """The label at an address, or the number."""
        return self.names.get(address) or f"{address:#x}"

    def noting(self, name: str, *actions: str, move: str = "") -> Callable[..., Any]:
        """Return a callback that notes *name* and rip and returns *actions* one after the other.

        After the last one it returns CONTINUE. With *move* it sets rip to that label each time it
        returns one of *actions*.
        """
        remaining = [getattr(self.module, action) for action in actions]

        def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
            address = gpr.rip
            if address == self["end"]:
                return self.module.CONTINUE
            self.log.append((name, self.where(address)))
            if not remaining:
                return self.module.CONTINUE
            if move:
                gpr.rip = self[move]
            return remaining.pop(0)

        return callback

    def add(self, position: str, name: str, *actions: str, at: str = "", **more: Any) -> int:
        """Register a noting callback, everywhere or at a label."""
        move = more.pop("move", "")
        callback = self.noting(name, *actions, move=move)
        where = getattr(self.module, position + "INST")
        if at:
            return int(self.vm.addCodeAddrCB(self[at], where, callback, None, **more))
        return int(self.vm.addCodeCB(where, callback, None, **more))

    def run(self, start: str = "") -> bool:
        """Run from a label, or from the beginning, to ``end``."""
        return bool(self.vm.run(self[start] if start else self.base, self["end"]))

    def set(self, **registers: int) -> None:
        """Set registers of the guest."""
        for name, value in registers.items():
            setattr(self.gpr, name, value)
        self.vm.setGPRState(self.gpr)

    def register(self, name: str) -> int:
        """A register of the guest."""
        return int(getattr(self.vm.getGPRState(), name))
