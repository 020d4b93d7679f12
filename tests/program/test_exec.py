"""A program that becomes another one in this process."""

from __future__ import annotations

from collections.abc import Callable

from tests.child import run_in_child
from tests.program.running import assert_same


def test_events_and_callbacks_go_on(build: Callable[..., str]) -> None:
    """Modules come and go, callbacks stay, and Python lives."""

    def child(path: str, fixed: str) -> None:
        import tempfile

        import pydbi

        events = []
        counts: dict[str, int] = {}
        with tempfile.TemporaryFile() as file:
            script = f"exec {path} one 2>&1"
            program = pydbi.Program(["sh", "-c", script], stdout=file, env={})
            first = program.path

            @program.on_exec
            def on_exec(program: pydbi.Program, path: str) -> None:
                events.append(("exec", path))

            @program.on_load
            def on_load(_: pydbi.Program, module: pydbi.Module) -> None:
                events.append(("load", module.path))

            @program.on_unload
            def on_unload(_: pydbi.Program, module: pydbi.Module) -> None:
                events.append(("unload", module.path))

            def on_block(vm: pydbi.VM, *_: object) -> pydbi.VMAction:
                counts[vm.program.path] = counts.get(vm.program.path, 0) + 1
                return pydbi.CONTINUE

            program.vm.addVMEventCB(pydbi.BASIC_BLOCK_ENTRY, on_block, None)
            assert program.run() == 2
            file.seek(0)
            assert file.read().startswith(f"{path}\none\nPWD=".encode())
        assert program.path == path
        assert min(counts[first], counts[path]) > 1000
        kinds = [kind for kind, _ in events]
        place = events.index(("exec", path))
        assert kinds[:place].count("unload") == kinds[: kinds.index("unload")].count("load")
        assert ("load", path) in events
        for kind in (fixed, path):
            again = pydbi.Program(["sh", "-c", f"exec {kind} > /dev/null"])
            assert again.run() > 0

    run_in_child(child, build("exits"), build("exits", "-no-pie", "-static"))


def test_what_is_passed_on(build: Callable[..., str]) -> None:
    """Descriptors but for those that are close-on-exec, ignored signals but no handlers."""
    script = (
        "trap '' USR1; trap 'echo never' USR2; exec 3>/dev/null;"
        "exec python3 -c 'import os, signal;"
        'print(os.path.exists("/proc/self/fd/3"), signal.getsignal(signal.SIGUSR1),'
        'signal.getsignal(signal.SIGUSR2), os.listdir("/proc/self/fd")[:-1])\''
    )
    assert_same(["sh", "-c", script.replace("python3", "/usr/bin/python3")], "--follow-exec")
    assert_same(["sh", "-c", "trap '' HUP; exec sh -c 'kill -HUP $$; echo on'"], "--follow-exec")


def test_failures_are_the_kernels(build: Callable[..., str]) -> None:
    """What cannot be executed leaves the old program as it is."""
    for what in ("/nowhere", "/etc/passwd", "/"):
        assert_same(["sh", "-c", f"(exec {what}); echo $?; exec {what}"], "--follow-exec")


def test_children_of_followed_programs() -> None:
    """Pipes, scripts and substitutions with every process under pydbi."""
    script = "x=$(echo a b | tr a-z A-Z | sed s/A/1/); echo $x; ls / | wc -l > /dev/null; env true"
    assert_same(["bash", "-c", script], "--follow-exec")
