"""Threads of programs: they run as natively, also while callbacks see what they do."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.child import child_environment, run_in_child
from tests.program.running import assert_same

CASES = [
    "compute", "many", "exit in a thread", "return from main", "crash", "fork", "cancel", "kill",
    "main leaves first", "robust",
]  # fmt: skip
TOTAL = "199980000\n"


@pytest.mark.parametrize("case", CASES)
def test_as_natively(build: Callable[..., str], case: str) -> None:
    """Output and exit status are those of a native run."""
    assert_same([build("threads", "-pthread"), case])


@pytest.mark.parametrize("prefix", [(), (sys.executable, "-m", "pydbi", "run", "--quiet", "--")])
def test_signals_go_to_who_is_left(build: Callable[..., str], prefix: tuple[str, ...]) -> None:
    """When its first thread has ended, a process still dies of a signal."""
    command = [*prefix, build("threads", "-pthread"), "main leaves"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment())
    try:
        assert process.stdout
        assert process.stdout.read(6) == b"ready\n"
        time.sleep(0.1)
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def check(program: str, kind: str) -> list[str]:
    """Run the case ``compute`` with callbacks of a kind; return the lines printed."""

    def child(path: str, kind: str) -> None:
        import sys
        from typing import Any

        import pydbi

        program = pydbi.Program([path, "compute"])
        vm, seen, threads = program.vm, [0], set()
        stop = {"raise": None, "stop": pydbi.STOP}.get(kind, pydbi.CONTINUE)

        def called(vm: Any, *arguments: Any) -> pydbi.VMAction:
            seen[0] += 1
            gpr = vm.getGPRState()
            assert any(argument is gpr for argument in arguments)
            threads.add(id(gpr))
            if seen[0] % 50_000 == 0:
                if stop is None:
                    raise KeyError(seen[0])
                return stop
            return pydbi.CONTINUE

        def accessed(vm: Any, gpr: Any, fpr: Any, data: Any) -> pydbi.VMAction:
            found = vm.getInstMemoryAccess()
            assert found
            assert found[0].instAddress == vm.getInstAnalysis().address
            return called(vm, gpr, fpr, data)

        if kind == "blocks":
            vm.addVMEventCB(pydbi.BASIC_BLOCK_ENTRY, called, None)
        else:
            vm.addInstrumentedModule(path.rpartition("/")[2])
            if kind == "accesses":
                vm.addMemAccessCB(pydbi.MEMORY_READ_WRITE, accessed, None)
            else:
                vm.addCodeCB(pydbi.PREINST, called, None)
        started: list[int] = []
        ended: list[int] = []
        program.on_thread_start(lambda program, thread: started.append(thread))
        program.on_thread_end(lambda program, thread: ended.append(thread))
        ends = []
        while program.status is None:
            try:
                ends.append(str(program.run()))
            except KeyError:
                ends.append("raised")
        sys.stdout.flush()
        assert sorted(started) == sorted(ended)
        assert len(set(started)) == 4
        print(*ends)
        print(seen[0], len(threads))

    return run_in_child(child, program, kind, timeout=100).splitlines(keepends=True)


@pytest.mark.parametrize("kind", ["instructions", "blocks", "accesses", "raise", "stop"])
def test_callbacks(build: Callable[..., str], kind: str) -> None:
    """Callbacks see every thread; they may raise or stop in any of them, and the run goes on."""
    output, ends, counts = check(build("threads", "-pthread"), kind)
    assert output == TOTAL
    seen, threads = map(int, counts.split())
    assert threads == 5
    if kind in ("raise", "stop"):
        *early, last = ends.split()
        assert last == "3"
        assert len(early) == seen // 50_000 > 0
        assert set(early) == {{"raise": "raised", "stop": "None"}[kind]}
    else:
        assert ends == "3\n"
        assert seen > 40_000


def test_timeout_and_close(build: Callable[..., str]) -> None:
    """A timeout interrupts a program that has threads; it goes on, or is closed with them."""

    def child(path: str) -> None:
        import os
        import time

        import pytest

        import pydbi

        def is_alone() -> bool:
            end = time.monotonic() + 5  # a Python thread that has ended is there for a moment
            while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < end:
                time.sleep(0.001)
            return len(os.listdir("/proc/self/task")) == 1

        for _ in range(3):
            with pydbi.Program([path, "kill"]) as program:
                with pytest.raises(pydbi.GuestTimeout):
                    program.run(timeout=0.01)
                assert program.run() == 0
            assert is_alone()
            with pydbi.Program([path, "forever"]) as program:
                with pytest.raises(pydbi.GuestTimeout):
                    program.run(timeout=0.1)
                assert program.status is None
            assert is_alone()

    run_in_child(child, build("threads", "-pthread"), timeout=100)
