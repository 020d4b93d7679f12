"""The ways to run a snippet under an engine: none of them may change what it computes."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.exec.mode_basics import RIP, Callbacks, Plain, comparable, compare_steps
from tests.exec.modes_memory import Recorded, Watched, WatchedBesideOthers
from tests.exec.native_runner import Step


class Clearing(Callbacks):
    """The callbacks drop translations: of the running code, of what is behind it, or all."""

    def do_harm(self, gpr: Any, fpr: Any) -> None:
        super().do_harm(gpr, fpr)
        if self.count % 11:
            return
        kind = self.count // 11 % 4
        if kind == 0:
            self.vm.clearAllCache()
        else:
            start = gpr.rip + (0, -16, 4)[kind - 1]
            self.vm.clearCache(start, start + 16)


class Nested(Callbacks):
    """The callbacks run another VM, which uses all of the registers."""

    def __init__(self, engine: Any, vm: Any, clobber: Callable[[], None]) -> None:
        super().__init__(engine, vm, clobber)
        self._other = engine.VM()
        address = ctypes.cast(clobber, ctypes.c_void_p).value  # type: ignore[arg-type]
        assert address is not None
        self._address = address
        self._other.addInstrumentedRange(address, address + 0x10000)
        gpr = self._other.getGPRState()
        self._stack = ctypes.create_string_buffer(0x10000)
        gpr.rsp = (ctypes.addressof(self._stack) + 0xF000) & -16
        self._other.setGPRState(gpr)

    def do_harm(self, gpr: Any, fpr: Any) -> None:
        super().do_harm(gpr, fpr)
        if self.count % 5 == 0:
            done, _rax = self._other.call(self._address, [])
            assert done


class Sparse(Callbacks):
    """Callbacks at some addresses only, registered for one run and taken out again."""

    def register(self) -> None:
        pass

    def run(self, start: int, stop: int, steps: Sequence[Step], only_rip: bool) -> list[str]:
        self.before, self.after = [], []
        rng = random.Random(start)
        addresses = sorted({step[RIP] for step in steps})
        chosen = rng.sample(addresses, len(addresses) // 3)
        position = self.engine.InstPosition
        identities = [
            self.vm.addCodeAddrCB(address, position.PREINST, self.on_before, None)
            for address in chosen
        ]
        identities += [
            self.vm.addCodeAddrCB(address, position.POSTINST, self.on_after, None)
            for address in rng.sample(addresses, len(addresses) // 4)
        ]
        found = Plain.run(self, start, stop, steps, only_rip)
        for identity in identities:
            self.vm.deleteInstrumentation(identity)
        wanted = [step for step in steps if step[RIP] in set(chosen)]
        return found + compare_steps(wanted, self.before, only_rip)


class Pieces(Plain):
    """The run is cut into pieces that begin and end anywhere, in the middle of blocks and loops."""

    needs_steps = True

    def run(self, start: int, stop: int, steps: Sequence[Step], only_rip: bool) -> list[str]:
        rng = random.Random(start)
        addresses = [step[RIP] for step in comparable(steps)]
        at, rip = 0, start
        for _ in range(40):
            if len(addresses) - at < 2:
                break
            target = addresses[rng.randrange(at + 1, min(at + 12, len(addresses)))]
            if target == addresses[at]:
                continue
            at = addresses.index(target, at + 1)
            if not self.vm.run(rip, target):
                return [f"run() until {target:#x} returned False"]
            rip = self.vm.getGPRState().rip
            if rip != target:
                return [f"run() stopped at {rip:#x}, not at {target:#x}"]
        return super().run(rip, stop, steps, only_rip)


MODES: dict[str, type[Plain]] = {
    "plain": Plain,
    "callbacks": Callbacks,
    "clearing": Clearing,
    "nested": Nested,
    "recorded": Recorded,
    "watched": Watched,
    "watched beside others": WatchedBesideOthers,
    "sparse": Sparse,
    "pieces": Pieces,
}
