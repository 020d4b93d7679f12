"""What a test of `test_one_process` does in a child process: many programs, one after the other."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from typing import IO, Any

import pydbi

RUNS, WARM = 72, 24
"""How many programs are run, and after how many nothing may grow any more."""
_GROWTH = 8 << 20
"""Bytes that Python's own allocators may still take after that."""
_COMMANDS: tuple[tuple[list[str], int, bytes], ...] = (
    (["true"], 0, b""),
    (["sh", "-c", "cd /; umask 077; trap : USR1; kill -USR1 $$; exit 3"], 3, b""),
    (["sort", "-r"], 0, b"3\n2\n1\n"),
    (["sh", "-c", "kill -TERM $$"], -15, b""),
    (["sh", "-c", "echo from a child | cat"], 0, b"from a child\n"),
    (["false"], 1, b""),
)
"""Commands, with what they end with and print."""


class Counter:
    """A callback that counts its calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: Any) -> pydbi.VMAction:
        self.count += 1
        return pydbi.CONTINUE


def run(command: list[str], output: IO[bytes], counter: Counter | None) -> int | None:
    """Run *command* and return how it ended; its output replaces the content of *output*."""
    output.seek(0)
    output.truncate()
    with pydbi.Program(
        command, stdin=b"1\n3\n2\n", stdout=output, stderr=subprocess.DEVNULL
    ) as program:
        if counter is not None:
            program.vm.addVMEventCB(pydbi.BASIC_BLOCK_ENTRY, counter, None)
        status: int | None = program.run()
    output.seek(0)
    return status


def level(output: IO[bytes]) -> None:
    """Run many programs; fail if one differs, or if anything of them remains."""
    before: dict[str, object] = {}
    memory = 0
    for number in range(RUNS):
        command, status, printed = _COMMANDS[number % len(_COMMANDS)]
        counter = Counter() if number % 5 == 0 else None
        assert run(command, output, counter) == status, (number, command)
        assert output.read() == printed, (number, command)
        assert counter is None or counter.count > 100, (number, command, counter.count)
        if number + 1 == WARM:
            before, memory = surroundings(), _resident()
    after = surroundings()
    for name, value in before.items():
        assert after[name] == value, (name, value, after[name])
    growth = _resident() - memory
    assert growth < _GROWTH, f"{growth >> 10} KiB more after {RUNS - WARM} programs"


def in_turn(commands: list[tuple[str, int]], output: IO[bytes]) -> None:
    """Run each of *commands*, which end with the status given, three times in turn."""
    printed: dict[str, set[bytes]] = {program: set() for program, _ in commands}
    for _ in range(3):
        for program, status in commands:
            assert run([program], output, None) == status, program
            printed[program].add(output.read())
    for program, outputs in printed.items():
        assert len(outputs) == 1, (program, outputs)
        assert outputs.pop(), program


def surroundings() -> dict[str, object]:
    """Return everything of this process that a program must leave as it was."""
    gc.collect()
    with open("/proc/self/maps", encoding="utf-8") as maps:
        fields = (line.split(None, 5) for line in maps)
        # Python's own allocator and stacks may grow; what has a name must not.
        named = sorted(words[5] for words in fields if len(words) == 6)
    return {
        "maps": [name for name in named if not name.startswith("[heap]")],
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "folder": os.getcwd(),
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "umask": os.umask(os.umask(0o22)),
    }


def _resident() -> int:
    with open("/proc/self/statm", encoding="utf-8") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def main(function: Callable[..., None], *arguments: object) -> None:
    """Call *function* with *arguments* and an empty file, and say that it is done."""
    with tempfile.TemporaryFile() as output:
        function(*arguments, output)
    print("done")
