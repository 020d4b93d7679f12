"""Runs snippets in child processes, and turns what goes wrong into a readable report.

The environment says how much: PYDBI_TEST_CASES (cases of each family), PYDBI_TEST_SEED (the first
seed), PYDBI_TEST_ENGINE (a module with PyQBDI's interface; pydbi).
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

from tests.child import child_environment
from tests.exec.batch import Batch, assemble_batch, make_snippet
from tests.exec.gnu_as import AssemblyError
from tests.exec.modes import MODES as ALL_MODES
from tests.exec.snippets import Snippet
from tests.exec.worker import Job

ENGINE = os.environ.get("PYDBI_TEST_ENGINE", "pydbi")
CASES = int(os.environ.get("PYDBI_TEST_CASES", "1000"))
FIRST_SEED = int(os.environ.get("PYDBI_TEST_SEED", "1"))
MODES = ("plain", "callbacks")
SILENCE = 60.0
"""Seconds without an event after which a child counts as hanging."""

_BATCH_SIZE = 100
_MOST_REDUCTIONS = 80
_MOST_REPORTED = 3


@dataclass
class Failure:
    """One case that did not run as on the CPU."""

    snippet: Snippet
    mode: str
    place: str
    differences: list[str]


class Worker:
    """A child process that runs jobs; replaced when it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, and use no other."""
        self.stop()
        self._errors.close()

    def stop(self) -> None:
        """End the child; the next job gets a new one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _child(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._errors.seek(0)
            self._errors.truncate()
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "tests.exec.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=child_environment(),
            )
        return self._process

    def events(self, job: Job) -> Iterator[dict[str, Any]]:
        """Run *job*; the last event is ``done``, or ``died`` with what is known of the end."""
        child = self._child()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            pickle.dump(job, child.stdin)
            child.stdin.flush()
        except BrokenPipeError:
            yield {"died": self._obituary("before the job")}
            return
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(SILENCE):
                    yield {"died": self._obituary(f"silent for {SILENCE:.0f} s")}
                    return
                data = os.read(child.stdout.fileno(), 1 << 16)
                if not data:
                    yield {"died": self._obituary("")}
                    return
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event
                    if "done" in event:
                        return

    def _obituary(self, why: str) -> str:
        child = self._child()
        if why:
            child.kill()
        status = child.wait()
        self.stop()
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()[-1500:]
        how = why or (signal.Signals(-status).name if status < 0 else f"exit status {status}")
        return f"the child died: {how}\n{text}"


def _run_batch(
    worker: Worker, batch: Batch, place: str, modes: tuple[str, ...], engine: str
) -> list[Failure]:
    failures: list[Failure] = []
    first = 0
    while first < len(batch.cases):
        index, phase = first, "start"
        for event in worker.events(Job(engine, modes, place, batch, first)):
            if "phase" in event:
                index, phase = event["index"], event["phase"]
            elif "failure" in event:
                snippet = batch.cases[event["index"]].snippet
                failures.append(Failure(snippet, event["failure"], place, event["differences"]))
            elif "died" in event:
                snippet = batch.cases[index].snippet
                failures.append(Failure(snippet, phase, place, event["died"].splitlines()))
                first = index + 1
            else:
                first = len(batch.cases)
        if len(failures) > 10 * _MOST_REPORTED:
            break
    return failures


def run_snippets(
    snippets: Sequence[Snippet],
    *,
    modes: tuple[str, ...] = MODES,
    places: tuple[str, ...] = ("low", "near"),
    engine: str = ENGINE,
) -> list[Failure]:
    """Run all snippets, batches in turn at each of the places, in as many children at a time."""
    chunks = [snippets[at : at + _BATCH_SIZE] for at in range(0, len(snippets), _BATCH_SIZE)]

    def run_share(share: int) -> list[Failure]:
        failures = []
        with Worker() as worker:
            for chunk in chunks[share :: len(places)]:
                batch = assemble_batch(chunk)
                failures += _run_batch(worker, batch, places[share], modes, engine)
                if len(failures) > 10 * _MOST_REPORTED:
                    break
        return failures

    with ThreadPoolExecutor(len(places)) as pool:
        return [failure for share in pool.map(run_share, range(len(places))) for failure in share]


