"""Running a snippet without callbacks, and with those on every instruction that do harm."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

from tests.exec.machine_state import FLAGS_COMPARED, GPR_NAMES
from tests.exec.native_runner import TRACE_NAMES, Step

_libc = ctypes.CDLL(None, use_errno=True)
RIP = TRACE_NAMES.index("rip")
SYSCALL = b"\x0f\x05"
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
        if self.before and self.before[-1][RIP] == stop:
            del self.before[-1]  # PyQBDI calls callbacks of normal priority at `stop` too
        return found + self._check_after(stop) + compare_steps(steps, self.before, only_rip)

    def _check_after(self, stop: int) -> list[str]:
        following = [step[RIP] for step in self.before[1:]] + [stop]
        for number, (want, got) in enumerate(zip(following, self.after, strict=False)):
            if want != got:
                return [f"after instruction {number}: rip expected {want:#x}, got {got:#x}"]
        if len(self.after) != len(self.before):
            return [f"{len(self.before)} callbacks before instructions, {len(self.after)} after"]
        return []


def comparable(steps: Sequence[Step]) -> list[Step]:
    """Leave out what the CPU's single-stepping and an engine do not count alike.

    One of each run of steps at the same address is kept: REP counts once or once an iteration. The
    step after a SYSCALL goes: the kernel restores the trap flag too late for it.
    """
    kept: list[Step] = []
    previous = 0
    for step in steps:
        rip = step[RIP]
        follows_syscall = rip == previous + 2 and ctypes.string_at(previous, 2) == SYSCALL
        if rip != previous and not follows_syscall:
            kept.append(step)
        previous = rip
    return kept


def compare_steps(wanted: Sequence[Step], got: Sequence[Step], only_rip: bool) -> list[str]:
    expected, actual = comparable(wanted), comparable(got)
    for number, (want, seen) in enumerate(zip(expected, actual, strict=False)):
        found = _compare_step(number, want, seen, only_rip)
        if found:
            return found
    if len(expected) != len(actual):
        return [f"{len(expected)} instructions expected, {len(actual)} callbacks"]
    return []


def _compare_step(number: int, want: Step, got: Step, only_rip: bool) -> list[str]:
    where = f"before instruction {number}, at {want[RIP]:#x}"
    if want[RIP] != got[RIP]:
        return [f"{where}: rip expected {want[RIP]:#x}, got {got[RIP]:#x}"]
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
