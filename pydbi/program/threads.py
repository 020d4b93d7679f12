"""The threads of a program: each runs on a Python thread, without the interpreter lock."""

from __future__ import annotations

import _thread
import os
import struct
import sys
from collections.abc import Callable
from signal import SIGILL
from threading import get_native_id
from typing import TYPE_CHECKING

from pydbi.errors import DecodeError, GuestFault
from pydbi.jit.actions import StopRun
from pydbi.jit.context import SLOT
from pydbi.jit.sharing import GuestThread
from pydbi.jit.signals import leave_thread, prepare_thread
from pydbi.program.ending import Ending
from pydbi.program.kernel import call

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.guest import Guest
    from pydbi.program.memory import ProgramMemory
    from pydbi.program.process_calls import Request

_SYS_FUTEX, _FUTEX_WAKE = 202, 1
_EAGAIN = 11
_NOWHERE = -1
_GUEST_FS = SLOT["GUEST_FS"] >> 3
_WORD = struct.Struct("<I")
_ROBUST_LIST = struct.Struct("<QqQ")
_OWNER_DIED, _WAITERS, _TID = 0x40000000, 0x80000000, 0x3FFFFFFF
_MOST_ROBUST = 2048  # ROBUST_LIST_LIMIT
_CLONE_SETTLS, _CLONE_PARENT_SETTID = 0x80000, 0x100000
_CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x200000, 0x1000000


class ThreadEnd(StopRun):
    """A thread has ended; others may go on."""


class _Kernels:
    """What the kernel keeps of a thread."""

    clear_child_tid = 0
    robust_list = 0


