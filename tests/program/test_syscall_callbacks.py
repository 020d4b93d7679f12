"""Callbacks before and after system calls."""

from __future__ import annotations

from collections.abc import Callable

from tests.child import run_in_child


def test_calls_are_seen_changed_and_answered(build: Callable[..., str]) -> None:
    """Before: number and arguments may change, or the call be answered. After: the result."""

    def child(path: str) -> None:
        import os

        import pydbi

        program = pydbi.Program([path], env={}, stdout=-3)
        seen = []

        def before(vm: pydbi.VM, syscall: pydbi.Syscall) -> None:
            assert syscall.result is None
            assert vm is program.vm
            seen.append(syscall.name)

        def after(vm: pydbi.VM, syscall: pydbi.Syscall) -> pydbi.VMAction:
            assert syscall.result is not None
            assert seen[-1] == syscall.name
            return pydbi.CONTINUE

        program.addSyscallCB(before=before, after=after)
        texts = []

        def on_write(vm: pydbi.VM, syscall: pydbi.Syscall) -> None:
            descriptor, address, size = syscall.arguments[:3]
            texts.append((descriptor, pydbi.readMemory(address, size)))
            syscall.result = size

        program.addSyscallCB("write", before=on_write)

        def on_exit(vm: pydbi.VM, syscall: pydbi.Syscall) -> None:
            syscall.arguments[0] = 77

        program.addSyscallCB(231, before=on_exit)
        assert program.run() == 77
        assert texts == [(1, os.fsencode(path) + b"\n")]
        assert seen[0] == "brk"
        assert seen[-1] == "exit_group"
        assert "mmap" in seen

    run_in_child(child, build("exits"))


def test_a_result_can_be_replaced_and_a_number_changed() -> None:
    """getuid is told to be another's; getgid is turned into getuid."""

    def child() -> None:
        import tempfile

        import pydbi

        with tempfile.TemporaryFile() as file:
            program = pydbi.Program(["id", "-u"], stdout=file)

            def on_uid(vm: pydbi.VM, syscall: pydbi.Syscall) -> None:
                syscall.result = 4321

            for name in ("getuid", "geteuid"):
                program.addSyscallCB(name, after=on_uid)
            identity = program.addSyscallCB("write", before=lambda vm, syscall: 1 / 0)
            assert program.deleteSyscallCB(identity)
            assert not program.deleteSyscallCB(identity)
            assert program.run() == 0
            file.seek(0)
            assert file.read() == b"4321\n"

    run_in_child(child)


def test_what_is_wrong_is_told() -> None:
    """A name that no call has, a callback that cannot be called, none at all."""

    def child() -> None:
        import pytest

        import pydbi

        program = pydbi.Program("true")
        for arguments, error in (
            ({"syscall": "nonsense", "before": print}, ValueError),
            ({"syscall": 1, "before": 5}, TypeError),
            ({"syscall": 1}, TypeError),
        ):
            with pytest.raises(error):
                program.addSyscallCB(**arguments)
        assert program.run() == 0

    run_in_child(child)


def test_refused_calls_are_counted() -> None:
    """What pydbi does not do is answered as by a kernel that lacks it."""

    def child() -> None:
        import pydbi

        program = pydbi.Program(["perl", "-e", 'syscall(425, 1, 0); print $!+0, "\\n"'])
        assert program.run() == 0
        assert program.refused == {"io_uring_setup": 1}

    assert run_in_child(child) == "38\n"


def test_a_signal_before_a_fork_is_the_parents(build: Callable[..., str]) -> None:
    """A signal that comes while the guest forks is handled by the parent, and only there."""

    def child(path: str) -> None:
        import os
        import signal
        import tempfile

        import pydbi

        with tempfile.TemporaryFile() as output:
            program = pydbi.Program([path], stdout=output)

            def before(vm: pydbi.VM, syscall: pydbi.Syscall) -> None:
                os.kill(os.getpid(), signal.SIGUSR1)

            for name in ("fork", "clone"):
                program.addSyscallCB(name, before=before)
            assert program.run() == 0
            output.seek(0)
            assert output.read() == b"parent 1, child 0\n"

    run_in_child(child, build("inherits"))
