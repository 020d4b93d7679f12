"""Runs of the cases, made ahead of the tests that look at them, on all processors."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.programs import harness
from tests.programs.builds import Programs
from tests.programs.harness import Case, Mode, Outcome
from tests.programs.pending import reason

_PATIENCE = 6.0  # seconds for what is expected to fail, perhaps by hanging


class Runs:
    """The outcomes of cases, each case run in a thread of a pool.

    Args:
        folder: where all is made.
        wanted: cases and modes that will be asked for.
    """

    def __init__(self, folder: Path, wanted: Iterable[tuple[Case, Mode]]) -> None:
        self.programs = Programs(folder / "bin")
        self.programs.folder.mkdir()
        self._folder = folder
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        modes: dict[str, list[Mode]] = {}
        cases = {}
        for case, mode in wanted:
            cases[case.name] = case
            modes.setdefault(case.name, [Mode.NATIVE]).append(mode)
        self._jobs: dict[str, Future[dict[Mode, Outcome]]] = {
            name: self._pool.submit(self._run, case, modes[name]) for name, case in cases.items()
        }

    def of(self, case: Case) -> dict[Mode, Outcome]:
        """Return the case's outcomes by mode, as soon as they are there."""
        return self._jobs[case.name].result()

    def close(self) -> None:
        """Drop what was not asked for, and all that was made."""
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, case: Case, modes: list[Mode]) -> dict[Mode, Outcome]:
        for name in case.builds:
            self.programs.build(name)
        folder = self._folder / case.name
        outcomes = {}
        for mode in modes:
            patient = case if reason(case.name, mode) is None else replace(case, timeout=_PATIENCE)
            outcomes[mode] = harness.run(patient, mode, folder, self.programs.folder)
        shutil.rmtree(folder)
        return outcomes


@pytest.fixture(scope="session")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """The outcomes of all selected cases that can be run here."""
    wanted = []
    for item in request.session.items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if isinstance(parameters.get("case"), Case) and not item.get_closest_marker("skip"):
            wanted.append((parameters["case"], parameters["mode"]))
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))  # some cases end by a signal
    made = Runs(tmp_path_factory.mktemp("programs"), wanted)
    yield made
    made.close()
    resource.setrlimit(resource.RLIMIT_CORE, limits)
