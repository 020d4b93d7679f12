"""The class Program: each test in a child process, as programs change what Python stands on."""

from __future__ import annotations

from collections.abc import Callable

from tests.child import run_in_child

TIMEOUT = 20


def check(code: str | Callable[..., object], *arguments: object) -> str:
    """Run *code* in a child and return what it printed."""
    return run_in_child(code, *arguments, timeout=TIMEOUT)


def test_a_program_runs_to_its_end(build: Callable[..., str]) -> None:
    """Its output goes where it is told, and its status comes back."""

    def child(path: str) -> None:
        import tempfile

        import pytest

        import pydbi

        with tempfile.TemporaryFile() as file:
            given = {"env": {"A": "1"}, "stdout": file, "stdin": b"", "executable": path}
            with pydbi.Program(["name", b"x"], **given) as program:
                assert program.status is None
                assert program.run() == program.status == 2
            file.seek(0)
            assert file.read() == b"name\nx\nA=1\n"
        with pytest.raises(ValueError, match="ended"):
            program.run()

    check(child, build("exits"))


def test_nothing_remains(build: Callable[..., str]) -> None:
    """Mappings, descriptors, signals, folder, umask and the name are what they were."""

    def child(path: str) -> None:
        import gc
        import os
        import signal
        import sys

        import pydbi

        def state() -> tuple[object, ...]:
            mask = os.umask(0o022)
            os.umask(mask)
            handlers = [signal.getsignal(number) for number in range(1, 32)]
            with open("/proc/self/comm") as file:
                name = file.read()
            with open("/proc/self/status") as file:
                wanted = ("SigBlk", "SigIgn")
                signals = [line for line in file if line.startswith(wanted)]
            descriptors = {
                number: os.readlink(f"/proc/self/fd/{number}")
                for number in os.listdir("/proc/self/fd")[:-1]
            }
            return mask, handlers, name, signals, descriptors, os.getcwd()

        def mapped() -> int:
            with open("/proc/self/maps") as file:
                return sum(1 for _ in file)

        script = "cd /; umask 077; exec 3>&1 4<&0; trap '' TERM; exec 1>&- 0<&-; exit 3"
        before = state()
        counts = []
        for _ in range(8):
            program = pydbi.Program(["sh", "-c", script], stdin=b"")
            assert program.run() == 3
            program.close()
            program.close()
            del program
            gc.collect()
            counts.append(mapped())
        assert state() == before, (state(), before)
        assert max(counts[3:]) <= counts[2] + 3, counts
        print("still here", flush=True)
        print("this too", file=sys.stderr, flush=True)

    assert check(child, "") == "still here\n"


def test_stop_and_resume(build: Callable[..., str]) -> None:
    """A callback stops it; it goes on where it was, with its own descriptors and folder."""

    def child() -> None:
        import os
        import tempfile

        import pydbi

        here = os.getcwd()
        with tempfile.TemporaryFile() as file:
            program = pydbi.Program(["sh", "-c", "cd /; echo one; pwd; echo two"], stdout=file)
            stopping = lambda vm, syscall: pydbi.STOP  # noqa: E731
            program.addSyscallCB("write", after=stopping)
            stops = 0
            while program.run() is None:
                stops += 1
                assert os.getcwd() == here
                print("between", flush=True)
            assert program.status == 0
            file.seek(0)
            assert file.read() == b"one\n/\ntwo\n"
            assert stops == 3

    assert check(child) == "between\n" * 3


def test_what_a_callback_raises_comes_out() -> None:
    """The program can run on afterwards."""

    def child() -> None:
        import pytest

        import pydbi

        program = pydbi.Program(["echo", "hello"])

        def fail(vm: object, *_: object) -> None:
            raise KeyError("here")

        identity = program.vm.addCodeCB(pydbi.PREINST, fail, None)
        with pytest.raises(KeyError, match="here"):
            program.run()
        program.vm.deleteInstrumentation(identity)
        assert program.run() == 0

    assert check(child) == "hello\n"


def _run_out_of_time(script: str) -> None:
    def child(script: str) -> None:
        import pytest

        import pydbi

        program = pydbi.Program(["sh", "-c", script])
        for _ in range(2):
            with pytest.raises(pydbi.GuestTimeout):
                program.run(timeout=0.3)
        assert program.status is None

    check(child, script)


def test_timeout_while_computing() -> None:
    """It is interrupted in time, and again when it has run on."""
    _run_out_of_time("while :; do :; done")


