"""System calls that make processes, and end them."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydbi.jit.context import SLOT
from pydbi.program.descriptor_calls import DescriptorCalls, move_high
from pydbi.program.ending import Ending
from pydbi.program.kernel import call
from pydbi.program.memory import ProgramMemory
from pydbi.program.refused import Refused
from pydbi.program.surroundings import flush
from pydbi.program.threads import Threads
from pydbi.tuples import NamedTuple

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.states import GPRState
    from pydbi.jit.syscalls import Handler

SYS_CLONE, SYS_FORK, SYS_VFORK, SYS_EXIT = 56, 57, 58, 60
SYS_SET_TID_ADDRESS, SYS_EXIT_GROUP, SYS_SET_ROBUST_LIST = 218, 231, 273
SYS_CLONE3, SYS_PIDFD_OPEN = 435, 434

# <linux/sched.h>
_CLONE_VM, _CLONE_FS, _CLONE_FILES, _CLONE_SIGHAND = 0x100, 0x200, 0x400, 0x800
_CLONE_PIDFD, _CLONE_VFORK, _CLONE_THREAD, _CLONE_SYSVSEM = 0x1000, 0x4000, 0x10000, 0x40000
_CLONE_SETTLS, _CLONE_PARENT_SETTID = 0x80000, 0x100000
_CLONE_CHILD_CLEARTID, _CLONE_DETACHED, _CLONE_UNTRACED = 0x200000, 0x400000, 0x800000
_CLONE_CHILD_SETTID, _CLONE_IO, _CLONE_CLEAR_SIGHAND = 0x1000000, 0x80000000, 0x100000000
_FORKS_WITH = (
    _CLONE_VM | _CLONE_FS | _CLONE_FILES | _CLONE_PIDFD | _CLONE_VFORK | _CLONE_SYSVSEM
    | _CLONE_SETTLS | _CLONE_PARENT_SETTID | _CLONE_CHILD_CLEARTID | _CLONE_DETACHED
    | _CLONE_UNTRACED | _CLONE_CHILD_SETTID | _CLONE_IO
)  # fmt: skip
"""What a new process may be asked for. A child that shares memory with its parent has a copy."""
_THREADS_SHARE = _CLONE_VM | _CLONE_FS | _CLONE_FILES | _CLONE_SIGHAND
_SIGCHLD = 17
_EAGAIN, _EFAULT, _EINVAL, _ENOSYS, _E2BIG = 11, 14, 22, 38, 7
_CLONE_ARGS = struct.Struct("<8Q")
_SMALLEST_CLONE_ARGS = 64
_WINDOW = 4096
"""Bytes of a vfork's stack that its child can report in: glibc's posix_spawn needs 500."""
_TID = struct.Struct("<i")
_GUEST_FS = SLOT["GUEST_FS"] >> 3


class Request(NamedTuple):
    """What clone or clone3 asks for."""

    flags: int
    stack: int = 0
    """The child's rsp; 0: the same as the parent's."""
    parent_tid: int = 0
    child_tid: int = 0
    tls: int = 0
    pidfd: int = 0
    exit_signal: int = _SIGCHLD


class ProcessCalls:
    """The handlers of these calls, and what is known of the guest's process.

    Args:
        forked: called in both processes: with the child's id, and 0 in the child.

    Attributes:
        threads: those of the guest.
        has_forked: whether this process is a child that the guest has made.
    """

    def __init__(
        self,
        engine: Engine,
        memory: ProgramMemory,
        descriptors: DescriptorCalls,
        refused: Refused,
        ending: Ending,
        forked: Callable[[int], None],
        threads: Threads,
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._descriptors = descriptors
        self._refused = refused
        self._ending = ending
        self._forked = forked
        self.threads = threads
        self.has_forked = False
        self._vfork: tuple[int, int] | None = None
        """In a vfork's child: the pipe on which its parent waits, and the parent's rsp."""

    def handlers(self) -> dict[int, Handler]:
        """Return the handlers by system call number."""
        return {
            SYS_CLONE: self._clone,
            SYS_FORK: lambda gpr: self._fork(gpr, Request(0)),
            SYS_VFORK: lambda gpr: self._fork(gpr, Request(_CLONE_VM | _CLONE_VFORK)),
            SYS_EXIT: self._exit,
            SYS_SET_TID_ADDRESS: self._set_tid_address,
            SYS_EXIT_GROUP: self._exit_group,
            SYS_SET_ROBUST_LIST: self._set_robust_list,
            SYS_CLONE3: self._clone3,
        }

    # Ending.

    def _exit(self, gpr: GPRState) -> int:
        self.threads.end_current(gpr.rdi & 0xFF)
        raise AssertionError

    def _exit_group(self, gpr: GPRState) -> int:
        self._ending.come(gpr.rdi & 0xFF)

    def report_end(self) -> None:
        """In a vfork's child that ends: give the parent the stack that they would have shared."""
        if self._vfork is None:
            return
        pipe, rsp = self._vfork
        window = self._memory.read_data(rsp, _WINDOW)
        if window is None:
            window = self._memory.read_data(rsp, _WINDOW - rsp % _WINDOW) or b""
        os.write(pipe, window)
        self._close_vfork()

    def on_exec(self) -> None:
        """Another program begins: let the parent of a vfork go on, and forget about threads."""
        self._close_vfork()
        self.threads.only_current()

    def _close_vfork(self) -> None:
        if self._vfork is not None:
            os.close(self._vfork[0])
            self._descriptors.show(self._vfork[0])
            self._vfork = None

    # Threads.

    def _set_tid_address(self, gpr: GPRState) -> int:
        self.threads.of(self._engine.guest).clear_child_tid = gpr.rdi
        return call(186)  # gettid

    def _set_robust_list(self, gpr: GPRState) -> int:
        if gpr.rsi != 24:
            return -_EINVAL
        self.threads.of(self._engine.guest).robust_list = gpr.rdi
        return 0

    # New processes.

    def _clone(self, gpr: GPRState) -> int:
        flags = gpr.rdi
        pidfd = gpr.rdx if flags & _CLONE_PIDFD else 0
        parent_tid = gpr.rdx if flags & _CLONE_PARENT_SETTID else 0
        request = Request(flags & ~0xFF, gpr.rsi, parent_tid, gpr.r10, gpr.r8, pidfd, flags & 0xFF)
        return self._start(gpr, request)

    def _clone3(self, gpr: GPRState) -> int:
        size = gpr.rsi
        if size < _SMALLEST_CLONE_ARGS:
            return -_EINVAL
        data = self._memory.read_data(gpr.rdi, min(size, 88))
        if data is None:
            return -_EFAULT
        flags, pidfd, child_tid, parent_tid, signal, stack, stack_size, tls = (
            _CLONE_ARGS.unpack_from(data)
        )
        if any(data[_CLONE_ARGS.size :]) or size > 88:
            return self._refused.count("clone3(set_tid, cgroup)", _E2BIG)
        if flags & 0xFF:
            return -_EINVAL
        flags &= ~_CLONE_CLEAR_SIGHAND if flags & _CLONE_VFORK else -1
        top = stack + stack_size if stack else 0
        return self._start(gpr, Request(flags, top, parent_tid, child_tid, tls, pidfd, signal))

    def _start(self, gpr: GPRState, request: Request) -> int:
        if request.flags & _CLONE_THREAD:
            if request.flags & _THREADS_SHARE != _THREADS_SHARE:
                return -_EINVAL
            return self.threads.start(request)
        shares = request.flags & (_CLONE_VM | _CLONE_VFORK) == _CLONE_VM
        if shares or request.flags & ~_FORKS_WITH or request.exit_signal not in (0, _SIGCHLD):
            return self._refused.count(f"clone({request.flags:#x})", _EINVAL)
        return self._fork(gpr, request)

    def _fork(self, gpr: GPRState, request: Request) -> int:
        """Fork this process with Python in it; the child goes on in the guest, too."""
        waits = request.flags & _CLONE_VFORK
        receiver, sender = os.pipe() if waits else (-1, -1)
        rsp = gpr.rsp
        flush()
        try:
            child = self._engine.signals.fork(_fork_quietly)
        except OSError as error:
            if waits:
                os.close(receiver)
                os.close(sender)
            return -(error.errno or _EAGAIN)
        if child == 0:
            if waits:
                os.close(receiver)
            self._become_child(gpr, request, (sender, rsp) if waits else None)
            return 0
        if request.pidfd:
            pidfd = call(SYS_PIDFD_OPEN, child, 0)
            self._memory.write_data(request.pidfd, _TID.pack(pidfd))
        if request.parent_tid:
            self._memory.write_data(request.parent_tid, _TID.pack(child))
        if waits:
            os.close(sender)
            self._wait_for_child(receiver, rsp)
        self._forked(child)
        return child

    def _become_child(self, gpr: GPRState, request: Request, vfork: tuple[int, int] | None) -> None:
        self.has_forked = True
        self.threads.after_fork()
        self._close_vfork()
        if vfork:
            pipe = move_high(vfork[0])
            os.close(vfork[0])
            self._descriptors.hide(pipe)
            self._vfork = pipe, vfork[1]
        if request.stack:
            gpr.rsp = request.stack
        if request.flags & _CLONE_SETTLS:
            self._engine.guest.words[_GUEST_FS] = request.tls
        if request.flags & _CLONE_CHILD_SETTID:
            self._memory.write_data(request.child_tid, _TID.pack(os.getpid()))
        if request.flags & _CLONE_CHILD_CLEARTID:
            self.threads.of(self._engine.guest).clear_child_tid = request.child_tid
        self._engine.dispatcher.forget_thread()
        self._forked(0)

    def _wait_for_child(self, receiver: int, rsp: int) -> None:
        """Wait until the child of a vfork has executed something, or has ended."""
        with open(receiver, "rb", buffering=0) as pipe:
            window = pipe.readall()
        if window:
            self._memory.write_data(rsp, window)


def _fork_quietly() -> int:
    """Do what os.fork does; other threads, of which Python 3.12 warns, are the guest's affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
