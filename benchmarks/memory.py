"""Row `memory`: what it costs to see memory accesses, and not to see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.callbacks import compare, empty
from benchmarks.engines import Guest
from benchmarks.harness import Sample, Take
from benchmarks.report import Report, Settings

#: Units of work per sample: full and quick runs.
UNITS = {False: 2, True: 1}

#: An access that is not seen costs so little that it takes more of them.
MORE_UNITS = 32

#: A watched range in which no program has anything: below the lowest address that can be mapped.
NOWHERE = (0x100, 0x200)


def watch(guest: Guest) -> None:
    """A range that is never accessed."""
    kind = guest.engine.MemoryAccessType.MEMORY_READ_WRITE
    guest.vm.addMemRangeCB(*NOWHERE, kind, empty(guest.engine), None)


def read_one(guest: Guest) -> None:
    """A callback at each access that reads the fields of one."""
    go_on = guest.engine.VMAction.CONTINUE

    def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        access = vm.getInstMemoryAccess()[0]
        _ = access.accessAddress, access.value, access.size, access.type
        return go_on

    guest.vm.addMemAccessCB(guest.engine.MemoryAccessType.MEMORY_READ_WRITE, callback, None)


def read_sequence(guest: Guest) -> None:
    """A callback at the end of each sequence that looks at all of its accesses."""
    go_on = guest.engine.VMAction.CONTINUE

    def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        for access in vm.getBBMemoryAccess():
            _ = access.accessAddress
        return go_on

    guest.vm.recordMemoryAccess(guest.engine.MemoryAccessType.MEMORY_READ_WRITE)
    guest.at_each(guest.engine.VMEvent.SEQUENCE_EXIT, callback)


class Variant(NamedTuple):
    """A way to look at accesses."""

    attach: Callable[[Guest], None]
    by_access: bool = True
    """A cost is that of an access, or else of an instruction that has any."""
    work: int = 1
    """Units of work are multiplied by this."""


VARIANTS = {
    "one": Variant(read_one, by_access=False),
    "sequence": Variant(read_sequence),
    "range": Variant(watch, work=MORE_UNITS),
}


def count(guest: Guest, units: int, by_access: bool) -> int:
    """How many accesses a call makes, or instructions that have any (one slow, untimed call)."""
    seen: list[int] = []
    go_on = guest.engine.VMAction.CONTINUE

    def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        seen.append(len(vm.getInstMemoryAccess()) if by_access else 1)
        return go_on

    guest.vm.addMemAccessCB(guest.engine.MemoryAccessType.MEMORY_READ_WRITE, callback, None)
    guest.call(units)
    guest.vm.deleteAllInstrumentations()
    return sum(seen)


def prepare(engine: str, library: Path, variant: str, units: int) -> Take:
    """A sampler whose events are accesses, or instructions that have any."""
    guest = Guest(engine, library)
    chosen = VARIANTS[variant]
    events = count(guest, units, chosen.by_access)
    if chosen.work > 1:  # counting that many would take minutes
        events += (count(guest, units + 1, chosen.by_access) - events) * (chosen.work - 1) * units
    chosen.attach(guest)
    return lambda: Sample(guest.call(units * chosen.work).nanoseconds, events)


def run(settings: Settings) -> Report:
    """Measure every kernel in each way."""
    title = "memory: accesses one by one, by sequences, and a watched range that is never accessed"
    return compare(title, "accesses", VARIANTS, prepare, UNITS[settings.quick], settings)
