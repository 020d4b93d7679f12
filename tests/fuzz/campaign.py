"""Runs cases in child processes, and turns what is found into a report that can be repeated."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.child import child_environment
from tests.exec.campaign import disassembly
from tests.fuzz.cases import Case, make_case
from tests.fuzz.worker import mode_of

ENGINE = "pydbi"
SILENCE = 20.0
"""Seconds for one case, after which the child counts as hanging."""
_MOST_REDUCTIONS = 150
_CASES_PER_CHILD = 12800


@dataclass
class Finding:
    """A case that did not run as on the processor."""

    case: Case
    mode: str
    differences: list[str]
    alone: bool = True
    """Whether it fails in a child that runs nothing else."""


class Campaign:
    """Cases of one seed under one engine."""

    def __init__(self, seed: int, engine: str = ENGINE, mode: str = "", cpu: int = 0) -> None:
        self.seed, self.engine, self.mode, self.cpu = seed, engine, mode, cpu
        self.done = 0

    def run(self, first: int, count: int, seconds: float = float("inf")) -> Iterator[Finding]:
        """Run cases from *first* on, for a number of them or for some time."""
        deadline = time.monotonic() + seconds
        end = first + count
        while first < end and time.monotonic() < deadline:
            last = min(end, first + _CASES_PER_CHILD)
            for index, differences in self._child(first, last, deadline):
                case = make_case(self.seed, index)
                yield Finding(case, mode_of(index, self.mode), differences)
            self.done += self._reached - first
            first = self._reached

    def check(self, case: Case, mode: str) -> list[str]:
        """Run one case in a child of its own, and return its differences."""
        job = {"mode": mode, "code": case.code.hex(), "offset": case.offset}
        for _index, differences in self._child(case.index, case.index + 1, None, **job):
            return differences
        return []

    def _child(
        self, first: int, end: int, deadline: float | None, **more: object
    ) -> Iterator[tuple[int, list[str]]]:
        """Run a child, and yield the cases with differences; a crash is one, too.

        Sets where the next child has to begin.
        """
        with tempfile.TemporaryFile() as progress, tempfile.TemporaryFile() as errors:
            progress.write(struct.pack("<q", first))
            progress.flush()
            number = progress.fileno()
            job = {"seed": self.seed, "first": first, "end": end, "engine": self.engine}
            job |= {"mode": self.mode, "code": None, "offset": 0, "cpu": self.cpu}
            job |= {"progress": number, **more}
            child = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.worker", json.dumps(job)],
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**child_environment(), "GLIBC_TUNABLES": "glibc.pthread.rseq=0"},
                pass_fds=[number],
            )
            assert child.stdout is not None
            os.set_blocking(child.stdout.fileno(), False)
            seen, since, pending = -1, time.monotonic(), b""
            try:
                while True:
                    ended = child.poll() is not None
                    *lines, pending = (pending + (child.stdout.read() or b"")).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        if event["differences"]:
                            yield event["index"], event["differences"]
                    now = time.monotonic()
                    (at,) = struct.unpack("<q", os.pread(number, 8, 0))
                    if at != seen:
                        seen, since = at, now
                    if ended:
                        break
                    if deadline is not None and now > deadline:
                        self._reached = at
                        return
                    if now - since > SILENCE:
                        self._reached = at + 1
                        yield at, [f"the child hangs: nothing for {SILENCE:.0f} s"]
                        return
                    time.sleep(0.02)
            finally:
                child.kill()
                child.wait()
                child.stdout.close()
            self._reached = end
            if child.returncode:
                self._reached = at + 1
                errors.seek(0)
                text = errors.read().decode(errors="replace").strip()[-2500:]
                status = child.returncode
                how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
                yield at, [f"the child died: {how}", *text.splitlines()]

    def reduce(self, finding: Finding) -> Finding:
        """Make the code shorter as long as it still differs."""
        differences = self.check(finding.case, finding.mode)
        if not differences:
            finding.alone = False
            return finding
        best, tries = Finding(finding.case, finding.mode, differences), 0
        if finding.mode != "plain" and (found := self.check(finding.case, "plain")):
            best = Finding(finding.case, "plain", found)
        size = max(1, len(best.case.code) // 2)
        while size:
            at = 0
            while at < len(best.case.code) and tries < _MOST_REDUCTIONS:
                smaller = self._without(best, at, size)
                tries += 1
                if smaller is None:
                    at += size
                else:
                    best = smaller
            size //= 2
        return best

    def _without(self, finding: Finding, at: int, size: int) -> Finding | None:
        case = finding.case
        code = case.code[:at] + case.code[at + size :]
        if not code:
            return None
        # What is relative to rip stays so if the end is where it was.
        offset = case.offset + len(case.code) - len(code)
        shorter = Case(case.seed, case.index, code, offset)
        found = self.check(shorter, finding.mode)
        if not found or _kind(found) != _kind(finding.differences):
            return None
        return Finding(shorter, finding.mode, found)


def _kind(differences: list[str]) -> str:
    """What a difference is about: the beginning of its first line."""
    return differences[0].split(":")[0]


def describe(finding: Finding, engine: str = ENGINE) -> str:
    """Return a report with the command that repeats the case."""
    case = finding.case
    command = (
        f"python -m tests.fuzz --seed {case.seed} --case {case.index} --mode {finding.mode} "
        f"--bytes {case.code.hex()} --offset {case.offset}"
    )
    if engine != ENGINE:
        command += f" --engine {engine}"
    note = "" if finding.alone else "; does NOT fail when it runs alone"
    lines = [
        f"seed {case.seed}, case {case.index}, mode {finding.mode}, at {case.start:#x}{note}",
        *(f"  {line}" for line in finding.differences[:30]),
        *disassembly(case.code),
        f"  repeat: {command}",
    ]
    return "\n".join(lines)
