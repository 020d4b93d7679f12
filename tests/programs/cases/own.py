"""C and C++ programs that each ask for one thing; their sources are in ``c/``."""

from __future__ import annotations

from typing import Any

from tests.programs.harness import Case


def own(name: str, arguments: str = "", *, program: str = "", **more: Any) -> Case:
    """A case that runs ``c/PROGRAM.c`` (the case's name unless given) with *arguments*."""
    program = program or name
    builds = (program, *more.pop("also", ()))
    command = f"{{bin}}/{program} {arguments}"
    return Case(name, command, builds=builds, **more)


_STARTS = (
    "start",
    "start-static",
    "start-static-pie",
    "start-fixed",
    "start-bind-now",
    "start-musl",
    "start-musl-static",
)

CASES = (
    *(own(name, "one 'two words' ''", status=7, variables={"SHOWN": "value"}) for name in _STARTS),
    own("bare", status=9),
    own("bare-pie", status=9),
    own("identity", "a b"),
    own("identity-by-path", "x", program="identity"),
    own("memory"),
    own("memory_limits"),
    own("moved_memory"),
    own("deep"),
    own("stack-overflow", "overflow", program="deep", status=-11),
    *(
        own(f"end-{how}", how, program="endings", status=status)
        for how, status in (
            ("return", 3),
            ("exit", 4),
            ("_exit", 5),
            ("quick_exit", 6),
            ("abort", -6),
            ("kill", -9),
            ("segv", -11),
            ("fpe", -8),
            ("ill", -4),
            ("trap", -5),
            ("pipe", -13),
            ("term", -15),
            ("thread-exit", 7),
            ("main-thread-leaves", 8),
            ("abort-handled", -6),
            ("assert", -6),
            ("exit-in-fork", 11),
            ("smash", -6),
        )
    ),
    own("contexts"),
    own("vectors", module="vectors"),
    own("x87"),
    own("clocks"),
    own("plugins", "{bin}/plugin.so", also=("plugin.so",)),
    own("made_code"),
    own("exceptions", also=("libthrows.so",)),
    own("threads"),
    own("thread_ends"),
    own("compute_threads"),
    own("signals"),
    own("signal_stacks"),
    own("faults"),
    own("interrupted"),
    own("signal_masks"),
    own("timer_2khz"),
    own("processes"),
    own("spawn"),
    own("fork_threads"),
    own("descriptors"),
    own("events"),
    own("sockets"),
    own("shared_memory"),
)
