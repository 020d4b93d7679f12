"""The child process in which snippets run, natively and under an engine, and are compared.

Reads pickled jobs from standard input. Writes one line of JSON for each event to standard output:
what is about to run (so that the parent knows what a crash is about), failures, and the end of a
job. A guest that is executed wrongly may destroy anything here; only the lines are believed.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import json
import math
import mmap
import os
import pickle
import random
import resource
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.exec import machine_state
from tests.exec.batch import CODE_SIZE, DATA, FINISH_SLOT, PAGE, REGION_SIZE, STACK, Batch, Case
from tests.exec.machine_state import FLAGS_COMPARED, GPR_NAMES, State
from tests.exec.native_runner import TRACE_NAMES, NativeRunner, Step
from tests.exec.snippets import DATA_SIZE, MIDDLE, STACK_SIZE

LOW_BASE = 0x30000000
"""Below 4 GiB, so that address-size prefixes work, and over 2 GiB from any shared library."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_MAP_FIXED_NOREPLACE = 0x100000
_RIP = TRACE_NAMES.index("rip")
_SYSCALL = b"\x0f\x05"
_CONTROL_FLOW_FLAGS = FLAGS_COMPARED & ~0x240000


@dataclass
class Job:
    """A batch, the engine to run it under, and how."""

    engine: str
    modes: tuple[str, ...]
    low: bool
    batch: Batch
    first: int = 0
    """Which case to begin with."""


class Region:
    """The mapping that batches are put in, at LOW_BASE or wherever the kernel likes."""

    def __init__(self, low: bool) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (_MAP_FIXED_NOREPLACE if low else 0)
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        base = _libc.mmap(LOW_BASE if low else None, REGION_SIZE, protection, flags, -1, 0)
        if base in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "no room for the region")
        self.base: int = base
        for hole in (FINISH_SLOT + PAGE, DATA + DATA_SIZE, STACK + STACK_SIZE):
            _libc.mprotect(base + hole, PAGE, 0)

    def load(self, code: bytes, finish_address: int) -> None:
        """Put the code of a batch in, readable and executable."""
        size = CODE_SIZE + PAGE
        _libc.mprotect(self.base, size, mmap.PROT_READ | mmap.PROT_WRITE)
        ctypes.memmove(self.base, code, len(code))
        ctypes.memset(self.base + len(code), 0xCC, CODE_SIZE - len(code))
        ctypes.memmove(self.base + FINISH_SLOT, struct.pack("<Q", finish_address), 8)
        _libc.mprotect(self.base, size, mmap.PROT_READ | mmap.PROT_EXEC)

    @property
    def memory(self) -> tuple[bytes, bytes]:
        """The data area and the stack."""
        return (
            ctypes.string_at(self.base + DATA, DATA_SIZE),
            ctypes.string_at(self.base + STACK, STACK_SIZE),
        )

    @memory.setter
    def memory(self, values: tuple[bytes, bytes]) -> None:
        ctypes.memmove(self.base + DATA, values[0], DATA_SIZE)
        ctypes.memmove(self.base + STACK, values[1], STACK_SIZE)


