"""System calls that may wait, made without Python's lock.

Guest code runs with the lock held. In a process with threads the guest may wait for another thread,
which may be waiting for the lock because it has called a hooked function too.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from pydbi.host.libc import libc
from pydbi.jit.library_calls import library_calls
from pydbi.jit.syscalls import SystemCalls

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.states import GPRState

# By number (<asm/unistd_64.h>): what sleeps until somebody else does something, or for a time.
_WAITING = frozenset({
    0, 1, 7, 17, 18, 19, 20, 23,  # read, write, poll, pread64, pwrite64, readv, writev, select
    34, 35,  # pause, nanosleep
    42, 43, 44, 45, 46, 47,  # connect, accept, sendto, recvfrom, sendmsg, recvmsg
    61, 65, 69, 70, 72, 73, 74, 75,  # wait4, semop, msgsnd, msgrcv, fcntl, flock, fsync, fdatasync
    128, 130,  # rt_sigtimedwait, rt_sigsuspend
    202, 220, 230, 232,  # futex, semtimedop, clock_nanosleep, epoll_wait
    242, 243, 247, 257,  # mq_timedsend, mq_timedreceive, waitid, openat
    270, 271, 275, 278, 281, 288,  # pselect6, ppoll, splice, vmsplice, epoll_pwait, accept4
    295, 296, 299, 307, 318,  # preadv, pwritev, recvmmsg, sendmmsg, getrandom
    326, 441, 449,  # copy_file_range, epoll_pwait2, futex_waitv
})  # fmt: skip


def calls_that_wait(engine: Engine) -> SystemCalls:
    """Return what handles a library's system calls, and those that may wait."""
    handlers = dict.fromkeys(_WAITING, _make) | library_calls(engine).handlers
    return SystemCalls(engine, handlers)


def _make(gpr: GPRState) -> int:
    """Make the system call; ctypes lets other threads of Python run meanwhile."""
    result = int(libc.syscall(gpr.rax, gpr.rdi, gpr.rsi, gpr.rdx, gpr.r10, gpr.r8, gpr.r9))
    return -ctypes.get_errno() if result == -1 else result
