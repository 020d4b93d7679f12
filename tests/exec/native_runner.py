"""Runs a snippet on the CPU itself: the oracle that every engine is compared with."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
from pathlib import Path

from tests.exec.gnu_as import assemble
from tests.exec.machine_state import BLOCK_SIZE, GPR_NAMES, State, from_block, to_block

_TARGET, _STOP, _TRACE, _COUNT, _LIMIT = (32 + 8 * index for index in range(5))
_RUN, _CLOBBER, _ON_TRAP, _FINISH = 0, 8, 16, 24
_STEP = struct.Struct("<18Q")
# Order of gregs in glibc's <sys/ucontext.h>.
_UCONTEXT_NAMES = (
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip", "eflags",
)  # fmt: skip
TRACE_NAMES = (*GPR_NAMES, "rip", "eflags")
_ORDER = tuple(_UCONTEXT_NAMES.index(name) for name in TRACE_NAMES)
_SA_SIGINFO, _SA_ONSTACK = 4, 0x08000000
_MAX_STEPS = 1 << 15
_ALTERNATE_STACK_SIZE = 1 << 16

Step = tuple[int, ...]
"""The values of TRACE_NAMES before one instruction."""

_libc = ctypes.CDLL(None, use_errno=True)


class _SignalAction(ctypes.Structure):
    """struct sigaction of glibc."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


class _StackDescription(ctypes.Structure):
    """stack_t."""

    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def cpu_flags() -> frozenset[str]:
    """The kernel's names of what the CPU has and the kernel lets programs use."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def vector_level() -> int:
    """1 for AVX, 2 for AVX-512 (with the byte and word instructions, for 64-bit opmasks)."""
    return 2 if {"avx512f", "avx512bw"} <= cpu_flags() else 1


class NativeRunner:
    """The assembled blob and the memory it lies in."""

    def __init__(self) -> None:
        self.vector = vector_level()
        source = Path(__file__).with_name("native_runner.S").read_text()
        blob = assemble(source, "--defsym", f"VECTOR={self.vector}")
        self._pages = mmap.mmap(
            -1, len(blob), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        )
        self._pages[: len(blob)] = blob
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        self._in = len(blob) - 2 * BLOCK_SIZE
        self._out = len(blob) - BLOCK_SIZE
        self._trace = ctypes.create_string_buffer(_STEP.size * _MAX_STEPS)
        self._stack = ctypes.create_string_buffer(_ALTERNATE_STACK_SIZE)
        # PYFUNCTYPE: a call keeps the interpreter lock, and does not touch errno.
        self._run = ctypes.PYFUNCTYPE(None)(self.base + _RUN)
        self.clobber = ctypes.PYFUNCTYPE(None)(self.base + _CLOBBER)
        self.finish_address = self.base + _FINISH
        """What follows a snippet must jump here."""
        struct.pack_into("<Q", self._pages, _TRACE, ctypes.addressof(self._trace))
        struct.pack_into("<Q", self._pages, _LIMIT, _MAX_STEPS)

    def run(self, start: int, stop: int, state: State) -> State:
        """Run from *start* until *stop*, where a jump to `finish_address` stands."""
        struct.pack_into("<QQ", self._pages, _TARGET, start, stop)
        self._pages[self._in : self._in + BLOCK_SIZE] = to_block(state)
        # An engine's signals must not come where it takes the GS base for its own.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, range(signal.SIGRTMIN, signal.SIGRTMAX + 1))
        self._run()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return from_block(self._pages[self._out : self._out + BLOCK_SIZE], state)

    def trace(self, start: int, stop: int, state: State) -> list[Step]:
        """Single-step the same, and return the registers before each instruction in the snippet.

        A REP instruction counts once for each iteration.

        Raises:
            ValueError: there are too many steps.
        """
        struct.pack_into("<Q", self._pages, _COUNT, 0)
        action, old_action = _SignalAction(), _SignalAction()
        action.handler = self.base + _ON_TRAP
        action.flags = _SA_SIGINFO | _SA_ONSTACK
        stack, old_stack = _StackDescription(), _StackDescription()
        stack.sp, stack.size = ctypes.addressof(self._stack), _ALTERNATE_STACK_SIZE
        byref = ctypes.byref
        _check(_libc.sigaltstack(byref(stack), byref(old_stack)))
        _check(_libc.sigaction(signal.SIGTRAP, byref(action), byref(old_action)))
        try:
            self.run(start, stop, {**state, "eflags": state["eflags"] | 0x100})
        finally:
            _check(_libc.sigaction(signal.SIGTRAP, byref(old_action), None))
            _check(_libc.sigaltstack(byref(old_stack), None))
        (count,) = struct.unpack_from("<Q", self._pages, _COUNT)
        steps = []
        for index in range(count):
            values = _STEP.unpack_from(self._trace, index * _STEP.size)
            steps.append(tuple(values[at] for at in _ORDER))
        if count == _MAX_STEPS:
            raise ValueError(f"over {_MAX_STEPS} steps from {start:#x}")
        return steps


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