def test_timeout_while_waiting() -> None:
    """Likewise."""
    _run_out_of_time("exec sleep 5")


def test_ticks() -> None:
    """They come while it computes, between instructions; what one raises ends the run."""

    def child() -> None:
        import pydbi

        script = "n=0; while [ $n -lt 60000 ]; do n=$((n+1)); done; exit $((n % 251))"
        run = pydbi.Program(["bash", "-c", script])
        ticks = []

        @run.on_tick
        def tick(program: pydbi.Program) -> None:
            assert program is run
            ticks.append(program.vm.getGPRState().rip)
            if len(ticks) == 5:
                raise KeyError("enough")

        try:
            run.run()
        except KeyError:
            assert run.status is None
        else:
            raise AssertionError("it was not raised")
        assert run.vm.getGPRState().rip == ticks[-1]
        assert run.run() == 60000 % 251
        assert len(ticks) > 6
        assert len(set(ticks)) > 3

    run_in_child(child)


def test_everything_is_instrumented_unless_told(build: Callable[..., str]) -> None:
    """Without ranges all code is; with a module's name only that, whenever it is loaded."""

    def child(path: str) -> None:
        import pydbi

        def count(*names: str, none: bool = False) -> int:
            seen = [0]

            def on_instruction(
                vm: object, gpr: object, fpr: object, seen: list[int]
            ) -> pydbi.VMAction:
                seen[0] += 1
                return pydbi.CONTINUE

            program = pydbi.Program([path], stdout=-3)
            program.vm.addCodeCB(pydbi.PREINST, on_instruction, seen)
            for name in names:
                assert program.vm.addInstrumentedModule(name)
            if none:
                program.vm.removeAllInstrumentedRanges()
            assert program.run() == 1
            return seen[0]

        own = path.rpartition("/")[2]
        everything, linker = count(), count("ld-linux-x86-64.so.2")
        libc, program = count("libc.so.6"), count(own)
        assert everything > linker > 1000
        assert everything > libc > 500
        assert 0 < program < 1000
        assert count(own, "libc.so.6", "ld-linux-x86-64.so.2") == everything
        assert count("libc") == count(none=True) == 0

    check(child, build("exits"))


def test_modules_come_and_go(build: Callable[..., str]) -> None:
    """Each mapping and unmapping of a file's code is reported, with where it lies."""

    def child(path: str, library: str) -> None:
        import pydbi

        program = pydbi.Program([path, library])
        events = []
        lies = []

        @program.on_load
        def on_load(_: pydbi.Program, module: pydbi.Module) -> None:
            events.append(("+", module.name))
            assert module.range.start <= module.code.start < module.code.end <= module.range.end
            lies.append(module.code)

        @program.on_unload
        def on_unload(_: pydbi.Program, module: pydbi.Module) -> None:
            events.append(("-", module.name))

        name = library.rpartition("/")[2]
        plugged = [0]

        def on_instruction(
            vm: pydbi.VM, gpr: pydbi.GPRState, fpr: object, _: object
        ) -> pydbi.VMAction:
            plugged[0] += 1
            assert gpr.rip in lies[-1]
            return pydbi.CONTINUE

        program.vm.addCodeCB(pydbi.PREINST, on_instruction, None)
        program.vm.addInstrumentedModule(name)
        assert program.run() == 42
        first, *others = events
        assert first == ("+", path.rpartition("/")[2])
        assert others[0][1].startswith("ld-linux")
        assert others[-4:] == [("+", name), ("-", name), ("+", name), ("-", name)]
        assert plugged[0] > 10

    check(child, build("loads"), build("plugin", "-shared", "-fPIC"))


def test_a_fault_ends_it(build: Callable[..., str]) -> None:
    """As natively; but its state is there, and it can run on when that is mended."""

    def child(path: str) -> None:
        import pydbi

        program = pydbi.Program([path, "8"])
        assert program.run() == -11
        assert isinstance(program.fault, pydbi.GuestFault)
        assert program.fault.fault_address == 8
        assert program.status is None
        gpr = program.vm.getGPRState()
        assert gpr.rip == program.fault.app_address
        gpr.rax = program.fault.instruction and gpr.rsp - 1024
        assert program.run() == 6

    check(child, build("faults"))


