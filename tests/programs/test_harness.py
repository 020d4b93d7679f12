"""The harness itself: what it makes, what it notices, what it kills."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.programs import builds, harness
from tests.programs.harness import Case, Mode, Outcome, difference

SAME = Outcome(0, b"one\ntwo\n", b"", {"made": b"-rw-r--r--\ntext"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": 1}, "status 1, natively 0"),
        ({"status": -11}, "SIGSEGV"),
        ({"status": None}, "ran out of time"),
        ({"stdout": b"one\nthree\n"}, "+three"),
        ({"stderr": b"warning\n"}, "+warning"),
        ({"files": {}}, "made: not there"),
        ({"files": {**SAME.files, "more": b""}}, "more: not there natively"),
        ({"files": {"made": b"-rwxr-xr-x\ntext"}}, "+-rwxr-xr-x"),
    ],
)
def test_differences_are_named(change: dict[str, object], says: str) -> None:
    """Status, both outputs, names, modes and contents of files are compared."""
    assert says in difference(SAME, replace(SAME, **change), {})  # type: ignore[arg-type]


def test_equal_outcomes_do_not_differ() -> None:
    """How long a run took, and what was counted, is no difference."""
    assert not difference(SAME, replace(SAME, seconds=5.0, count=3), {})


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        ("status", {"status": 1}),
        ("stdout", {"stdout": b"other"}),
        ("stderr", {"stderr": b"other"}),
        ("ma*", {"files": {"made": b"other"}}),
    ],
)
def test_what_a_case_ignores_is_not_compared(pattern: str, change: dict[str, object]) -> None:
    """Each part can be left out, by its name or by a pattern of file names."""
    assert not difference(SAME, replace(SAME, **change), {pattern: "why"})  # type: ignore[arg-type]


def test_every_run_begins_with_the_same_files(tmp_path: Path) -> None:
    """Files have fixed times and modes; what a run leaves is gone when the next begins."""
    script = "#!/bin/sh\nstat -c '%Y %a %n' folder/text script; cat; echo made > more; exit 3\n"
    files: dict[str, str | bytes] = {"script": script, "folder/text": b"x"}
    case = Case("name", "./script", files=files, stdin="input\n")
    for _ in range(2):
        outcome = harness.run(case, Mode.NATIVE, tmp_path, tmp_path)
        assert outcome.status == 3
        assert outcome.stdout == b"1000000000 644 folder/text\n1000000000 755 script\ninput\n"
        assert outcome.files["more"] == b"-rw-r--r--\nmade\n"
        assert set(outcome.files) == {"script", "folder", "folder/text", "more"}


def test_a_run_out_of_time_is_killed_with_its_children(tmp_path: Path) -> None:
    """Its process groups too: they are found by their session."""
    script = "set -m; sleep 60 & echo $!; sleep 60 & echo $!; wait"
    case = Case("name", ("bash", "-c", script), timeout=0.5)
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    outcome = harness.run(case, Mode.NATIVE, tmp_path, tmp_path)
    assert outcome.status is None
    for pid in map(int, outcome.stdout.split()):
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and not _dead(pid):
            assert time.monotonic() < deadline, f"{pid} is alive"
            time.sleep(0.01)


def _dead(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True


def test_a_program_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    """The error shows what the compiler says."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    with pytest.raises(builds.BuildError, match="no_such_source"):
        builds.Programs(tmp_path).build("no_such_source")
    assert os.listdir(tmp_path) == []
