"""Running a snippet with memory accesses recorded or watched."""

from __future__ import annotations

import copy
import ctypes
import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.exec.batch import CODE_SIZE, DATA, PAGE, STACK
from tests.exec.mode_basics import RIP, SYSCALL, Callbacks, Plain
from tests.exec.native_runner import Step
from tests.exec.snippets import DATA_SIZE, MIDDLE, STACK_SIZE


class Recorded(Callbacks):
    """All memory accesses are recorded, and what the records say is held against memory.

    What was read is there before the instruction, what was written is there behind it, and nothing
    else has changed. (What a system call writes is not recorded.)
    """

    def register(self) -> None:
        self.vm.recordMemoryAccess(self.engine.MemoryAccessType.MEMORY_READ_WRITE)
        super().register()

    def run(self, start: int, stop: int, steps: Sequence[Step], only_rip: bool) -> list[str]:
        self._wrong: list[str] = []
        rsp = self.vm.getGPRState().rsp
        base = (rsp - STACK - MIDDLE + PAGE // 2) & -PAGE
        self._areas = ((base + DATA, DATA_SIZE), (base + STACK, STACK_SIZE))
        return super().run(start, stop, steps, only_rip) + self._wrong[:3]

    def on_before(self, vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        for access in vm.getInstMemoryAccess():
            if access.type != self.engine.MemoryAccessType.MEMORY_READ:
                self._complain("a write before it", access)
            self._check_value(access)
        self._memory = self._areas_now()
        return super().on_before(vm, gpr, fpr, data)

    def on_after(self, vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        if ctypes.string_at(self.before[-1][RIP], 2) != SYSCALL:
            self._check_writes(vm.getInstMemoryAccess())
        return super().on_after(vm, gpr, fpr, data)

    def _areas_now(self) -> list[bytes]:
        return [ctypes.string_at(*area) for area in self._areas]

    def _check_value(self, access: Any) -> None:
        if access.flags == self.engine.MemoryAccessFlags.MEMORY_NO_FLAGS:
            there = int.from_bytes(ctypes.string_at(access.accessAddress, access.size), "little")
            if there != access.value:
                self._complain(f"{there:#x} is there", access)

    def _check_writes(self, accesses: Sequence[Any]) -> None:
        """Put the bytes recorded as written back: then memory is what it was."""
        now = [bytearray(area) for area in self._areas_now()]
        overwritten: set[int] = set()
        for access in reversed(accesses):
            if access.type == self.engine.MemoryAccessType.MEMORY_WRITE:
                written = range(access.accessAddress, access.accessAddress + access.size)
                if overwritten.isdisjoint(written):  # elements of a scatter may overlap
                    self._check_value(access)
                overwritten.update(written)
                if access.flags & self.engine.MemoryAccessFlags.MEMORY_MINIMUM_SIZE:
                    return
                self._put_back(now, access.accessAddress, access.size)
        for (address, _), was, area in zip(self._areas, self._memory, now, strict=True):
            if was != area:
                at = next(i for i, (a, b) in enumerate(zip(was, area, strict=True)) if a != b)
                self._complain(f"no record says that {address + at:#x} changes", accesses)

    def _put_back(self, now: list[bytearray], address: int, size: int) -> None:
        for (start, length), was, area in zip(self._areas, self._memory, now, strict=True):
            low, high = max(address - start, 0), min(address + size - start, length)
            if low < high:
                area[low:high] = was[low:high]

    def _complain(self, what: str, about: object) -> None:
        rip = self.before[-1][RIP] if self.before else 0
        code = ctypes.string_at(rip, 15).hex(" ") if rip else ""
        self._wrong.append(f"record at or after {rip:#x} ({code}): {what}: {about}")


class Watched(Plain):
    """Nothing but watches is due; they are called for just what they should be.

    A run under a VM of its own, in which everything is recorded, says beforehand what that is, and
    where the borders of what is watched are best put.
    """

    beside_others = False

    def __init__(self, engine: Any, vm: Any, clobber: Callable[[], None]) -> None:
        super().__init__(engine, vm, clobber)
        self._recorder = engine.VM()
        self._accesses: list[list[Any]] = []
        self._called: list[tuple[int, int]] = []
        kind = engine.MemoryAccessType.MEMORY_READ_WRITE
        self._recorder.addMemAccessCB(kind, self._on_access, None)

    def run(self, start: int, stop: int, steps: Sequence[Step], only_rip: bool) -> list[str]:
        self._record(start, stop)
        watches = self._choose(random.Random(start))
        self._called = []
        identities = [
            self.vm.addMemRangeCB(low, high, kind, self._on_watch, number)
            for number, (low, high, kind) in enumerate(watches)
        ]
        if self.beside_others:
            nothing = (lambda *_: self.engine.VMAction.CONTINUE, None)
            identities.append(self.vm.addCodeCB(self.engine.InstPosition.POSTINST, *nothing))
        found = super().run(start, stop, steps, only_rip)
        for identity in identities:
            self.vm.deleteInstrumentation(identity)
        return found + self._compare(_calls(watches, self._accesses))

    def _record(self, start: int, stop: int) -> None:
        """Run under the other VM, and put back what that changes."""
        gpr, recorder = self.vm.getGPRState(), self._recorder
        base = (gpr.rsp - STACK - MIDDLE + PAGE // 2) & -PAGE
        areas = ((base + DATA, DATA_SIZE), (base + STACK, STACK_SIZE))
        before = [ctypes.string_at(*area) for area in areas]
        recorder.setGPRState(copy.copy(gpr))
        recorder.setFPRState(copy.copy(self.vm.getFPRState()))
        recorder.addInstrumentedRange(base, base + CODE_SIZE)
        recorder.clearAllCache()
        self._accesses = []
        recorder.run(start, stop)
        for (address, _), content in zip(areas, before, strict=True):
            ctypes.memmove(address, content, len(content))

    def _choose(self, rng: random.Random) -> list[tuple[int, int, Any]]:
        """Watch what is never accessed, and maybe some of what is, or lies beside it."""
        kinds = [self.engine.MemoryAccessType(number) for number in (1, 2, 3)]
        watches = [(0x100, 0x200, kinds[2])]
        known = [access for accesses in self._accesses for access in accesses]
        for _ in range(rng.choice((0, 1, 1, 2, 4, 12)) if known else 0):
            access, size = rng.choice(known), rng.choice((1, 8, 64, 1000))
            border = access.accessAddress + rng.choice((0, access.size))
            low = border - rng.choice((-1, 0, 1, size - 1, size, size + 1))
            watches.append((low, low + size, rng.choice(kinds)))
        return watches

    def _on_access(self, vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        self._accesses.append(vm.getInstMemoryAccess())
        return self.engine.VMAction.CONTINUE

    def _on_watch(self, vm: Any, gpr: Any, fpr: Any, number: Any) -> Any:
        self._called.append((number, vm.getInstMemoryAccess()[0].instAddress))
        self.clobber()
        return self.engine.VMAction.CONTINUE

    def _compare(self, expected: Sequence[tuple[int, int]]) -> list[str]:
        for count, (want, got) in enumerate(zip(expected, self._called, strict=False)):
            if want != got:
                code = ctypes.string_at(min(want[1], got[1]), 15).hex(" ")
                return [f"call {count} of a watch: expected {want}, got {got} ({code})"]
        if len(expected) != len(self._called):
            rest = max(expected, self._called, key=len)[-1]
            code = ctypes.string_at(rest[1], 15).hex(" ")
            return [f"{len(expected)} calls expected, got {len(self._called)}: {rest} ({code})"]
        return []


def _calls(
    watches: Sequence[tuple[int, int, Any]], recorded: Sequence[Sequence[Any]]
) -> list[tuple[int, int]]:
    """Return which watch is to be called at which instruction; those before it come first."""
    return [
        (number, accesses[0].instAddress)
        for accesses in recorded
        for before in (True, False)
        for number, (low, high, kind) in enumerate(watches)
        if (kind == 1) == before
        and any(
            access.type & kind and access.accessAddress < high
            for access in accesses
            if access.size and access.accessAddress + access.size > low
        )
    ]


class WatchedBesideOthers(Watched):
    """The same with another callback at every instruction."""

    beside_others = True