def test_a_signal_ends_it() -> None:
    """Its own signals end it, not Python; the exit status says which."""

    def child() -> None:
        import signal

        import pydbi

        for name in ("TERM", "KILL", "USR1", "PIPE", "ABRT", "HUP"):
            if name == "KILL":
                continue  # nobody can keep that from Python
            program = pydbi.Program(["sh", "-c", f"kill -{name} $$; echo not reached"])
            assert program.run() == -getattr(signal, f"SIG{name}"), name
        print("alive")

    assert check(child) == "alive\n"


def test_a_signal_just_before_it_begins() -> None:
    """A signal that comes when its first instruction is still to be translated is the program's."""

    def child() -> None:
        import os
        import signal

        import pydbi

        program = pydbi.Program(["sh", "-c", "exit 3"])
        modules = []

        @program.on_load
        def loaded(_: object, module: pydbi.Module) -> None:
            modules.append(module.name)
            if len(modules) == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        assert program.run() == -signal.SIGTERM
        assert len(modules) == 2  # itself and its dynamic linker

    run_in_child(child)


def test_forked_children_end_by_themselves() -> None:
    """They never come back to Python's code behind `run`; events tell of them in both processes."""

    def child() -> None:
        import os

        import pydbi

        program = pydbi.Program(["sh", "-c", "(exit 7); echo $?; (kill -9 $(sh -c 'echo $PPID'))"])
        read_end, write_end = os.pipe()
        forks, parent = [], os.getpid()

        @program.on_fork
        def on_fork(_: pydbi.Program, pid: int) -> None:
            if pid:
                forks.append(pid)

        @program.on_exit
        def on_exit(_: pydbi.Program, status: int) -> None:
            os.write(write_end, b"%d:%d " % (os.getpid() == parent, status))

        program.run()
        print("once", flush=True)
        os.close(write_end)
        said = os.read(read_end, 1000)
        assert len(forks) >= 2
        assert b"0:7 " in said
        assert said.count(b"1:") == 1

    assert check(child) == "7\nonce\n"


def test_what_a_callback_raises_in_a_child() -> None:
    """It is shown and ends that child; the parent sees status 1."""

    def child() -> None:
        import os
        import sys

        import pydbi

        program = pydbi.Program(["sh", "-c", "(exit 7); exit $?"])
        sys.stderr = sys.stdout

        @program.on_fork
        def on_fork(_: pydbi.Program, pid: int) -> None:
            if not pid:
                raise KeyError(f"in the child of {os.getppid()}")

        assert program.run() == 1
        print("once")

    output = check(child)
    assert output.count("KeyError") == 1
    assert output.endswith("once\n")


def test_errors_are_told() -> None:
    """What cannot be loaded raises ProgramError, which is an OSError with a number."""

    def child() -> None:
        import errno
        import pickle

        import pytest

        import pydbi

        for command, number in (("/nowhere", errno.ENOENT), (["/etc/passwd"], errno.EACCES)):
            with pytest.raises(pydbi.ProgramError) as caught:
                pydbi.Program(command)
            assert isinstance(caught.value, OSError)
            assert caught.value.errno == number
            again = pickle.loads(pickle.dumps(caught.value))
            assert (str(again), again.errno) == (str(caught.value), number)
        for wrong in ([], ["a\0b"], "a\0b"):
            with pytest.raises(ValueError, match=r"zero|begins"):
                pydbi.Program(wrong)

    check(child)


def test_several_programs_at_once(build: Callable[..., str]) -> None:
    """Programs that are stopped do not disturb each other, nor an ordinary VM."""

    def child(path: str) -> None:
        import ctypes

        import pydbi

        programs = [pydbi.Program([path, *"x" * n], stdout=-3, env={}) for n in range(4)]
        for program in programs:
            program.addSyscallCB("brk", after=lambda vm, syscall: pydbi.STOP)
        status: dict[int, int | None] = {}
        vm = pydbi.VM()
        function = ctypes.cast(ctypes.CDLL("libc.so.6").abs, ctypes.c_void_p).value
        vm.addInstrumentedModuleFromAddr(function)
        pydbi.allocateVirtualStack(vm.getGPRState(), 1 << 16)
        while len(status) < 4:
            for number, program in enumerate(programs):
                if number not in status and (ended := program.run()) is not None:
                    status[number] = ended
            assert vm.call(function, [(1 << 64) - 5]) == (True, 5)
        assert status == {0: 1, 1: 2, 2: 3, 3: 4}

    check(child, build("exits"))
