"""Row `call`: what `vm.call` of an empty function costs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks import build
from benchmarks.clock import now
from benchmarks.engines import NATIVE, Guest, Native
from benchmarks.harness import Sample, Subject, Take, interleave
from benchmarks.report import Report, Settings, scaled

SOURCE = build.HERE / "sources" / "empty.c"

#: Calls per sample: full and quick runs.
CALLS = {False: 10_000, True: 1000}

#: PyQBDI lowers rsp by 0x88 for each call and leaves it there, so the stack holds a whole batch.
STACK_SIZE = 2 << 20


def prepare_native(library: Path, calls: int) -> Take:
    """A sampler of calls through ctypes: what a Python program pays without any engine."""
    function = Native(library, "empty").function

    def take() -> Sample:
        start = now()
        for _ in range(calls):
            function()
        return Sample(now() - start, calls)

    return take


def prepare_guest(engine: str, library: Path, calls: int) -> Take:
    """A sampler of calls under *engine*; the first one, which translates, is not in it."""
    guest = Guest(engine, library, "empty", STACK_SIZE)
    guest.call()
    call, address, arguments = guest.vm.call, guest.address, list[int]()

    def take() -> Sample:
        guest.reset_stack()
        start = now()
        for _ in range(calls):
            call(address, arguments)
        sample = Sample(now() - start, calls)
        guest.call()
        return sample

    return take


def run(settings: Settings) -> Report:
    """Measure one function that returns at once."""
    engine, peer, calls = settings.engine, settings.peer, CALLS[settings.quick]
    library = build.shared_library(SOURCE)
    subjects = [Subject(NATIVE, partial(prepare_native, library, calls))]
    subjects += [
        Subject(name, partial(prepare_guest, name, library, calls)) for name in settings.engines
    ]
    outcome = interleave(subjects, settings.rounds, settings.isolate)
    report = Report("call: vm.call of an empty function", ["by", "us per call"])
    report.fail("empty function", outcome.failures)
    labels = {NATIVE: "ctypes, natively"}
    report.rows = [
        [labels.get(subject.name, subject.name), scaled(outcome.cost(subject.name), 1e3)]
        for subject in subjects
    ]
    for name in settings.engines:
        report.metrics[f"{name} us"] = scaled(outcome.cost(name), 1e3)
    if peer:
        report.metrics["ratio"] = outcome.ratio(engine, peer)
        report.rows.append([f"{engine}/{peer}", report.metrics["ratio"]])
    return report
