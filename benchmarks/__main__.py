"""Command line: ``python -m benchmarks [row ...]``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from benchmarks import (
    build,
    call,
    callbacks,
    clock,
    engines,
    memory,
    programs,
    steady,
    targets,
    translation,
)
from benchmarks.report import Report, Settings

ROWS: MappingProxyType[str, Callable[[Settings], Report]] = MappingProxyType(
    {
        "steady": steady.run,
        "callbacks": callbacks.run,
        "memory": memory.run,
        "translation": translation.run,
        "call": call.run,
        "programs": programs.run,
    }
)

NO_PEER = """\
{peer} is not installed: its columns are left out, and what compares with it is not measured.
Install the extra for them: pip install -e .[benchmarks]
"""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure pydbi against native execution and against PyQBDI.",
    )
    parser.add_argument(
        "rows", nargs="*", metavar="row", help=f"what to measure, by default all: {', '.join(ROWS)}"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help="samples of each subject (default 7, with --quick 3)",
    )
    parser.add_argument("--quick", action="store_true", help="less work a sample: a smoke test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    parser.add_argument(
        "--isolate",
        action="store_true",
        help="a process for each engine, instead of one for each case",
    )
    parser.add_argument(
        "--clock",
        choices=clock.CLOCKS,
        default="wall",
        help="time that passes, or processor time for a busy machine",
    )
    parser.add_argument("--engine", default="pydbi", metavar="MODULE", help="what is under test")
    parser.add_argument(
        "--peer", default="pyqbdi", metavar="MODULE", help="what to compare with, '' for nothing"
    )
    options = parser.parse_args(argv)
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))} (there are {', '.join(ROWS)})")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.engine == options.peer:
        parser.error(f"to compare an engine with itself, say --engine {options.engine}#2")
    if not engines.available(options.engine):
        parser.error(f"{options.engine} cannot be imported")
    return options


def environment(settings: Settings) -> dict[str, str]:
    """What the figures depend on beside the engines' code."""
    versions = {name: engines.version(name) for name in settings.engines}
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": _cpu(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "compiler": build.compiler_version(),
        **versions,
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def measure(rows: list[str], settings: Settings) -> dict[str, Report]:
    """Run the rows and print each as soon as it is there."""
    reports = {}
    for row in rows:
        try:
            report = ROWS[row](settings)
        except build.BuildError as error:
            report = Report(row, ["row"], failures=[f"{row}: {error}"])
        print(report.text(), flush=True)
        reports[row] = report
    return reports


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and return 1 if an engine crashed or computed something wrong."""
    options = arguments(argv)
    peer = options.peer
    if peer and not engines.available(peer):
        print(NO_PEER.format(peer=engines.DISTRIBUTIONS.get(peer, peer)))
        peer = ""
    os.environ[clock.VARIABLE] = options.clock
    settings = Settings(
        clock=options.clock,
        engine=options.engine,
        peer=peer,
        rounds=options.rounds or (3 if options.quick else 7),
        quick=options.quick,
        isolate=options.isolate,
    )
    around = environment(settings)
    print("\n".join(f"{key}: {value}" for key, value in around.items()), end="\n\n", flush=True)
    reports = measure([row for row in ROWS if row in (options.rows or ROWS)], settings)
    print(targets.summary(reports))
    if options.json:
        options.json.write_text(
            json.dumps(
                {
                    "environment": around,
                    "settings": dataclasses.asdict(settings),
                    "rows": {row: dataclasses.asdict(report) for row, report in reports.items()},
                    "targets": targets.verdicts(reports),
                },
                indent=2,
            )
            + "\n"
        )
    return int(any(report.failures for report in reports.values()))


if __name__ == "__main__":
    sys.exit(main())
