"""System calls that the guest does not get, and the answer of a kernel that lacks them."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from pydbi.program.kernel import call, note
from pydbi.program.syscall_names import name_of

if TYPE_CHECKING:
    from pydbi.jit.states import GPRState
    from pydbi.jit.syscalls import Handler

_EPERM, _EINVAL, _ENOSYS = 1, 22, 38
_SYS_PRCTL, _SYS_RSEQ = 157, 334

_ANSWERS = {
    101: _EPERM,  # ptrace: the tracer would see translated code
    154: _ENOSYS,  # modify_ldt: segments whose base the translator does not know
    205: _ENOSYS,  # set_thread_area: likewise
    317: _EINVAL,  # seccomp: its filter would apply to Python too
    323: _ENOSYS,  # userfaultfd: it would stop Python where it reads the guest's memory
    425: _ENOSYS,  # io_uring_setup: its calls go past us
    426: _ENOSYS,  # io_uring_enter
    427: _ENOSYS,  # io_uring_register
    453: _ENOSYS,  # map_shadow_stack: returns go through a lookup
}
_PRCTL_ANSWERS = {
    22: _EINVAL,  # PR_SET_SECCOMP
    35: _EPERM,  # PR_SET_MM: it describes this process, not the guest
    59: _EINVAL,  # PR_SET_SYSCALL_USER_DISPATCH: system calls are made from the code cache
}


class Refused:
    """The handlers of these calls.

    Attributes:
        counts: how often each was refused, by name.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def handlers(self) -> dict[int, Handler]:
        """Return the handlers by system call number."""
        result: dict[int, Handler] = {
            number: partial(self._refuse, number, answer) for number, answer in _ANSWERS.items()
        }
        result[_SYS_PRCTL] = self._prctl
        result[_SYS_RSEQ] = _rseq
        return result

    def _refuse(self, number: int, answer: int, _: GPRState) -> int:
        return self.count(name_of(number), answer)

    def count(self, name: str, answer: int) -> int:
        """Note that *name* was refused with errno *answer*, and return the call's result."""
        self.counts[name] += 1
        note("%s refused with errno %d", name, answer)
        return -answer

    def _prctl(self, gpr: GPRState) -> int:
        answer = _PRCTL_ANSWERS.get(gpr.rdi)
        if answer is not None:
            return self.count(f"prctl({gpr.rdi})", answer)
        return call(_SYS_PRCTL, gpr.rdi, gpr.rsi, gpr.rdx, gpr.r10, gpr.r8)


def _rseq(_: GPRState) -> int:
    """Python's libc has the one area that the kernel keeps for a thread. Every libc copes."""
    return -_ENOSYS