def run_in(worker: Worker, snippets: Sequence[Snippet], *, place: str = "low") -> list[Failure]:
    """Run a few snippets in a child that is there already."""
    return _run_batch(worker, assemble_batch(snippets), place, MODES, ENGINE)


def _fails(worker: Worker, snippet: Snippet, like: Failure, engine: str) -> Failure | None:
    """Run one snippet in a child that did nothing else before."""
    worker.stop()
    try:
        batch = assemble_batch([snippet])
    except AssemblyError:
        return None
    modes = (like.mode,) if like.mode in ALL_MODES else MODES
    for failure in _run_batch(worker, batch, like.place, modes, engine):
        if failure.mode == like.mode:
            return failure
    return None


def reduce_failure(failure: Failure, engine: str = ENGINE) -> tuple[Failure, bool]:
    """Take out groups while the case goes on failing in the same mode.

    The second value is whether the case fails when it runs alone.
    """
    with Worker() as worker:
        alone = _fails(worker, failure.snippet, failure, engine)
        if alone is None:
            return failure, False
        tries, size = 0, max(1, len(alone.snippet.groups) // 2)
        while tries < _MOST_REDUCTIONS:
            smaller, at = None, 0
            while at < len(alone.snippet.groups) and tries < _MOST_REDUCTIONS:
                groups = alone.snippet.groups
                candidate = dataclasses.replace(
                    alone.snippet, groups=groups[:at] + groups[at + size :]
                )
                tries += 1
                smaller = _fails(worker, candidate, alone, engine) if candidate.groups else None
                if smaller is not None:
                    alone = smaller
                else:
                    at += size
            if size == 1 and smaller is None:
                break
            size = max(1, size // 2)
    return alone, True


def disassembly(code: bytes) -> list[str]:
    """Capstone's opinion, a line for each instruction."""
    import capstone

    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.skipdata = True
    return [
        f"    {at:#06x}  {code[at : at + size].hex():30} {mnemonic} {operands}".rstrip()
        for at, size, mnemonic, operands in engine.disasm_lite(code, 0)
    ]


def describe(failure: Failure, *, alone: bool = True) -> str:
    """The report of one failure: what differs first, then all that is needed to repeat it."""
    snippet = failure.snippet
    batch = assemble_batch([snippet])
    code = batch.bytes_of(batch.cases[0])
    pointers = " ".join(f"{name}=data+{at:#x}" for name, at in snippet.pointers.items())
    lines = [
        f"family {snippet.family}, seed {snippet.seed}, in mode or phase {failure.mode!r}, "
        f"code {failure.place!r}" + ("" if alone else "; does NOT fail when it runs alone"),
        *(f"  {line}" for line in failure.differences[:24]),
        f"  bytes: {code.hex()}",
        f"  pointers: {pointers} index={snippet.index_register}",
        "  source:",
        *(f"    {line}" for group in snippet.groups for line in group),
        "  disassembly:",
        *disassembly(code),
    ]
    return "\n".join(lines)


def report(failures: Sequence[Failure], engine: str = ENGINE) -> str:
    """A message about all failures: the first few reduced to what is needed to make them fail."""
    lines = [f"{len(failures)} failures (at most; later cases may not have run)"]
    lines += [f"seeds: {sorted({failure.snippet.seed for failure in failures})}"]
    for failure in failures[:_MOST_REPORTED]:
        reduced, alone = reduce_failure(failure, engine)
        lines.append(describe(reduced, alone=alone))
    return "\n\n".join(lines)


def check(
    family: str,
    *,
    cases: int = CASES,
    modes: tuple[str, ...] = MODES,
    places: tuple[str, ...] = ("low", "near"),
) -> None:
    """Run cases of one family and fail with a report if any of them differs from the CPU."""
    print(f"{family}: seeds {FIRST_SEED} to {FIRST_SEED + cases - 1}")
    snippets = [make_snippet(family, FIRST_SEED + number) for number in range(cases)]
    failures = run_snippets(snippets, modes=modes, places=places)
    if failures:
        raise AssertionError(report(failures))
