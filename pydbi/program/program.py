"""class Program: an unmodified ELF program, loaded into this process and run by a VM."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn, TypeVar

from pydbi.enums.integers import integer
from pydbi.errors import DecodeError, GuestFault, ReentryError
from pydbi.jit.context import SYSCALL_NUMBERS
from pydbi.program import command as commands
from pydbi.program.calls import SyscallCallback
from pydbi.program.events import Events, checked
from pydbi.program.guest_process import GuestProcess, Settings, enter_folder
from pydbi.program.modules import Modules
from pydbi.program.surroundings import Stream, leave
from pydbi.program.syscall_names import number_of
from pydbi.program.translation_files import default_folder
from pydbi.program.vm import ProgramVM
from pydbi.types import Options

_NOWHERE = -1
"""Where a run is to stop: no address, so it runs to the program's end."""
_SIGILL = 4
_Tick = TypeVar("_Tick", bound="Callable[[Program], object]")


class Program(Events):
    """A program, mapped into this process with its own dynamic linker, libc, heap and TLS.

    It runs from its first instruction, usually the dynamic linker's, under `vm`. All its code is
    instrumented unless the VM was told what is to be.

    Args:
        command: the program and its arguments; without a slash it is looked for in PATH.
        env: its variables, by name or each as NAME=value; by default this process's.
        stdin, stdout, stderr: None for Python's own, a file or descriptor, `subprocess.DEVNULL`,
            or bytes to be read.
        cwd: the folder that it begins in.
        executable: what is run instead of ``command[0]``, which remains its first argument.
        options: the VM's.
        follow_exec: what its forked children execute is run under the VM, too. What it executes
            itself is so anyway, unless *own_process*.
        own_process: the process is there for the program only: nothing is put back after its end,
            and signals and execve are as if Python were not there.
        disk_cache: as long as nothing is called back, translations are taken from the disk, and
            kept there for the next run; the environment variable PYDBI_CACHE says where.

    Attributes:
        vm: register callbacks here.
        fault: the fault that has ended it, if one has; its state is as before that instruction.

    Raises:
        ProgramError: it cannot be loaded; the message says why.
    """

    def __init__(
        self,
        command: Sequence[commands.Text] | commands.Text,
        *,
        env: commands.Environment = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        cwd: commands.Text | None = None,
        executable: commands.Text | None = None,
        options: Options = Options.NO_OPT,
        follow_exec: bool = False,
        own_process: bool = False,
        disk_cache: bool = False,
    ) -> None:
        super().__init__()
        self._closed = True  # until all is there
        if isinstance(command, (str, bytes, os.PathLike)):
            words: list[commands.Text] = [command]
        elif isinstance(command, Iterable):
            words = list(command)
        else:
            raise TypeError(
                f"a command is a program, or a program and its arguments, not {command!r}"
            )
        arguments = [commands.encode(word, "an argument") for word in words]
        if not arguments:
            raise ValueError("a command begins with a program")
        name = arguments[0] if executable is None else commands.encode(executable, "executable")
        environment = commands.encode_environment(env)
        folder = None if cwd is None else commands.encode(cwd, "cwd")
        kept_in = default_folder() if disk_cache else None
        streams = (stdin, stdout, stderr)
        settings = Settings(streams, folder, own_process, follow_exec, kept_in)
        way_back = None if folder is None else enter_folder(folder)
        try:
            path = commands.find_program(name, environment)
            resolved = commands.resolve(path, arguments, environment)
            self._process = GuestProcess(resolved, settings, self.tell)
        finally:
            if way_back is not None:
                os.fchdir(way_back)
                os.close(way_back)
        self.fault: GuestFault | DecodeError | None = None
        self._ticks: list[Callable[[Program], object]] = []
        self.vm = ProgramVM(self, self._process, options)
        self._process.threads.leave_process = self._leave
        self._engine = self._process.engine
        self._closed = False

    @property
    def modules(self) -> Modules:
        """What it has mapped as code."""
        return self._process.modules

    @property
    def path(self) -> str:
        """The file that was loaded: for a script, its interpreter."""
        return os.fsdecode(self._process.command.path)

    @property
    def status(self) -> int | None:
        """The exit status, or -signal; None while the program lives."""
        return self._process.ending.status

    @property
    def entry(self) -> int:
        """App address of the program's own entry; the dynamic linker runs before it."""
        return self._process.loaded.entry

    @property
    def load_address(self) -> int:
        """What was added to the addresses in the program's file."""
        return self._process.loaded.bias

    @property
    def refused(self) -> Mapping[str, int]:
        """How often system calls were refused that pydbi does not do, by name."""
        return self._process.refused.counts

    def on_tick(self, callback: _Tick) -> _Tick:
        """Call ``callback(program)`` every few milliseconds that its first thread computes.

        That is between two instructions. What it raises comes out of `run`, which can go on.
        """
        self._ticks.append(checked(callback))
        self._engine.dispatcher.call_on_kicks(self._tick)
        return callback

    def _tick(self) -> None:
        for callback in self._ticks:
            callback(self)

    # Running.

    def run(self, timeout: float | None = None) -> int | None:
        """Run the program until it ends or a callback stops it; after that, run on.

        Args:
            timeout: seconds after which GuestTimeout is raised.

        Returns:
            Its exit status; -signal if a signal has ended it; None if a callback returned STOP.

        Raises:
            GuestTimeout: it was not over in time.
            UnsupportedInstruction: it cannot go on.
            ReentryError: it is running already.
            ValueError: it has ended before.
            BaseException: what a callback raised. After any of these it can run on.
        """
        if self._closed or self.status is not None:
            raise ValueError("the program has ended: load it again to run it again")
        if self._engine.dispatcher.running:
            raise ReentryError("the program is running already")
        if timeout is None:
            return self._run()
        with self._engine.dispatcher.limited(timeout):
            return self._run()

    def _run(self) -> int | None:
        if not self.vm.is_restricted:
            self.vm.instrumentAllExecutableMaps()
        self.fault = None
        with suppress(GuestFault, DecodeError), self.entered():
            self._process.disk_cache.begin()
            self.modules.announce()
            self._run_threads()
        return self._outcome()

    def _run_threads(self) -> None:
        """Run the first thread; the others run as long as it does."""
        sharing = self._engine.sharing
        sharing.resume()
        try:
            self._engine.run(sharing.main.guest.gpr.rip, _NOWHERE)
        finally:
            if sharing.ended or self.status is not None:
                sharing.finish(sharing.main)
            else:
                sharing.pause()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within, this process has the program's descriptors, folder and signals.

        `run` sees to that by itself; this is for running `vm` directly. A child that the program
        forks ends where it would leave the context.
        """
        process = self._process
        process.begin()
        try:
            with self._noting_faults():
                yield
            if self.status is not None:
                process.disk_cache.keep()
            if self.status is not None:
                self.tell("exit", self.status)
        except BaseException:
            if not process.processes.has_forked:
                raise
            if self.fault is None:
                sys.excepthook(*sys.exc_info())  # there is nobody else in this process to see it
                leave(1)
        finally:
            if not process.processes.has_forked:
                process.end()
        if process.processes.has_forked:
            self._leave()

    def _leave(self) -> NoReturn:
        """End this process, which the program has forked."""
        self._process.processes.report_end()
        leave(self._outcome() or 0)

    @contextmanager
    def _noting_faults(self) -> Iterator[None]:
        try:
            yield
        except (GuestFault, DecodeError) as error:
            self.fault = error
            self.tell("exit", self._outcome())
            raise

    def _outcome(self) -> int | None:
        """Return how the program has ended; None if it has not."""
        if self.fault is None:
            return self.status
        return -self.fault.signal if isinstance(self.fault, GuestFault) else -_SIGILL

    def close(self) -> None:
        """Unmap the program and all that it has mapped; it cannot run on.

        Raises:
            ReentryError: it is running.
        """
        if not self._closed:
            self._engine.dispatcher.check_not_running()
            self._closed = True
            self._process.close()

    def __repr__(self) -> str:
        if getattr(self, "_engine", None) is None:
            return "<program that was not loaded>"
        if self.status is not None:
            state = f"ended with status {self.status}"
        elif self._closed:
            state = "closed"
        elif self._engine.dispatcher.running:
            state = "running"
        else:
            state = f"at {self.vm.getGPRState().rip:#x}"
        return f"<program {self.path}: {state}>"

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not self._engine.dispatcher.running:
            self.close()

    # System calls.

    def addSyscallCB(
        self,
        syscall: int | str | None = None,
        *,
        before: SyscallCallback | None = None,
        after: SyscallCallback | None = None,
    ) -> int:
        """Call *before* and *after* around system calls; return an id.

        They are called as ``callback(vm, syscall)`` with a `Syscall`. A call that is watched goes
        through Python, some microseconds each.

        Args:
            syscall: its number or name; None for all.

        Raises:
            ValueError: there is no system call of that name or number.
            TypeError: it is neither; neither callback is given, or one cannot be called.
        """
        for callback in (before, after):
            if callback is not None and not callable(callback):
                raise TypeError(f"a callback is due, not {callback!r}")
        if before is None and after is None:
            raise TypeError("a callback is due, before or after the call")
        number = number_of(syscall) if isinstance(syscall, str) else syscall
        if number is not None:
            number = integer(number, "a system call's number")
            if not 0 <= number < SYSCALL_NUMBERS:
                raise ValueError(f"no system call has the number {number}")
        return self._process.calls.add_callback(number, before, after)

    def deleteSyscallCB(self, identity: int) -> bool:
        """Take out what `addSyscallCB` has returned this id for; False if there is none."""
        return self._process.calls.remove_callback(identity)
