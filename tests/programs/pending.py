"""What does not run under pydbi as it does natively, yet: each entry is an expected failure.

An entry that starts to pass fails the tests until it is taken out.
"""

from __future__ import annotations

from tests.programs.harness import Mode

_THREADS = "the program makes threads"
_RESOURCES = "limits of memory that the guest sets hold for Python as well"

PENDING: dict[str, str] = {
    "xz-threads": _THREADS,
    "zstd": _THREADS,
    "zstd-threads": _THREADS,
    "git-project: run --follow-exec": _THREADS,
    "python-threads": _THREADS,
    "python-test_threading": _THREADS,
    "node": _THREADS,
    "java": _THREADS,
    "ruby": _THREADS,
    "guile": _THREADS,
    "go-program": _THREADS,
    "rust-program": _THREADS,
    "exceptions": _THREADS,
    "threads": _THREADS,
    "thread_ends": _THREADS,
    "compute_threads": _THREADS,
    "end-thread-exit": _THREADS,
    "end-main-thread-leaves": _THREADS,
    "fork_threads": _THREADS,
    "sockets": _THREADS,
    "memory_limits": _RESOURCES,
    "timeout": "a signal that is pending and ignored at the program's end reaches Python",
    "signal_stacks": "below the stack lies memory without access, natively there is none",
    "signal_masks": "execve does not restore the whole mask; the program makes threads",
    "spawn": "execve does not restore the whole mask",
    "descriptors: block counter": "F_GETFD shows Python's own descriptors",
}
"""Why, by the name of a case, or of a case and one mode: ``name: run --follow-exec``."""


def reason(name: str, mode: Mode) -> str | None:
    """Say why the case *name* is expected to fail in *mode*; None: it must pass."""
    if mode is Mode.AGAIN:
        return None
    return PENDING.get(f"{name}: {mode.value}", PENDING.get(name))
