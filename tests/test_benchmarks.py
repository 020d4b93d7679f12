"""The row of the benchmarks that runs whole programs: what it refuses to count, and its ratios."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.harness import Outcome, Sample
from benchmarks.program_cases import cases
from benchmarks.programs import Output, Process, _parallelism, _worst, difference, prepare


def _python(program: str) -> Process:
    return Process((sys.executable, "-c", program), {})


def test_a_process_is_timed_and_its_output_kept() -> None:
    """The time includes what the process sleeps, and its output is what it wrote."""
    nanoseconds, output, written = _python("import time; time.sleep(0.1); print(5)").run()
    assert nanoseconds > 100e6
    assert written == b"5\n"
    assert output.status == 0


def test_a_process_that_fails_has_no_time() -> None:
    """The exit status and what it said are reported."""
    with pytest.raises(RuntimeError, match=r"3 gone wrong"):
        _python("import sys; sys.stderr.write('gone wrong'); sys.exit(3)").run()


def test_other_output_than_natively_has_no_time() -> None:
    """A sampler compares what is written."""
    process = _python("print(1)")
    _, expected, _ = process.run()
    assert prepare(process, False, expected)().nanoseconds > 0
    with pytest.raises(RuntimeError, match="differs"):
        prepare(process, False, Output(0, "something else"))()


def test_a_program_may_take_the_time_itself() -> None:
    """Of such a program only what it prints counts."""
    assert prepare(_python("print(1234)"), True, Output(0, ""))() == Sample(1234)


def test_figures_are_medians_within_rounds() -> None:
    """Differences and ratios compare samples of one round."""
    ran = Outcome({"one": [Sample(8_000_000)] * 3, "base": [Sample(2_000_000)] * 3})
    assert difference(ran, "one", "base") == 6.0
    assert difference(ran, "one", "absent") is None
    assert _worst({"a": ran}, ["a"], "one", "base") == 4.0
    assert _worst({"a": ran}, ["a", "failed"], "one", "base") is None


def test_parallelism_is_the_gain_compared_with_the_native_one() -> None:
    """Threads that wait for each other under the engine, but not natively, gain half."""
    alone = Outcome({"engine": [Sample(100)], "native": [Sample(50)]})
    both = Outcome({"engine": [Sample(200)], "native": [Sample(50)]})
    outcomes = {"1 compute thread": alone, "2 compute threads": both}
    assert _parallelism("engine", outcomes) == 0.5
    assert _parallelism("engine", {}) is None


def test_cases_have_their_files(tmp_path: Path) -> None:
    """Each case's program exists, and all files are made."""
    found, missing = cases(tmp_path, quick=True)
    assert found
    for case in found:
        assert Path(case.command[0]).exists(), case
        for argument in case.command[1:]:
            assert not argument.startswith(str(tmp_path)) or Path(argument).exists(), case
    assert not {case.name for case in found} & set(missing)
