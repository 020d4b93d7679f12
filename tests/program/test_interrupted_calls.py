"""System calls that a signal of the guest interrupts just when a kick of pydbi does, too."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pydbi.jit.signals import kick_signal
from tests.child import child_environment
from tests.program.running import assert_same

_NUMBERS = {"read": 0, "wait4": 61, "futex": 202}
_SYS_TGKILL = 234
_IN_PLACE = ("-m", "pydbi", "run", "--quiet", "--")
_WATCHED = (
    "-c",
    """
import sys
import pydbi
program = pydbi.Program(sys.argv[1:], own_process=True)
for name in ("read", "wait4", "futex"):
    program.addSyscallCB(name, after=lambda vm, call: None)
status = program.run()
sys.exit(status)
""",
)
"""Two ways to make a system call: from the code cache, and by Python, where it is called back."""
each_way = pytest.mark.parametrize("way", [_IN_PLACE, _WATCHED], ids=["in place", "watched"])
PATIENCE = 20


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.002)


def is_in_call(pid: int, number: int) -> bool:
    """Whether the process's first thread waits in this system call."""
    return Path(f"/proc/{pid}/syscall").read_text().startswith(f"{number} ")


def has_stopped(pid: int) -> bool:
    """Whether the process has been stopped by SIGSTOP."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def kick(pid: int) -> None:
    """Send the process's first thread what pydbi's timers send."""
    result = ctypes.CDLL(None).syscall(_SYS_TGKILL, pid, pid, kick_signal())
    assert result == 0


class Waiting:
    """A program that is about to wait for ever in a system call."""

    def __init__(self, way: tuple[str, ...], program: str, *options: str) -> None:
        command = [sys.executable, *way, program, *options]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, **pipes, text=True, env=child_environment())
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def together(self, number: int, *send: Callable[[int], None]) -> None:
        """Have all of *send* come at once while it waits in the system call *number*."""
        pid = self.process.pid
        wait_for(lambda: is_in_call(pid, number))
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: has_stopped(pid))
        for sent in send:
            sent(pid)
        os.kill(pid, signal.SIGCONT)

    def output(self, data: str = "") -> str:
        """Give it *data*, and return what it prints until its end."""
        try:
            return self.process.communicate(data, timeout=PATIENCE)[0]
        finally:
            self.process.kill()


def usr1(pid: int) -> None:
    """Send the process SIGUSR1."""
    os.kill(pid, signal.SIGUSR1)


@each_way
@pytest.mark.parametrize(
    ("call", "name"), [("read", "read"), ("futex", "futex"), ("child", "wait4")]
)
def test_a_signal_together_with_a_kick(
    build: Callable[..., str], way: tuple[str, ...], call: str, name: str
) -> None:
    """The kick, which the kernel delivers first, would have the call begun again: EINTR it is."""
    waiting = Waiting(way, build("waits"), call)
    waiting.together(_NUMBERS[name], kick, usr1)
    assert waiting.output() == "-1 4, 1 times\n"


@each_way
def test_a_signal_after_a_kick(build: Callable[..., str], way: tuple[str, ...]) -> None:
    """A kick alone leaves no trace: the call is begun again, and a later signal interrupts it."""
    waiting = Waiting(way, build("waits"), "read")
    waiting.together(_NUMBERS["read"], kick)
    waiting.together(_NUMBERS["read"], kick)
    waiting.together(_NUMBERS["read"], usr1)
    assert waiting.output() == "-1 4, 1 times\n"


@each_way
def test_calls_that_begin_again(build: Callable[..., str], way: tuple[str, ...]) -> None:
    """With SA_RESTART the handler runs, and then the call waits on."""
    waiting = Waiting(way, build("waits"), "read", "restart")
    waiting.together(_NUMBERS["read"], kick, usr1)
    waiting.together(_NUMBERS["read"], usr1, kick)
    assert waiting.output("x") == "1 0, 2 times\n"


def test_children_that_get_a_signal_at_once(build: Callable[..., str]) -> None:
    """It waits until the child can handle it, wherever in the fork it has come."""
    assert "60 children, 30 stopped" in assert_same([build("killed_at_once")]).output
