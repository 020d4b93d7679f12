"""Row `programs`: whole programs from their start to their end, natively and under engines."""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import clock
from benchmarks.engines import NATIVE
from benchmarks.harness import Outcome, Sample, Subject, Take, interleave
from benchmarks.program_cases import Case, cases
from benchmarks.report import Report, Settings, scaled

KEPT = "kept"
VALGRIND = "valgrind"
DYNAMORIO = "dynamorio"
BARE = "bare Python"
"""Subjects beside native and the engine under test: the engine with the translations of an earlier
run, what it is compared with, and Python that does nothing."""


class Output(NamedTuple):
    """How a process has ended, and a digest of what it has written."""

    status: int
    digest: str


class Process(NamedTuple):
    """A process to be timed."""

    command: tuple[str, ...]
    environment: dict[str, str]

    def run(self) -> tuple[int, Output, bytes]:
        """Run it once; return nanoseconds by the chosen clock, and what came out.

        Raises:
            RuntimeError: it failed; the message has what it said.
        """
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as errors,
            open(os.devnull, "rb") as nothing,
        ):
            streams = [
                (os.POSIX_SPAWN_DUP2, file.fileno(), number)
                for number, file in enumerate((nothing, out, errors))
            ]
            start = clock.now()
            pid = os.posix_spawn(
                self.command[0], self.command, self.environment, file_actions=streams
            )
            _, status, used = os.wait4(pid, 0)
            nanoseconds = clock.now() - start
            if clock.now is clock.CLOCKS["cpu"]:
                nanoseconds = round((used.ru_utime + used.ru_stime) * 1e9)
            out.seek(0)
            written = out.read()
            if status:
                errors.seek(0)
                said = errors.read(300).decode(errors="replace").strip()
                raise RuntimeError(f"{os.waitstatus_to_exitcode(status)} {said}")
        return nanoseconds, Output(status, hashlib.sha256(written).hexdigest()), written


def prepare(process: Process, inside: bool, expected: Output) -> Take:
    """A sampler of runs of *process*.

    Args:
        inside: the process prints the nanoseconds that count; else its output is compared with
            what is *expected*.
    """

    def take() -> Sample:
        nanoseconds, output, written = process.run()
        if inside:
            return Sample(int(written))
        if output != expected:
            raise RuntimeError("its output differs from the native one")
        return Sample(nanoseconds)

    return take


def _subjects(case: Case, engine: str, scratch: Path) -> list[Subject]:
    """What runs *case*."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    source = str(Path(__file__).resolve().parent.parent)
    hosted = environment | {
        "PYTHONPATH": source,
        "PYTHONPYCACHEPREFIX": str(scratch / "compiled"),
        "PYDBI_CACHE": str(scratch / "translations"),
    }
    run = (sys.executable, "-m", engine, "run")
    commands = {
        NATIVE: Process(case.command, environment),
        engine: Process((*run, "--no-cache", "--", *case.command), hosted),
    }
    if not case.inside:
        commands[KEPT] = Process((*run, "--", *case.command), hosted)
    if case.kind == "start":
        for name, program, *options in (
            (VALGRIND, "valgrind", "-q", "--tool=none"),
            (DYNAMORIO, "drrun", "--"),
        ):
            path = shutil.which(program)
            if path is not None:
                commands[name] = Process((path, *options, *case.command), environment)
    if case.name == "true":
        commands[BARE] = Process((sys.executable, "-c", "pass"), hosted)
    _, expected, _ = commands[NATIVE].run()
    return [
        Subject(name, partial(prepare, process, case.inside, expected))
        for name, process in commands.items()
    ]


def difference(outcome: Outcome, name: str, base: str) -> float | None:
    """The median over the rounds of *name*'s milliseconds less *base*'s."""
    pairs = zip(outcome.samples.get(name, ()), outcome.samples.get(base, ()), strict=False)
    differences = [(one.nanoseconds - other.nanoseconds) / 1e6 for one, other in pairs]
    return statistics.median(differences) if differences else None


def run(settings: Settings) -> Report:
    """Measure every program; memory and the disk are as the round that is thrown away left them."""
    engine = settings.engine
    report = Report(
        "programs: whole programs, without callbacks",
        ["program", *(f"{name} ms" for name in (NATIVE, engine, KEPT, VALGRIND, DYNAMORIO)),
         *(f"{name}/native" for name in (engine, KEPT)), f"{engine}/{VALGRIND}"],
    )  # fmt: skip
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="pydbi-benchmark-") as folder:
        found, missing = cases(Path(folder), settings.quick)
        for case in found:
            try:
                subjects = _subjects(case, engine, Path(folder))
            except RuntimeError as error:
                report.failures.append(f"{case.name}, {NATIVE}: {error}")
                continue
            outcome = interleave(subjects, settings.rounds, settings.isolate)
            report.fail(case.name, outcome.failures)
            outcomes[case.name] = outcome
            report.rows.append(
                [
                    case.name,
                    *(
                        scaled(outcome.cost(name), 1e6)
                        for name in (NATIVE, engine, KEPT, VALGRIND, DYNAMORIO)
                    ),
                    outcome.ratio(engine, NATIVE),
                    outcome.ratio(KEPT, NATIVE),
                    outcome.ratio(engine, VALGRIND),
                ]
            )
    report.metrics = _metrics(engine, found, outcomes)
    absent = [*missing, *(name for name in ("valgrind", "drrun") if not shutil.which(name))]
    if absent:
        report.note = f"not installed: {', '.join(absent)}"
    return report


def _metrics(
    engine: str, found: Sequence[Case], outcomes: dict[str, Outcome]
) -> dict[str, float | None]:
    """What the targets are about."""
    nothing = Outcome()
    true = outcomes.get("true", nothing)
    getppid = outcomes.get("getppid", nothing)
    started = [case.name for case in found if case.kind == "start" and case.name != "true"]
    steady = [case.name for case in found if case.kind == "steady"]
    folder = next((name for name in started if name.startswith("ls")), "")
    return {
        "true more": difference(true, engine, NATIVE),
        "true/valgrind": true.ratio(engine, VALGRIND),
        "worst/valgrind": _worst(outcomes, started, engine, VALGRIND),
        "worst steady": _worst(outcomes, steady, engine, NATIVE),
        "getppid": getppid.ratio(engine, NATIVE),
        "parallel": _parallelism(engine, outcomes),
        "ls kept": outcomes.get(folder, nothing).ratio(KEPT, engine),
        "true kept more": difference(true, KEPT, BARE),
    }


def _worst(
    outcomes: dict[str, Outcome], names: Sequence[str], subject: str, base: str
) -> float | None:
    """The largest ratio of *subject* to *base*; None if one of *names* has none."""
    ratios = [outcomes[name].ratio(subject, base) for name in names if name in outcomes]
    known = [ratio for ratio in ratios if ratio is not None]
    return max(known) if known and len(known) == len(names) else None


def _parallelism(engine: str, outcomes: dict[str, Outcome]) -> float | None:
    """How much of the native gain a second thread brings under *engine*."""
    gains: list[float] = []
    for name in (engine, NATIVE):
        costs = [
            outcomes[case].cost(name) if case in outcomes else None
            for case in ("1 compute thread", "2 compute threads")
        ]
        if costs[0] is None or not costs[1]:
            return None
        gains.append(2 * costs[0] / costs[1])
    return gains[0] / gains[1]
