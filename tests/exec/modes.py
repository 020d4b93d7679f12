"""The ways to run a snippet under an engine: none of them may change what it computes."""

from __future__ import annotations

import copy
import ctypes
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.exec.batch import CODE_SIZE, DATA, PAGE, STACK
from tests.exec.machine_state import FLAGS_COMPARED, GPR_NAMES
from tests.exec.native_runner import TRACE_NAMES, Step
from tests.exec.snippets import DATA_SIZE, MIDDLE, STACK_SIZE

_libc = ctypes.CDLL(None, use_errno=True)
_RIP = TRACE_NAMES.index("rip")
_SYSCALL = b"\x0f\x05"
_FLAGS = FLAGS_COMPARED & 0xFFF


class Plain:
    """No callbacks."""

    needs_steps = False

    def __init__(self, engine: Any, vm: Any, clobber: Callable[[], None]) -> None:
        self.engine, self.vm, self.clobber = engine, vm, clobber

    def run(self, start: int, stop: int, steps: Sequence[Step], only_rip: bool) -> list[str]:
        """Run from *start* to *stop*, and return what is wrong but for the state afterwards.

        Args:
            steps: the registers before each instruction, as single-stepping the CPU shows them;
                may be empty if `needs_steps` is false.
            only_rip: of the steps, rip alone is to be compared.
        """
        return [] if self.vm.run(start, stop) else ["run() returned False"]


class Callbacks(Plain):
    """A PREINST and a POSTINST callback on every instruction record registers, and do harm.

    What they do - float arithmetic, allocation, C calls that change errno and every register that
    a C function may change, reads and writes of the state, running another VM - must not be
    noticed by the guest.
    """

    needs_steps = True

    def __init__(self, engine: Any, vm: Any, clobber: Callable[[], None]) -> None:
        super().__init__(engine, vm, clobber)
        self.before: list[Step] = []
        self.after: list[int] = []
        self.count = 0
        self._go_on = engine.VMAction.CONTINUE
        self._garbage: list[bytes] = []
        self.register()

    def register(self) -> None:
        """Add the callbacks."""
        self.vm.addCodeCB(self.engine.InstPosition.PREINST, self.on_before, None)
        self.vm.addCodeCB(self.engine.InstPosition.POSTINST, self.on_after, None)

    def on_before(self, vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        """Record all general registers."""
        self.before.append(tuple([getattr(gpr, name) for name in TRACE_NAMES]))
        self.do_harm(gpr, fpr)
        return self._go_on

    def on_after(self, vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        """Record where the guest goes on."""
        self.after.append(gpr.rip)
        self.do_harm(gpr, fpr)
        return self._go_on

    def do_harm(self, gpr: Any, fpr: Any) -> None:
        """One of several things that C code and Python code may do."""
        self.count += 1
        kind = self.count % 7
        if kind == 0:
            self.clobber()
        elif kind == 1:
            self._garbage = [b"x" * (self.count % 5000)]
        elif kind == 2:
            math.fsum([1e300, math.sin(self.count), -1e300, 1 / 3])
        elif kind == 3:
            _libc.close(-1)
        elif kind == 4:
            gpr.rax = gpr.rax
            gpr.eflags = gpr.eflags
        elif kind == 5:
            fpr.xmm1 = fpr.xmm1

    def run(self, start: int, stop: int, steps: Sequence[Step], only_rip: bool) -> list[str]:
        self.before, self.after = [], []
        found = super().run(start, stop, steps, only_rip)
        if self.before and self.before[-1][_RIP] == stop:
            del self.before[-1]  # PyQBDI calls callbacks of normal priority at `stop` too
        return found + self._check_after(stop) + _compare_steps(steps, self.before, only_rip)

    def _check_after(self, stop: int) -> list[str]:
        following = [step[_RIP] for step in self.before[1:]] + [stop]
        for number, (want, got) in enumerate(zip(following, self.after, strict=False)):
            if want != got:
                return [f"after instruction {number}: rip expected {want:#x}, got {got:#x}"]
        if len(self.after) != len(self.before):
            return [f"{len(self.before)} callbacks before instructions, {len(self.after)} after"]
        return []


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
        if ctypes.string_at(self.before[-1][_RIP], 2) != _SYSCALL:
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
        rip = self.before[-1][_RIP] if self.before else 0
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


class Sparse(Callbacks):
    """Callbacks at some addresses only, registered for one run and taken out again."""

    def register(self) -> None:
        pass

    def run(self, start: int, stop: int, steps: Sequence[Step], only_rip: bool) -> list[str]:
        self.before, self.after = [], []
        rng = random.Random(start)
        addresses = sorted({step[_RIP] for step in steps})
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
        wanted = [step for step in steps if step[_RIP] in set(chosen)]
        return found + _compare_steps(wanted, self.before, only_rip)


class Pieces(Plain):
    """The run is cut into pieces that begin and end anywhere, in the middle of blocks and loops."""

    needs_steps = True

    def run(self, start: int, stop: int, steps: Sequence[Step], only_rip: bool) -> list[str]:
        rng = random.Random(start)
        addresses = [step[_RIP] for step in comparable(steps)]
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


def comparable(steps: Sequence[Step]) -> list[Step]:
    """Leave out what the CPU's single-stepping and an engine do not count alike.

    One of each run of steps at the same address is kept: REP counts once or once an iteration. The
    step after a SYSCALL goes: the kernel restores the trap flag too late for it.
    """
    kept: list[Step] = []
    previous = 0
    for step in steps:
        rip = step[_RIP]
        follows_syscall = rip == previous + 2 and ctypes.string_at(previous, 2) == _SYSCALL
        if rip != previous and not follows_syscall:
            kept.append(step)
        previous = rip
    return kept


def _compare_steps(wanted: Sequence[Step], got: Sequence[Step], only_rip: bool) -> list[str]:
    expected, actual = comparable(wanted), comparable(got)
    for number, (want, seen) in enumerate(zip(expected, actual, strict=False)):
        found = _compare_step(number, want, seen, only_rip)
        if found:
            return found
    if len(expected) != len(actual):
        return [f"{len(expected)} instructions expected, {len(actual)} callbacks"]
    return []


def _compare_step(number: int, want: Step, got: Step, only_rip: bool) -> list[str]:
    where = f"before instruction {number}, at {want[_RIP]:#x}"
    if want[_RIP] != got[_RIP]:
        return [f"{where}: rip expected {want[_RIP]:#x}, got {got[_RIP]:#x}"]
    if only_rip:
        return []
    found = [
        f"{where}: {name} expected {want[at]:#x}, got {got[at]:#x}"
        for at, name in enumerate(GPR_NAMES)
        if want[at] != got[at]
    ]
    if (want[-1] ^ got[-1]) & _FLAGS:
        found.append(f"{where}: eflags expected {want[-1]:#x}, got {got[-1]:#x}")
    return found