class Watcher:
    """The callbacks of the "callbacks" mode: they record the guest's registers, and do harm.

    What they do - float arithmetic, allocation, C calls that change errno and every register that
    a C function may change, reads and writes of the state - must not be noticed by the guest.
    """

    def __init__(self, engine: Any, vm: Any, clobber: Callable[[], None]) -> None:
        self.before: list[Step] = []
        self.after: list[int] = []
        self._go_on = engine.VMAction.CONTINUE
        self._count = 0
        self._garbage: list[bytes] = []
        self._clobber = clobber
        vm.addCodeCB(engine.InstPosition.PREINST, self.on_before, None)
        vm.addCodeCB(engine.InstPosition.POSTINST, self.on_after, None)

    def on_before(self, vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        self.before.append(tuple([getattr(gpr, name) for name in TRACE_NAMES]))
        self._do_harm(gpr, fpr)
        return self._go_on

    def on_after(self, vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        self.after.append(gpr.rip)
        self._do_harm(gpr, fpr)
        return self._go_on

    def _do_harm(self, gpr: Any, fpr: Any) -> None:
        self._count += 1
        kind = self._count % 7
        if kind == 0:
            self._clobber()
        elif kind == 1:
            self._garbage = [b"x" * (self._count % 5000)]
        elif kind == 2:
            math.fsum([1e300, math.sin(self._count), -1e300, 1 / 3])
        elif kind == 3:
            _libc.close(-1)
        elif kind == 4:
            gpr.rax = gpr.rax
            gpr.eflags = gpr.eflags
        elif kind == 5:
            fpr.xmm1 = fpr.xmm1


def _comparable(steps: list[Step]) -> list[Step]:
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


class Session:
    """A region, a native runner and a VM for each mode of one engine."""

    def __init__(self, job: Job) -> None:
        self.engine = importlib.import_module(job.engine)
        self.native = NativeRunner()
        self.region = Region(job.low)
        self.vms: dict[str, Any] = {}
        self.watcher: Watcher | None = None
        for mode in job.modes:
            vm = self.vms[mode] = self.engine.VM()
            vm.addInstrumentedRange(self.region.base, self.region.base + CODE_SIZE)
            if mode == "callbacks":
                self.watcher = Watcher(self.engine, vm, self.native.clobber)

    def run(self, job: Job) -> None:
        """Run every case, writing what happens."""
        self.region.load(job.batch.code, self.native.finish_address)
        for vm in self.vms.values():
            vm.clearAllCache()
        for index in range(job.first, len(job.batch.cases)):
            case = job.batch.cases[index]
            if case.snippet.low_only and not job.low:
                continue
            self._run_case(index, case)
        _write(done=len(job.batch.cases))

    def _run_case(self, index: int, case: Case) -> None:
        snippet = case.snippet
        rng = random.Random(f"state {snippet.seed}")
        base = self.region.base
        fixed = {name: base + DATA + offset for name, offset in snippet.pointers.items()}
        fixed[snippet.index_register] = rng.randrange(32)
        fixed["rsp"] = base + STACK + MIDDLE + 8 * rng.randrange(-8, 8)
        state = machine_state.random_state(rng, fixed, vector=self.native.vector)
        memory = (
            machine_state.random_bytes(rng, 0x400) * (DATA_SIZE // 0x400),
            machine_state.random_bytes(rng, 0x400) * (STACK_SIZE // 0x400),
        )
        start, stop = base + case.start, base + case.stop
        self.region.memory = memory
        _write(index=index, phase="native")
        expected = self.native.run(start, stop, state)
        expected_memory = self.region.memory
        for mode, vm in self.vms.items():
            self.region.memory = memory
            machine_state.to_engine(state, vm)
            if self.watcher is not None and mode == "callbacks":
                self.watcher.before, self.watcher.after = [], []
            _write(index=index, phase=mode)
            try:
                ran = vm.run(start, stop)
            except Exception as error:
                _write(index=index, failure=mode, differences=[f"{type(error).__name__}: {error}"])
                continue
            found = [] if ran else ["run() returned False"]
            if self.watcher is not None and mode == "callbacks":
                found += self._check_steps(index, case, state, memory)
            actual = machine_state.from_engine(vm, expected)
            self_memory = self.region.memory if mode != "callbacks" else self._memory_after
            found += machine_state.differences(expected, actual, ignore=snippet.ignore)
            found += self._compare_memory(expected_memory, self_memory)
            if found:
                _write(index=index, failure=mode, differences=found)

    def _check_steps(
        self, index: int, case: Case, state: State, memory: tuple[bytes, bytes]
    ) -> list[str]:
        """Compare what the callbacks saw with what single-stepping the CPU shows."""
        assert self.watcher is not None
        self._memory_after = self.region.memory
        start, stop = self.region.base + case.start, self.region.base + case.stop
        self.region.memory = memory
        _write(index=index, phase="single-step")
        steps, complete = self.native.trace(start, stop, state)
        before, after = self.watcher.before, self.watcher.after
        found = []
        if before and before[-1][_RIP] == stop:
            del before[-1]  # PyQBDI calls callbacks of normal priority at `stop` too
        following = [step[_RIP] for step in before[1:]] + [stop]
        for number, (want, got) in enumerate(zip(following, after, strict=False)):
            if want != got:
                found.append(f"after instruction {number}: rip expected {want:#x}, got {got:#x}")
                break
        if len(after) != len(before):
            found.append(f"{len(before)} callbacks before instructions, {len(after)} after")
        expected, actual = _comparable(steps), _comparable(before)
        for number, (want, got) in enumerate(zip(expected, actual, strict=False)):
            found += self._compare_step(number, want, got, case.snippet.steps_vary)
            if found:
                return found
        if len(expected) != len(actual) and complete:
            found.append(f"{len(expected)} instructions expected, {len(actual)} callbacks")
        return found

    def _compare_step(self, number: int, want: Step, got: Step, only_rip: bool) -> list[str]:
        offset = want[_RIP] - self.region.base
        where = f"before instruction {number}, at {offset:#x}"
        if want[_RIP] != got[_RIP]:
            return [f"{where}: rip expected {want[_RIP]:#x}, got {got[_RIP]:#x}"]
        if only_rip:
            return []
        found = [
            f"{where}: {name} expected {want[at]:#x}, got {got[at]:#x}"
            for at, name in enumerate(GPR_NAMES)
            if want[at] != got[at]
        ]
        changed = (want[-1] ^ got[-1]) & _CONTROL_FLOW_FLAGS
        if changed:
            found.append(f"{where}: eflags expected {want[-1]:#x}, got {got[-1]:#x}")
        return found

    def _compare_memory(
        self, expected: tuple[bytes, bytes], actual: tuple[bytes, bytes]
    ) -> list[str]:
        found = []
        for name, want, got in zip(("data", "stack"), expected, actual, strict=True):
            if want != got:
                at = next(i for i, (a, b) in enumerate(zip(want, got, strict=True)) if a != b)
                at &= -8
                found.append(
                    f"{name}+{at:#x}: expected {want[at : at + 16].hex(' ')}, "
                    f"got {got[at : at + 16].hex(' ')}"
                )
        return found


_output = sys.stdout


def _write(**event: Any) -> None:
    _output.write(json.dumps(event) + "\n")
    _output.flush()


def main() -> None:
    """Serve jobs until standard input ends."""
    global _output
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What a guest or a library prints must not mix with the events.
    _output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sessions: dict[tuple[str, tuple[str, ...], bool], Session] = {}
    while True:
        try:
            job: Job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        key = (job.engine, job.modes, job.low)
        if key not in sessions:
            sessions[key] = Session(job)
        sessions[key].run(job)


if __name__ == "__main__":
    # Jobs are pickled as objects of this module under its own name, not of `__main__`.
    importlib.import_module("tests.exec.worker").main()
