"""Interleaved timing in child processes, and the statistics of what comes out.

A subject (an engine doing some work) lives in a child process and takes one sample whenever the
parent asks. The parent asks A B C A B C ..., so a machine that slows down slows all of them, and
it knows who was at work when a child dies. By default the subjects of one case share a child.
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import signal
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

#: How long a child may take for one sample, in seconds.
TIMEOUT = 120.0


class Sample(NamedTuple):
    """One measurement: a time, and the number of things it was spent on.

    Subjects of one case must agree on *events*; 0 says that a subject does not count them.
    """

    nanoseconds: int
    events: int = 0

    @property
    def cost(self) -> float:
        """Nanoseconds per event, or per sample where nothing is counted."""
        return self.nanoseconds / (self.events or 1)


Take = Callable[[], Sample]


@dataclass(frozen=True)
class Subject:
    """What is timed. *prepare* is pickled, runs once in the child and returns the sampler."""

    name: str
    prepare: Callable[[], Take]


@dataclass
class Outcome:
    """The samples of each subject, one a round, and why the others have none."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def cost(self, name: str) -> float | None:
        """The median cost in nanoseconds, or None if *name* was not measured."""
        samples = self.samples.get(name)
        return statistics.median(sample.cost for sample in samples) if samples else None

    def ratio(self, name: str, base: str) -> float | None:
        """The median over the rounds of *name*'s cost divided by *base*'s."""
        pairs = zip(self.samples.get(name, ()), self.samples.get(base, ()), strict=False)
        ratios = [one.cost / other.cost for one, other in pairs if other.cost > 0]
        return statistics.median(ratios) if ratios else None


class SubjectError(Exception):
    """A subject raised, crashed, hung or miscounted."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def geometric_mean(values: Iterable[float | None]) -> float | None:
    """The geometric mean of the values that are there; None if there is none."""
    present = [value for value in values if value is not None and value > 0]
    return math.exp(statistics.fmean(map(math.log, present))) if present else None


def interleave(subjects: Sequence[Subject], rounds: int, isolate: bool = False) -> Outcome:
    """Take *rounds* samples of each subject in turn, after one round that is thrown away.

    A subject that fails is left out, and the rest start over in a fresh process.

    Args:
        subjects: what to time; names are unique.
        rounds: how many samples of each to keep.
        isolate: give each subject a process of its own.
    """
    outcome = Outcome()
    left = list(subjects)
    while left:
        try:
            outcome.samples = _measure(left, rounds, isolate)
            break
        except SubjectError as failure:
            outcome.failures[failure.name] = failure.reason
            left = [subject for subject in left if subject.name != failure.name]
    return outcome


def _measure(subjects: Sequence[Subject], rounds: int, isolate: bool) -> dict[str, list[Sample]]:
    groups = [[subject] for subject in subjects] if isolate else [list(subjects)]
    children = [_Child(group) for group in groups]
    by_name = {name: child for child in children for name in child.names}
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in subjects}
    try:
        for number in range(rounds + 1):
            for subject in subjects:
                sample = by_name[subject.name].take(subject.name)
                if number:  # round 0 warms up
                    samples[subject.name].append(sample)
    finally:
        for child in children:
            child.close()
    _check_events(samples)
    return samples


def _check_events(samples: dict[str, list[Sample]]) -> None:
    """Raise SubjectError for the first subject that counts differently from one before it."""
    expected = 0
    for name, taken in samples.items():
        for sample in taken:
            expected = expected or sample.events
            if sample.events not in (0, expected):
                raise SubjectError(name, f"counted {sample.events} events, not {expected}")


class _Child:
    """A process that takes samples on demand."""

    def __init__(self, subjects: Sequence[Subject]) -> None:
        context = multiprocessing.get_context("spawn")
        self.names = [subject.name for subject in subjects]
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, subjects), daemon=True)
        self._process.start()
        theirs.close()

    def take(self, name: str) -> Sample:
        """One sample of the subject called *name*; SubjectError if there is none."""
        try:
            self._connection.send(name)
            if not self._connection.poll(TIMEOUT):
                raise SubjectError(name, f"hung: no answer in {TIMEOUT:.0f} s")
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise SubjectError(name, describe_exit(self._process.exitcode)) from None
        if not isinstance(answer, Sample):
            raise SubjectError(name, answer)
        return answer

    def close(self) -> None:
        """End the process, gently if it still listens."""
        self._connection.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def describe_exit(status: int | None) -> str:
    """Why a child is gone, from its exit status as multiprocessing gives it."""
    if status is not None and status < 0:
        return f"crashed: {signal.Signals(-status).name}"
    return f"crashed: the process ended with status {status}"


def _serve(connection: Connection[Any, Any], subjects: Sequence[Subject]) -> None:
    """Answer each name that arrives with a Sample, or with the text of what went wrong."""
    prepare = {subject.name: subject.prepare for subject in subjects}
    takes: dict[str, Take] = {}
    while True:
        try:
            name = connection.recv()
        except EOFError:
            return
        answer: Sample | str
        try:
            if name not in takes:
                takes[name] = prepare[name]()
            gc.collect()
            answer = takes[name]()
        except Exception as error:  # whatever an engine raises is its result
            answer = f"{type(error).__name__}: {error}"
        connection.send(answer)
