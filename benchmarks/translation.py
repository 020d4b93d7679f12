"""Row `translation`: what an instruction costs an engine the first time it is executed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import build, generate
from benchmarks.callbacks import empty
from benchmarks.engines import Guest
from benchmarks.harness import Sample, Subject, Take, interleave
from benchmarks.report import Cell, Report, Settings

#: Functions to generate and call: full and quick runs.
FUNCTIONS = {False: generate.FUNCTIONS, True: 400}


def add_nothing(guest: Guest) -> None:
    """No instrumentation."""


def add_callback(guest: Guest) -> None:
    """A PREINST callback on every instruction."""
    guest.before_each(empty(guest.engine))


def add_rule(guest: Guest) -> None:
    """An instrumentation rule that declines every instruction."""

    def rule(vm: Any, analysis: Any, data: object) -> list[Any]:
        return []

    kind = guest.engine.AnalysisType.ANALYSIS_INSTRUCTION
    guest.vm.addInstrRule(rule, kind, None)


#: Variant -> what is registered before.
VARIANTS: dict[str, Callable[[Guest], None]] = {
    "plain": add_nothing,
    "callback": add_callback,
    "rule": add_rule,
}

LABELS = {
    "plain": "without callbacks",
    "callback": "with a PREINST callback on every instruction",
    "rule": "with a rule that declines every instruction",
}


def generated_library(count: int) -> Path:
    """The library of *count* generated functions."""
    source = build.BUILD / f"generated_{count}.c"
    text = generate.source(count)
    build.BUILD.mkdir(exist_ok=True)
    if not source.exists() or source.read_text() != text:
        source.write_text(text)
    return build.shared_library(source)


def prepare(engine: str, library: Path, variant: str, count: int) -> Take:
    """A sampler that runs all functions twice in a fresh virtual machine.

    Its time is the first pass minus the second, so neither the execution nor the callbacks are
    in it; its events are the distinct instructions executed.
    """
    counting = Guest(engine, library)
    events = len(counting.executed(0, count))
    counting.close()

    def take() -> Sample:
        guest = Guest(engine, library)
        VARIANTS[variant](guest)
        cold = guest.call(0, count).nanoseconds
        warm = guest.call(0, count).nanoseconds
        guest.close()
        return Sample(cold - warm, events)

    return take


def run(settings: Settings) -> Report:
    """Measure the generated functions without and with callbacks."""
    engine, peer, count = settings.engine, settings.peer, FUNCTIONS[settings.quick]
    library = generated_library(count)
    report = Report(
        f"translation: {count} functions executed for the first time",
        [
            "variant",
            "new instructions",
            *(f"{name} ns" for name in settings.engines),
            *([f"{engine}/{peer}"] if peer else []),
        ],
    )
    report.note = "A cost is (first pass - second pass) / distinct instructions executed."
    for variant in VARIANTS:
        subjects = [
            Subject(name, partial(prepare, name, library, variant, count))
            for name in settings.engines
        ]
        outcome = interleave(subjects, settings.rounds, settings.isolate)
        report.fail(LABELS[variant], outcome.failures)
        events = max((taken[0].events for taken in outcome.samples.values()), default=None)
        cells: list[Cell] = [outcome.cost(name) for name in settings.engines]
        for name in settings.engines:
            report.metrics[f"{variant} {name} ns"] = outcome.cost(name)
        if peer:
            report.metrics[f"{variant} ratio"] = outcome.ratio(engine, peer)
            cells.append(report.metrics[f"{variant} ratio"])
        report.rows.append([LABELS[variant], events, *cells])
    return report
