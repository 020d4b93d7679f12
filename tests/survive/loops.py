"""Loops around random snippets, run natively and under pydbi with interruptions, and compared.

An interrupted state is right if the processor itself, going on from it natively, comes to the same
end as it does from the beginning: all registers, flags, vectors and memory.
"""

from __future__ import annotations

import ctypes
import random
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tests.exec import machine_state
from tests.exec.batch import CODE_SIZE, DATA, PAGE, STACK, Batch, Case, assemble_batch, make_snippet
from tests.exec.machine_state import State
from tests.exec.native_runner import NativeRunner
from tests.exec.region import Region, map_pages
from tests.exec.snippets import DATA_SIZE, MIDDLE, STACK_SIZE, Snippet

_SAVED_RSP, _COUNTER = 0x1F00, 0x1F08
"""Places in the data area that no snippet writes to."""
_READ_WRITE_EXECUTE = 7
_NOP = 0x90


def loop(snippet: Snippet) -> Snippet:
    """Return *snippet* repeated as often as the counter in the data area says."""
    head = [f"mov [rip + data + {_SAVED_RSP}], rsp", "H@:"]
    tail = [
        f"mov rsp, [rip + data + {_SAVED_RSP}]",
        f"dec qword ptr [rip + data + {_COUNTER}]",
        "jnz H@",
    ]
    snippet.groups = [head, *snippet.groups, tail]
    return snippet


def random_loops(family: str, seeds: Iterable[int]) -> list[Snippet]:
    """Return a loop for each seed whose snippet runs at any address."""
    snippets = [make_snippet(family, seed) for seed in seeds]
    return [loop(snippet) for snippet in snippets if not snippet.low_only]


class Loops:
    """Assembled loops in a region, and the states they begin with.

    Args:
        place: a key of `region.PLACES`; with "distant", RIP-relative operands are out of reach of
            the code cache.
        seed: of the states.
    """

    def __init__(self, snippets: list[Snippet], place: str, seed: int = 0) -> None:
        self.place = place
        self.native = NativeRunner()
        self.region = Region(place)
        self.batch: Batch = assemble_batch(snippets)
        self.region.load(self.batch.code, self.native.finish_address)
        self.random = random.Random(f"loops {seed}")

    def machine(self, engine: Any) -> Any:
        """Return a VM that instruments the loops."""
        vm = engine.VM()
        if self.place == "distant":  # the cache then begins near the libraries
            nops = map_pages(None, PAGE, _READ_WRITE_EXECUTE)
            ctypes.memset(nops, _NOP, PAGE)
            vm.addInstrumentedRange(nops, nops + PAGE)
            vm.run(nops, nops + 1)
        vm.addInstrumentedRange(self.region.base, self.region.base + CODE_SIZE)
        return vm

    def starts(self, milliseconds: float) -> Iterator[Start]:
        """Yield each loop with a random state in which it takes about so long natively."""
        for case in self.batch.cases:
            yield Start(self, case, milliseconds / 1e3)


class Start:
    """A loop, the state and memory that it begins with, and how it ends natively.

    Args:
        seconds: how long it is to take natively.
    """

    def __init__(self, loops: Loops, case: Case, seconds: float) -> None:
        self.loops = loops
        rng, base, snippet = loops.random, loops.region.base, case.snippet
        self.text = snippet.text(0)
        self.start, self.stop = base + case.start, base + case.stop
        fixed = {name: base + DATA + offset for name, offset in snippet.pointers.items()}
        fixed[snippet.index_register] = rng.randrange(32)
        fixed["rsp"] = base + STACK + MIDDLE
        self.state = machine_state.random_state(rng, fixed, vector=loops.native.vector)
        self._data = bytearray(machine_state.random_bytes(rng, 0x400) * (DATA_SIZE // 0x400))
        self._stack = machine_state.random_bytes(rng, 0x400) * (STACK_SIZE // 0x400)
        rounds, taken = 25, 0.0
        while taken < seconds / 4:
            rounds *= 4
            taken = min(self._run_natively(rounds) for _ in range(3))
        self._run_natively(int(rounds * seconds / taken))

    def _run_natively(self, rounds: int) -> float:
        self._data[_COUNTER : _COUNTER + 8] = rounds.to_bytes(8, "little")
        region = self.loops.region
        region.memory = self.memory = (bytes(self._data), self._stack)
        begin = time.perf_counter()
        self.end = self.loops.native.run(self.start, self.stop, self.state)
        taken = time.perf_counter() - begin
        self.end_memory = region.memory
        return taken

    def prepare(self, vm: Any) -> None:
        """Give *vm* the state to begin with."""
        self.loops.region.memory = self.memory
        machine_state.to_engine(self.state, vm)

    def check_end(self, vm: Any) -> None:
        """Assert that what *vm* has come to is the native end."""
        self._compare(machine_state.from_engine(vm, self.end))

    def check_interrupted(self, vm: Any) -> None:
        """Assert that the processor comes to the native end from where *vm* is; it stays there."""
        memory = self.loops.region.memory
        state: State = machine_state.from_engine(vm, self.end)
        rip = vm.getGPRState().rip
        self._compare(self.loops.native.run(rip, self.stop, state))
        self.loops.region.memory = memory

    def _compare(self, actual: State) -> None:
        found = machine_state.differences(self.end, actual)
        for name, want, got in zip("ds", self.end_memory, self.loops.region.memory, strict=True):
            if want != got:
                pairs = enumerate(zip(want, got, strict=True))
                at = next(at for at, (one, other) in pairs if one != other)
                found.append(f"{name}+{at:#x}: expected {want[at]:#x}, got {got[at]:#x}")
        assert not found, "\n".join([*found, self.text])