class Threads:
    """Starts threads of a program, and sees to their ends.

    Attributes:
        tell: called with the name of an event and the thread's kernel id.
        before_first: called before the first thread is started: all is translated anew then.
        leave_process: called where a process ends that another thread than its first has forked.
    """

    def __init__(
        self,
        engine: Engine,
        memory: ProgramMemory,
        ending: Ending,
        tell: Callable[[str, object], None],
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._ending = ending
        self.tell = tell
        self.leave_process: Callable[[], None] = lambda: None
        self.before_first: Callable[[], None] = lambda: None
        self._kernels: dict[int, _Kernels] = {}

    def of(self, guest: Guest) -> _Kernels:
        """Return what the kernel keeps of the thread with this context."""
        return self._kernels.setdefault(guest.address, _Kernels())

    def start(self, request: Request) -> int:
        """Start a thread with a copy of the current one's registers; return its kernel id."""
        engine = self._engine
        sharing = engine.sharing
        if not sharing.active:
            self.before_first()
        sharing.begin(get_native_id())
        thread = sharing.add()
        guest = thread.guest
        guest.gpr.rax = 0
        guest.gpr.rsp = request.stack or guest.gpr.rsp
        if request.flags & _CLONE_SETTLS:
            guest.words[_GUEST_FS] = request.tls
        if request.flags & _CLONE_CHILD_CLEARTID:
            self.of(guest).clear_child_tid = request.child_tid
        started = _thread.allocate_lock()
        started.acquire()
        try:
            _thread.start_new_thread(self._run, (thread, started))
        except RuntimeError:
            sharing.remove(thread)
            return -_EAGAIN
        with started:
            pass
        identity = _WORD.pack(thread.identity)
        if request.flags & _CLONE_PARENT_SETTID:
            self._memory.write_data(request.parent_tid, identity)
        if request.flags & _CLONE_CHILD_SETTID:
            self._memory.write_data(request.child_tid, identity)
        self.tell("thread_start", thread.identity)
        return thread.identity

    def _run(self, thread: GuestThread, started: _thread.LockType) -> None:
        """Run a thread until it ends. This is a Python thread's function."""
        sharing = self._engine.sharing
        thread.identity = get_native_id()
        prepare_thread(ticks=False)
        thread.guest.prepare_thread()
        process = os.getpid()
        started.release()
        try:
            sharing.acquire(thread)
            if sharing.stops:
                sharing.park()
        except StopRun:
            thread.over = True
        while not thread.over:
            try:
                thread.dispatcher.run(thread.guest.gpr.rip, _NOWHERE)
            except (GuestFault, DecodeError) as error:
                thread.over = True
                self._die(thread, error)
            except BaseException as error:
                if thread is sharing.main:  # of a forked process: there is nobody to raise it to
                    sys.excepthook(*sys.exc_info())
                    os._exit(1)
                sharing.report(thread, error)
            else:
                thread.over = thread.over or self._ending.status is not None
                if not thread.over:
                    sharing.report(thread, None)
        if os.getpid() != process:
            self.leave_process()
        self._see_off(thread)
        leave_thread()
        sharing.remove(thread)
        sharing.release()

    def _die(self, thread: GuestThread, error: GuestFault | DecodeError) -> None:
        """A fault in one thread ends them all."""
        sharing = self._engine.sharing
        if thread is sharing.main:
            signal = error.signal if isinstance(error, GuestFault) else int(SIGILL)
            self._ending.status = -signal
        else:
            sharing.wish(error)
        sharing.end()

    # Ends.

    def end_current(self, status: int) -> None:
        """The current thread has called exit.

        Raises:
            ThreadEnd: it is to leave the dispatcher.
            GuestExit: it was the last.
        """
        sharing = self._engine.sharing
        thread = sharing.current
        if thread is sharing.main:
            if sharing.active:
                self._see_off(thread)
                self._engine.signals.retire()
                sharing.finish(thread)
            if self._ending.status is None:
                self._ending.come(status)
        thread.over = True
        raise ThreadEnd

    def end_all(self) -> None:
        """The program ends: no thread may go on."""
        if self._engine.sharing.active:
            self._engine.sharing.end()

    def only_current(self) -> None:
        """End all threads but the current one: another program begins."""
        sharing = self._engine.sharing
        if len(sharing.threads) > 1:
            thread = sharing.current
            sharing.end()
            sharing.finish(thread)
            sharing.ended = False
        self._kernels.clear()

    def after_fork(self) -> None:
        """In a forked child: the others are not there."""
        mine = self.of(self._engine.guest)
        self._engine.sharing.after_fork()
        self._kernels = {self._engine.guest.address: mine}

    def _see_off(self, thread: GuestThread) -> None:
        """Do what the kernel does at the end of a thread: wake who waits for it."""
        kernels = self._kernels.pop(thread.guest.address, _Kernels())
        self._mark_robust(kernels.robust_list, thread.identity)
        if kernels.clear_child_tid:
            self._memory.write_data(kernels.clear_child_tid, bytes(4))
            call(_SYS_FUTEX, kernels.clear_child_tid, _FUTEX_WAKE, 1)
        self.tell("thread_end", thread.identity)

    def _mark_robust(self, head: int, identity: int) -> None:
        """Mark the locks that a thread dies with; see robust_futexes of the kernel's ABI."""
        content = self._memory.read_data(head, _ROBUST_LIST.size) if head else None
        if content is None:
            return
        entry, offset, pending = _ROBUST_LIST.unpack(content)
        entries: list[int] = []
        while entry & ~1 != head and len(entries) < _MOST_ROBUST:
            following = self._memory.read_data(entry & ~1, 8)
            if following is None:
                break
            if entry != pending:
                entries.append(entry & ~1)
            entry = int.from_bytes(following, "little")
        if pending:
            entries.append(pending & ~1)
        for entry in entries:
            self._mark_lock(entry + offset, identity)

    def _mark_lock(self, address: int, identity: int) -> None:
        content = self._memory.read_data(address, 4)
        if content is None:
            return
        (value,) = _WORD.unpack(content)
        if value & _TID == identity:
            self._memory.write_data(address, _WORD.pack(value & _WAITERS | _OWNER_DIED))
            if value & _WAITERS:
                call(_SYS_FUTEX, address, _FUTEX_WAKE, 1)
