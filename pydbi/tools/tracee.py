"""A thread of another process, borrowed by ptrace to call a function.

It is stopped where that does no harm, and afterwards goes on as if nothing had been: a system call
that it was waiting in is restarted by the kernel.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydbi.host.libc import IoVector, syscall
from pydbi.tools.remote import AttachError, RemoteProcess, is_c_library

# <sys/ptrace.h>
_CONT, _GETREGS, _SETREGS, _DETACH = 7, 12, 13, 17
_GETREGSET, _SETREGSET, _SEIZE, _INTERRUPT = 0x4204, 0x4205, 0x4206, 0x4207
_SYS_PTRACE, _SYS_TGKILL, _SYS_FUTEX = 101, 234, 202
_NT_X86_XSTATE = 0x202  # <elf.h>
_XSTATE_LIMIT = 1 << 14
_WALL = 0x40000000  # __WALL of <bits/waitflags.h>: threads too
_NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs",
    "gs",
)  # fmt: skip
"""struct user_regs_struct of <sys/user.h>."""
_REGISTERS = struct.Struct(f"{len(_NAMES)}Q")
_ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
_RED_ZONE = 128
_DIRECTION_FLAG = 0x400
_NOWHERE = 0
"""The return address: a fault there says that the function is done."""
_PATIENCE = 200
"""How often to look for a thread that can be borrowed, with some milliseconds between."""


class Tracee:
    """A stopped thread.

    Use `borrow_thread`, which lets it go on afterwards.
    """

    def __init__(self, process: RemoteProcess, thread: int) -> None:
        self._process = process
        self._thread = thread
        self._late: list[int] = []
        try:
            _ptrace(_SEIZE, thread, 0)
            _ptrace(_INTERRUPT, thread, 0)
        except PermissionError:
            raise AttachError(
                f"process {process.pid} may not be traced: it belongs to somebody else, a debugger "
                "has it already, or /proc/sys/kernel/yama/ptrace_scope forbids it"
            ) from None
        self._wait()
        self._saved = self._registers()

    def is_safe(self) -> bool:
        """Whether it holds none of the C library's locks, as far as can be told."""
        waits_in = self._saved["orig_rax"]
        if waits_in < 1 << 63:  # else it is in no system call
            return waits_in != _SYS_FUTEX
        return not is_c_library(self._process.module_at(self._saved["rip"]))

    def call(self, function: int, *arguments: int) -> int:
        """Call a function of the process with up to six integers, and return its result.

        Raises:
            AttachError: it faults, or the process ends.
        """
        registers = dict(self._saved)
        vectors = self._vectors()
        rsp = (registers["rsp"] - _RED_ZONE & -16) - 8
        self._process.write(rsp, _NOWHERE.to_bytes(8, "little"))
        registers |= zip(_ARGUMENTS, arguments, strict=False)
        registers |= {"rip": function, "rsp": rsp, "rax": 0, "orig_rax": (1 << 64) - 1}
        registers["eflags"] &= ~_DIRECTION_FLAG
        self._set_registers(registers)
        try:
            return self._run_to_the_end()
        finally:
            self._set_vectors(vectors)
            self._set_registers(self._saved)

    def release(self) -> None:
        """Let the thread go on."""
        _ptrace(_DETACH, self._thread, 0)
        for number in self._late:
            syscall(_SYS_TGKILL, self._process.pid, self._thread, number)

    def _run_to_the_end(self) -> int:
        while True:
            _ptrace(_CONT, self._thread, 0)
            number, event = self._wait()
            if event:
                continue
            registers = self._registers()
            if number == signal.SIGSEGV and registers["rip"] == _NOWHERE:
                return registers["rax"]
            if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE):
                raise AttachError(
                    f"a function called in process {self._process.pid} got "
                    f"{signal.Signals(number).name} at {registers['rip']:#x}"
                )
            self._late.append(number)

    def _wait(self) -> tuple[int, int]:
        """Wait until the thread stops; return the signal and the ptrace event."""
        _, status = os.waitpid(self._thread, _WALL)
        if not os.WIFSTOPPED(status):
            raise AttachError(f"process {self._process.pid} has ended")
        return os.WSTOPSIG(status), status >> 16

    def _registers(self) -> dict[str, int]:
        buffer = ctypes.create_string_buffer(_REGISTERS.size)
        _ptrace(_GETREGS, self._thread, ctypes.addressof(buffer))
        return dict(zip(_NAMES, _REGISTERS.unpack(buffer.raw), strict=True))

    def _set_registers(self, values: dict[str, int]) -> None:
        buffer = ctypes.create_string_buffer(_REGISTERS.pack(*values.values()))
        _ptrace(_SETREGS, self._thread, ctypes.addressof(buffer))

    def _vectors(self) -> bytes:
        buffer = ctypes.create_string_buffer(_XSTATE_LIMIT)
        vector = IoVector(ctypes.addressof(buffer), _XSTATE_LIMIT)
        _ptrace(_GETREGSET, self._thread, ctypes.addressof(vector), _NT_X86_XSTATE)
        return buffer.raw[: vector.size]

    def _set_vectors(self, state: bytes) -> None:
        buffer = ctypes.create_string_buffer(state, len(state))
        vector = IoVector(ctypes.addressof(buffer), len(state))
        _ptrace(_SETREGSET, self._thread, ctypes.addressof(vector), _NT_X86_XSTATE)


@contextmanager
def borrow_thread(process: RemoteProcess) -> Iterator[Tracee]:
    """Stop a thread of *process* where functions can be called, and let it go on at the end.

    Raises:
        AttachError: none can be had.
    """
    for _ in range(_PATIENCE):
        for thread in _threads(process.pid):
            with suppress(ProcessLookupError):  # it has ended since
                tracee = Tracee(process, thread)
                if tracee.is_safe():
                    try:
                        yield tracee
                    finally:
                        tracee.release()
                    return
                tracee.release()
        time.sleep(0.005)
    raise AttachError(
        f"no thread of process {process.pid} could be stopped outside the C library, where it may "
        "hold a lock"
    )


def _threads(pid: int) -> list[int]:
    try:
        return sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except FileNotFoundError:
        raise AttachError(f"process {pid} has ended") from None


def _ptrace(request: int, thread: int, data: int, address: int = 0) -> None:
    syscall(_SYS_PTRACE, request, thread, address, data)
