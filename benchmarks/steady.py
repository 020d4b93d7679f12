"""Row `steady`: what a warm kernel costs without callbacks, compared with native."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks import build
from benchmarks.engines import NATIVE, Guest, Native
from benchmarks.harness import Sample, Subject, Take, geometric_mean, interleave
from benchmarks.report import Report, Settings, scaled

#: Native time that one sample aims at, in nanoseconds: full and quick runs.
TARGET = {False: 30e6, True: 3e6}


def prepare_native(library: Path, units: int) -> Take:
    """A sampler of *units* units of work on the bare CPU."""
    native = Native(library)
    return lambda: Sample(native.call(units).nanoseconds)


def prepare_guest(engine: str, library: Path, units: int) -> Take:
    """A sampler of the same work under *engine*; the harness's first round warms it up."""
    guest = Guest(engine, library)
    return lambda: Sample(guest.call(units).nanoseconds)


def calibrate(library: Path, target: float) -> int:
    """How many units of work take about *target* nanoseconds natively."""
    native, units = Native(library), 1
    while native.call(units).nanoseconds < target / 4:
        units *= 2
    nanoseconds = min(native.call(units).nanoseconds for _ in range(3))
    return max(1, round(units * target / nanoseconds))


def run(settings: Settings) -> Report:
    """Measure every kernel."""
    engine, peer = settings.engine, settings.peer
    report = Report(
        "steady: warm kernels without callbacks",
        [
            "kernel",
            "native ms",
            *(f"{name} ms" for name in settings.engines),
            *(f"{name}/native" for name in settings.engines),
        ],
    )
    ratios: dict[str, list[float | None]] = {name: [] for name in settings.engines}
    for kernel, source in build.kernels().items():
        library = build.shared_library(source)
        units = calibrate(library, TARGET[settings.quick])
        subjects = [Subject(NATIVE, partial(prepare_native, library, units))]
        subjects += [
            Subject(name, partial(prepare_guest, name, library, units)) for name in settings.engines
        ]
        outcome = interleave(subjects, settings.rounds, settings.isolate)
        report.fail(kernel, outcome.failures)
        for name in settings.engines:
            ratios[name].append(outcome.ratio(name, NATIVE))
        report.rows.append(
            [
                kernel,
                *(scaled(outcome.cost(name), 1e6) for name in (NATIVE, *settings.engines)),
                *(ratios[name][-1] for name in settings.engines),
            ]
        )
    blanks = [None] * (1 + len(settings.engines))
    means = {name: geometric_mean(values) for name, values in ratios.items()}
    report.rows.append(["geometric mean", *blanks, *means.values()])
    report.metrics["geomean"] = means[engine]
    report.metrics["worst"] = max((r for r in ratios[engine] if r is not None), default=None)
    if peer:
        report.metrics["peer geomean"] = means[peer]
    return report
