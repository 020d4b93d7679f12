"""Row `callbacks`: what a Python callback costs, by when it is called and what it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import build
from benchmarks.engines import Guest
from benchmarks.harness import Sample, Subject, Take, geometric_mean, interleave
from benchmarks.report import Cell, Report, Settings, inverse

#: Units of work per sample: full and quick runs. A unit is some ten thousand instructions.
UNITS = {False: 4, True: 1}


def empty(engine: Any) -> Callable[..., Any]:
    """A callback that does nothing."""
    go_on = engine.VMAction.CONTINUE

    def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        return go_on

    return callback


def read_register(engine: Any) -> Callable[..., Any]:
    """A callback that reads one register."""
    go_on = engine.VMAction.CONTINUE

    def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        _ = gpr.rax
        return go_on

    return callback


def read_analysis(engine: Any) -> Callable[..., Any]:
    """A callback that asks for the instruction's address and text."""
    go_on = engine.VMAction.CONTINUE

    def callback(vm: Any, gpr: Any, fpr: Any, data: object) -> Any:
        analysis = vm.getInstAnalysis()
        _ = analysis.address
        _ = analysis.disassembly
        return go_on

    return callback


def on_event(engine: Any) -> Callable[..., Any]:
    """An event callback that does nothing."""
    go_on = engine.VMAction.CONTINUE

    def callback(vm: Any, state: Any, gpr: Any, fpr: Any, data: object) -> Any:
        return go_on

    return callback


class Variant(NamedTuple):
    """A callback, and when it is called."""

    make: Callable[[Any], Callable[..., Any]]
    on_blocks: bool = False
    """At each BASIC_BLOCK_ENTRY, instead of before each instruction."""

    def attach(self, guest: Guest) -> None:
        """Register it."""
        callback = self.make(guest.engine)
        if self.on_blocks:
            guest.at_each(guest.engine.VMEvent.BASIC_BLOCK_ENTRY, callback)
        else:
            guest.before_each(callback)

    def count(self, guest: Guest, units: int) -> int:
        """How often a call of *units* makes it."""
        if self.on_blocks:
            return guest.occurrences(guest.engine.VMEvent.BASIC_BLOCK_ENTRY, units)
        return sum(guest.executed(units).values())


CALLBACKS = {
    "empty": Variant(empty),
    "read": Variant(read_register),
    "analysis": Variant(read_analysis),
    "block": Variant(on_event, on_blocks=True),
}


def prepare(engine: str, library: Path, variant: str, units: int) -> Take:
    """A sampler whose events are the callbacks that one call makes."""
    guest = Guest(engine, library)
    events = CALLBACKS[variant].count(guest, units)
    CALLBACKS[variant].attach(guest)
    return lambda: Sample(guest.call(units).nanoseconds, events)


def run(settings: Settings) -> Report:
    """Measure every kernel with each callback."""
    title = "callbacks: on every instruction, and on every block"
    return compare(title, "callbacks", CALLBACKS, prepare, UNITS[settings.quick], settings)


def compare(
    title: str,
    events_name: str,
    variants: Iterable[str],
    prepare: Callable[[str, Path, str, int], Take],
    units: int,
    settings: Settings,
) -> Report:
    """Measure every kernel with each variant, under all engines.

    Args:
        events_name: what is counted; of the last variant, if they differ.
        prepare: gives the sampler for an engine, a kernel, a variant, and units of work.
    """
    engine, peer = settings.engine, settings.peer
    variants = tuple(variants)
    columns = ["kernel", events_name]
    for variant in variants:
        columns += [f"{variant}: {name} ns" for name in settings.engines]
        columns += ["times cheaper"] if peer else []
    report = Report(title, columns)
    report.note = (
        f"A cost is the whole run divided by its {events_name}: it holds the guest's work."
    )
    costs: dict[tuple[str, str], list[float | None]] = {}
    ratios: dict[str, list[float | None]] = {variant: [] for variant in variants}
    for kernel, source in build.kernels().items():
        library = build.shared_library(source)
        events: Cell = None
        cells: list[Cell] = []
        for variant in variants:
            subjects = [
                Subject(name, partial(prepare, name, library, variant, units))
                for name in settings.engines
            ]
            outcome = interleave(subjects, settings.rounds, settings.isolate)
            report.fail(f"{kernel} ({variant})", outcome.failures)
            for name in settings.engines:
                cells.append(outcome.cost(name))
                costs.setdefault((variant, name), []).append(outcome.cost(name))
            if peer:
                ratios[variant].append(inverse(outcome.ratio(engine, peer)))
                cells.append(ratios[variant][-1])
            events = max((taken[0].events for taken in outcome.samples.values()), default=None)
        report.rows.append([kernel, events, *cells])
    summary: list[Cell] = []
    for variant in variants:
        for name in settings.engines:
            report.metrics[f"{variant} {name} ns"] = geometric_mean(costs[variant, name])
            summary.append(report.metrics[f"{variant} {name} ns"])
        if peer:
            report.metrics[f"{variant} times cheaper"] = geometric_mean(ratios[variant])
            summary.append(report.metrics[f"{variant} times cheaper"])
    report.rows.append(["geometric mean", None, *summary])
    return report
