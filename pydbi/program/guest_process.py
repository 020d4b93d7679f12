"""The process of a program: what the kernel would keep of it, and its system calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from signal import SIGKILL

from pydbi.jit.context import EFLAGS_FIXED, SLOT
from pydbi.jit.engine import Engine
from pydbi.jit.guest import AlternateStack
from pydbi.jit.library_calls import SYS_ARCH_PRCTL, arch_prctl
from pydbi.jit.states import GPRState
from pydbi.jit.syscalls import Handler
from pydbi.program.address_space import AddressSpace
from pydbi.program.calls import ProgramCalls
from pydbi.program.command import Command
from pydbi.program.descriptor_calls import DescriptorCalls
from pydbi.program.disk_cache import DiskCache
from pydbi.program.dispositions import ProgramDispositions
from pydbi.program.elf_image import ElfImage
from pydbi.program.ending import Ending
from pydbi.program.exec_calls import ExecCalls, Images
from pydbi.program.limits import Limits
from pydbi.program.loader import load, read_images
from pydbi.program.mappings import Area
from pydbi.program.memory import ProgramMemory
from pydbi.program.memory_calls import MemoryCalls
from pydbi.program.modules import Modules
from pydbi.program.proc_views import ProcViews
from pydbi.program.process_calls import ProcessCalls
from pydbi.program.refused import Refused
from pydbi.program.surroundings import (
    Stream,
    Surroundings,
    capture,
    flush,
    open_stream,
    set_name,
)
from pydbi.program.threads import Threads
from pydbi.program.vm import NothingNative, ProgramVM
from pydbi.tuples import NamedTuple

_GUEST_FS, _GUEST_GS = SLOT["GUEST_FS"] >> 3, SLOT["GUEST_GS"] >> 3


class Settings(NamedTuple):
    """How a program is run."""

    streams: tuple[Stream, Stream, Stream]
    """What its standard descriptors are to be."""
    folder: bytes | None
    """Where it begins; None: where Python is."""
    own_process: bool
    """Whether this process is there for the program only."""
    follow_exec: bool
    """Whether a program that it executes in its place is run, too."""
    cache_folder: str | None = None
    """Where translations are kept for the next run; None: nowhere."""


class GuestProcess:
    """The process of one program.

    Attributes:
        command: what it was started with, or has executed since.
        loaded: where that lies.
        space, memory, modules: what it has mapped.
        ending: whether it has ended.
        refused: which system calls it did not get.
        engine: what runs it, once `make_engine` was called.
        processes: whether it was forked, and how its end is reported.
        disk_cache: keeps translations for the next run.
    """

    def __init__(
        self, command: Command, settings: Settings, tell: Callable[[str, object], None]
    ) -> None:
        """Load the program of *command*.

        Args:
            tell: called with the name of an event and what has come.

        Raises:
            ProgramError: it cannot be loaded.
        """
        images = read_images(command)
        self.command = command
        self._settings = settings
        self._tell = tell
        self.space = space = AddressSpace(_fixed_place(images[0]))
        self.modules = modules = Modules(space.mappings)
        self.disk_cache = DiskCache(self, settings.cache_folder, settings.own_process)
        space.on_code, space.on_unmap = self._on_code, modules.on_unmap
        try:
            self.loaded = load(space, command, images)
        except BaseException:
            space.release()
            raise
        modules.loaded = lambda module: tell("load", module)
        modules.unloaded = lambda module: tell("unload", module)
        self.memory = ProgramMemory(space)
        self.ending = Ending()
        self.refused = Refused()
        self._descriptors = DescriptorCalls()
        self._dispositions = ProgramDispositions(self.ending, settings.own_process)
        self._host: Surroundings | None = None
        self._guest: Surroundings | None = None
        self._begun = False

    def make_engine(self, vm: ProgramVM) -> Engine:
        """Return the engine that runs the program."""
        self.engine = engine = Engine(
            vm,
            memory=self.memory,
            system_calls=self._make_calls,
            dispositions=self._dispositions,
            native=NothingNative(),
        )
        engine.guest.backs_up_errno = False  # its libc is not ours
        engine.guest.need_fs_swap()
        self.space.forget = engine.invalidation.forget
        self.modules.add_range, self.modules.remove_range = engine.add_range, engine.remove_range
        self._reset_registers()
        return engine

    def _make_calls(self, engine: Engine) -> ProgramCalls:
        memory = self.memory
        self.threads = Threads(engine, memory, self.ending, self._tell)
        self.threads.before_first = self.disk_cache.keep
        self.ending.on_end = self.threads.end_all
        self.processes = ProcessCalls(
            engine,
            memory,
            self._descriptors,
            self.refused,
            self.ending,
            self._after_fork,
            self.threads,
        )
        self._memory_calls = MemoryCalls(self.space)
        self._views = ProcViews(memory, self.space.mappings, self.command, self.loaded)
        limits = Limits(memory, self.space)
        execs = ExecCalls(engine, memory, self._views, limits, self._before_exec, self._replace)
        handlers: dict[int, Handler] = {SYS_ARCH_PRCTL: lambda gpr: arch_prctl(engine, gpr)}
        parts = (self._memory_calls, self.processes, execs, self._descriptors, self.refused)
        for part in (*parts, self._views, limits):
            handlers |= part.handlers()
        handlers |= engine.signals.handlers
        filters = self._views.filters() | self._descriptors.filters()
        self.calls = ProgramCalls(engine, handlers, filters)
        self._descriptors.tell = self.calls.mark
        return self.calls

    def _reset_registers(self) -> None:
        """Give the guest the registers that a program begins with."""
        guest = self.engine.guest
        guest.words[_GUEST_FS] = guest.words[_GUEST_GS] = 0
        for field in GPRState._fields_:
            setattr(guest.gpr, field[0], 0)
        guest.gpr.eflags = EFLAGS_FIXED
        guest.gpr.rip, guest.gpr.rsp = self.loaded.start, self.loaded.rsp
        guest.fpr.reset()
        guest.alternate_stack = AlternateStack()

    def _on_code(self, area: Area) -> None:
        self.modules.on_code(area)
        self.disk_cache.on_code(area)

    # What this process shares with Python is the guest's while it runs.

    def begin(self) -> None:
        """Give this process the guest's surroundings and signals."""
        flush()
        if not self._settings.own_process:
            self._host = capture(self._descriptors.inherited())
        if self._guest is not None:
            self._guest.put_back()
            self._descriptors.take_back()
            self._guest = None
        elif not self._begun:
            self._enter_surroundings()
        self._dispositions.begin(self.engine.sharing.main.guest.address)

    def _enter_surroundings(self) -> None:
        self._begun = True
        opened = [open_stream(stream) for stream in self._settings.streams]
        for number, descriptor in enumerate(opened):
            if descriptor >= 0:
                os.dup2(descriptor, number)
                os.close(descriptor)
        if self._settings.folder is not None:
            os.chdir(self._settings.folder)
        set_name(os.path.basename(self.command.executed))
        self._descriptors.hide_private()

    def end(self) -> None:
        """Give this process its own surroundings and signals back."""
        self._dispositions.end()
        if self._host is not None:
            if self.ending.status is None:
                self._guest = capture()
                self._descriptors.set_aside()
            else:
                self._descriptors.close_own()
            self._host.put_back()
            self._host = None

    def close(self) -> None:
        """Unmap everything."""
        self.threads.end_all()
        if self.engine.sharing.active:
            self.engine.sharing.finish(self.engine.sharing.main)
        self.engine.invalidation.distrust()
        self.space.release()
        if self._guest is not None:
            self._guest.drop()
            self._guest = None
            self._descriptors.close_own()

    # What becomes of it.

    def _after_fork(self, child: int) -> None:
        if child == 0:
            if self._host is not None:
                self._host.drop()  # or a pipe that the guest closes would stay open
                self._host = None
            self._dispositions.take_process(self.engine.guest.address)
        self._tell("fork", child)

    def _before_exec(self) -> bool:
        """Whether the kernel's execve is not wanted: it would end instrumentation, and Python."""
        self.disk_cache.keep()
        alone = self._settings.own_process or self.processes.has_forked
        return self._settings.follow_exec or not alone

    def _replace(self, command: Command, images: Images) -> None:
        """Become another program, as execve does it; there is no way back."""
        engine = self.engine
        engine.invalidation.distrust()
        engine.inspector.forget()
        engine.instruments.rules.release()
        self._descriptors.close_on_exec()
        self._dispositions.on_exec()
        self.processes.on_exec()
        self._memory_calls.on_exec()
        self.modules.unload_all()
        self.command = command
        try:
            self.space.replace(_fixed_place(images[0]))
            self.loaded = load(self.space, command, images)
        except OSError:
            self.ending.come(-SIGKILL)
        self._views.describe(command, self.loaded)
        set_name(os.path.basename(command.executed))
        self._reset_registers()
        self.disk_cache.begin()
        self._tell("exec", os.fsdecode(command.executed))


def _fixed_place(image: ElfImage) -> tuple[int, int] | None:
    return (image.low, image.high) if image.is_fixed else None


def enter_folder(folder: bytes) -> int:
    """Go to *folder* and return a descriptor that leads back."""
    before = os.open(".", os.O_PATH | os.O_DIRECTORY)
    try:
        os.chdir(os.fsdecode(folder))
    except OSError:
        os.close(before)
        raise
    return before
