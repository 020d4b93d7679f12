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
import mmap
import os
import pickle
import random
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.exec import machine_state
from tests.exec.batch import CODE_SIZE, DATA, PAGE, STACK, Batch, Case
from tests.exec.machine_state import State
from tests.exec.modes import MODES, Plain
from tests.exec.native_runner import NativeRunner, Step
from tests.exec.region import Memory, Region, map_pages
from tests.exec.snippets import DATA_SIZE, MIDDLE, STACK_SIZE


@dataclass
class Job:
    """A batch, the engine to run it under, and how."""

    engine: str
    modes: tuple[str, ...]
    """Keys of `modes.MODES`."""
    place: str
    """A key of `region.PLACES`."""
    batch: Batch
    first: int = 0
    """Which case to begin with."""


class Session:
    """A region, a native runner and a VM for each mode of one engine."""

    def __init__(self, job: Job) -> None:
        engine = importlib.import_module(job.engine)
        self.native = NativeRunner()
        self.region = Region(job.place)
        self.jobs = 0
        self._nops = map_pages(None, PAGE, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        ctypes.memset(self._nops, 0x90, PAGE)
        self.modes: dict[str, Plain] = {}
        for name in job.modes:
            vm = engine.VM()
            vm.addInstrumentedRange(self.region.base, self.region.base + CODE_SIZE)
            self.modes[name] = MODES[name](engine, vm, self.native.clobber)

    def run(self, job: Job) -> None:
        """Run every case, writing what happens."""
        self.region.load(job.batch.code, self.native.finish_address)
        self.jobs += 1
        for mode in self.modes.values():
            if self.jobs % 2:
                mode.vm.clearCache(self.region.base, self.region.base + CODE_SIZE)
            else:
                mode.vm.clearAllCache()
            if job.place == "distant":
                self._run_far_away(mode.vm)
        for index in range(job.first, len(job.batch.cases)):
            case = job.batch.cases[index]
            if not case.snippet.low_only or self.region.is_low:
                self._run_case(index, case)
        _write(done=len(job.batch.cases))

    def _run_far_away(self, vm: Any) -> None:
        """Run a NOP near the libraries, so that the cache begins there."""
        vm.addInstrumentedRange(self._nops, self._nops + PAGE)
        vm.run(self._nops, self._nops + 1)

    def _start(self, case: Case) -> tuple[State, Memory]:
        """The random state and memory that a case starts from."""
        rng = random.Random(f"state {case.snippet.seed}")
        base, snippet = self.region.base, case.snippet
        fixed = {name: base + DATA + offset for name, offset in snippet.pointers.items()}
        fixed[snippet.index_register] = rng.randrange(32)
        fixed["rsp"] = base + STACK + MIDDLE + 8 * rng.randrange(-8, 8)
        state = machine_state.random_state(rng, fixed, vector=self.native.vector)
        data = machine_state.random_bytes(rng, 0x400) * (DATA_SIZE // 0x400)
        return state, (data, machine_state.random_bytes(rng, 0x400) * (STACK_SIZE // 0x400))

    def _run_case(self, index: int, case: Case) -> None:
        start, stop = self.region.base + case.start, self.region.base + case.stop
        state, memory = self._start(case)
        self.region.memory = memory
        _write(index=index, phase="native")
        expected = self.native.run(start, stop, state)
        expected_memory = self.region.memory
        steps: Sequence[Step] = ()
        if any(mode.needs_steps for mode in self.modes.values()):
            self.region.memory = memory
            _write(index=index, phase="single-step")
            steps = self.native.trace(start, stop, state)
        for name, mode in self.modes.items():
            self.region.memory = memory
            machine_state.to_engine(state, mode.vm)
            _write(index=index, phase=name)
            try:
                found = mode.run(start, stop, steps, case.snippet.steps_vary)
            except Exception as error:
                _write(index=index, failure=name, differences=[f"{type(error).__name__}: {error}"])
                continue
            actual = machine_state.from_engine(mode.vm, expected)
            found += machine_state.differences(expected, actual)
            found += _compare_memory(expected_memory, self.region.memory)
            if found:
                _write(index=index, failure=name, differences=found)


def _compare_memory(expected: Memory, actual: Memory) -> list[str]:
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
    sessions: dict[tuple[str, tuple[str, ...], str], Session] = {}
    while True:
        try:
            job: Job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        key = (job.engine, job.modes, job.place)
        if key not in sessions:
            sessions[key] = Session(job)
        sessions[key].run(job)


if __name__ == "__main__":
    # Jobs are pickled as objects of this module under its own name, not of `__main__`.
    importlib.import_module("tests.exec.worker").main()
