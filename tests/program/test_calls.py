"""System calls whose results must be the same as natively."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.program.running import assert_same, run_under


def test_memory(build: Callable[..., str]) -> None:
    """Mapping, protecting, moving, discarding; code that changes; the heap's end."""
    assert assert_same([build("memory")]).status == 0


@pytest.mark.parametrize("options", [(), ("--follow-exec",)])
def test_processes(build: Callable[..., str], options: tuple[str, ...]) -> None:
    """fork, vfork, posix_spawn, clone and execve, whether they are followed or not."""
    outcome = assert_same([build("processes"), "x"], *options)
    assert "vfork without exec: status 7\nits error: 2\n" in outcome.output


@pytest.mark.parametrize("more", [(), ("x",)])
def test_descriptors(build: Callable[..., str], more: tuple[str, ...]) -> None:
    """Closing all there is."""
    assert assert_same([build("descriptors"), *more]).status == 9


def test_messages_survive_closing(build: Callable[..., str]) -> None:
    """What pydbi has to say comes, though the program has closed all descriptors."""
    outcome = run_under([build("descriptors"), "x"], "--stats")
    assert outcome.status == 9
    assert "blocks=" in outcome.errors


def test_views(build: Callable[..., str]) -> None:
    """/proc/self is the program's own, not Python's."""
    outcome = assert_same([build("views"), "a b", ""])
    assert "python 0" in outcome.output


def test_followed_programs_have_their_own_variables(build: Callable[..., str]) -> None:
    """Variables for a dynamic linker are the followed program's, not Python's."""
    script = "LD_TRACE_LOADED_OBJECTS=1 exec /bin/true"
    outcome = run_under(["sh", "-c", script], "--quiet", "--follow-exec")
    assert outcome.status == 0
    assert "python" not in outcome.output
    command = ["env", "-i", "B=2", "A=1", "odd", build("exits"), "x"]
    assert_same(command[:4] + command[5:], "--follow-exec")


@pytest.mark.parametrize("options", [(), ("--follow-exec",)])
def test_limits(build: Callable[..., str], options: tuple[str, ...]) -> None:
    """Limits of memory hold for the program, and not for Python."""
    assert_same([build("limits")], *options)


@pytest.mark.parametrize("more", [(), ("interrupted",)], ids=["alone", "interrupted"])
def test_filtered_calls(build: Callable[..., str], more: tuple[str, ...]) -> None:
    """Paths and descriptors that Python must see, and those it need not, are the same to the guest.

    Also where the path cannot be read, lies at the end of a page, and where signals strike.
    """
    natively = assert_same([build("filtered"), *more])
    assert natively.status == 0
    assert ("often" in natively.output) == bool(more)


def test_most_calls_stay_in_the_cache(build: Callable[..., str]) -> None:
    """Only paths below /proc, what cannot be read and high descriptors are seen by Python."""
    outcome = run_under([build("filtered")], "--stats")
    calls = int(outcome.errors.partition("system_calls=")[2].partition(",")[0])
    assert 12_000 < calls < 13_500, outcome.errors  # 3 calls for each descriptor from 1024 to 5000


def test_segment_bases(build: Callable[..., str]) -> None:
    """A base that is not canonical, or the kernel's, is refused."""
    assert_same([build("bases")])
