"""Row `callbacks`: what a Python callback before every instruction costs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

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


CALLBACKS = {"empty": empty, "read": read_register}


def prepare(engine: str, library: Path, variant: str, units: int) -> Take:
    """A sampler whose events are the callbacks that one call makes."""
    guest = Guest(engine, library)
    events = sum(guest.executed(units).values())
    guest.before_each(CALLBACKS[variant](guest.engine))
    return lambda: Sample(guest.call(units).nanoseconds, events)


def run(settings: Settings) -> Report:
    """Measure every kernel with each callback."""
    engine, peer, units = settings.engine, settings.peer, UNITS[settings.quick]
    columns = ["kernel", "callbacks"]
    for variant in CALLBACKS:
        columns += [f"{variant}: {name} ns" for name in settings.engines]
        columns += ["times cheaper"] if peer else []
    report = Report("callbacks: a PREINST callback on every instruction", columns)
    report.note = "A cost is the whole run divided by its callbacks, so it holds the guest's work."
    costs: dict[tuple[str, str], list[float | None]] = {}
    ratios: dict[str, list[float | None]] = {variant: [] for variant in CALLBACKS}
    for kernel, source in build.kernels().items():
        library = build.shared_library(source)
        events: Cell = None
        cells: list[Cell] = []
        for variant in CALLBACKS:
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
    for variant in CALLBACKS:
        for name in settings.engines:
            report.metrics[f"{variant} {name} ns"] = geometric_mean(costs[variant, name])
            summary.append(report.metrics[f"{variant} {name} ns"])
        if peer:
            report.metrics[f"{variant} times cheaper"] = geometric_mean(ratios[variant])
            summary.append(report.metrics[f"{variant} times cheaper"])
    report.rows.append(["geometric mean", None, *summary])
    return report
