"""Runs a program with a counting callback: counting.py REPORT [MODULE] -- PROGRAM ARGUMENTS.

Counts entries of basic blocks, or with MODULE the instructions of the module of that base name,
and ends as the program has ended. REPORT is a file of 8 bytes that holds the count at any time, so
that it is right even after SIGKILL.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
from typing import Any

import pydbi

LIMIT = 50_000
"""After so many events the callback takes itself out: what a long run shows later is the same."""


def main(arguments: list[str]) -> int:
    """Run the program that *arguments* name and return how it ended."""
    end = arguments.index("--")
    report, *module = arguments[:end]
    file = _open_high(report)
    counted = 0

    def count(vm: pydbi.VM, *_: Any) -> pydbi.VMAction:
        nonlocal counted
        counted += 1
        os.pwrite(file, counted.to_bytes(8, sys.byteorder), 0)
        if counted == LIMIT:
            vm.deleteInstrumentation(identity)
        return pydbi.CONTINUE

    with pydbi.Program(arguments[end + 1 :]) as program:
        if module:
            program.vm.addInstrumentedModule(module[0])
            identity = program.vm.addCodeCB(pydbi.PREINST, count, None)
        else:
            identity = program.vm.addVMEventCB(pydbi.BASIC_BLOCK_ENTRY, count, None)
        status = program.run()
    assert status is not None
    return status


def _open_high(path: str) -> int:
    """Open *path* with a number that is out of the program's way: it wants the lowest ones."""
    low = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    high = fcntl.fcntl(
        low, fcntl.F_DUPFD_CLOEXEC, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
    )
    os.close(low)
    return high


def _end(status: int) -> None:
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    _end(main(sys.argv[1:]))
