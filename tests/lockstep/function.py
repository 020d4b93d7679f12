"""A function of a library as both sides of a lockstep: two forks of this process execute it."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import mmap
import os
import signal
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.exec.machine_state import GPR_NAMES
from tests.lockstep.compare import EFLAGS, NAMES, RIP, Step
from tests.lockstep.tracer import (
    REGISTERS,
    TRAP_FLAG,
    Tracee,
    TraceeDiedError,
    instruction_bytes,
    trace_me,
)

RETURN_ADDRESS = 42
"""Where the function returns to: nothing is there."""
_ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
_STACK_SIZE = 1 << 20
_RECORD = struct.Struct(f"<{len(NAMES)}Q256s")
_PUSHF = 0x9C
_SYSCALL = b"\x0f\x05"
_XMM = slice(160, 416)  # XMM0-15 in the XSAVE area (SDM volume 1, 10.5.1)
_RETURNED = "return"


@dataclass
class Call:
    """A function, its arguments, and which code is to be compared."""

    function: int
    arguments: Sequence[int]
    ranges: list[tuple[int, int]]
    vectors: bool = False
    """Compare xmm0-15 too."""
    most_steps: int = 1 << 40
    stack: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, _STACK_SIZE, mmap.MAP_PRIVATE))

    def start(self) -> dict[str, int]:
        """Return the general registers, rip and eflags at the first instruction."""
        top = ctypes.addressof(ctypes.c_char.from_buffer(self.stack)) + _STACK_SIZE - 0x1008
        struct.pack_into("<Q", self.stack, _STACK_SIZE - 0x1008, RETURN_ADDRESS)
        values = dict.fromkeys(GPR_NAMES, 0) | {"rsp": top, "rip": self.function}
        values |= dict(zip(_ARGUMENTS, self.arguments, strict=False))
        return values | {"eflags": 0x202}

    def covers(self, address: int) -> bool:
        """Whether an instruction there is to be compared."""
        return any(low <= address < high for low, high in self.ranges)


_placed: list[object] = []
"""Keeps what `place` has mapped."""


def place(data: bytes) -> int:
    """Return the address of a copy of *data* with zeros behind it, on pages of its own.

    So code that reads beyond it finds the same on both sides.
    """
    pages = mmap.mmap(-1, len(data) + mmap.PAGESIZE, mmap.MAP_PRIVATE)
    pages[: len(data)] = data
    first = ctypes.c_char.from_buffer(pages)
    _placed.append(first)
    return ctypes.addressof(first)


def module_ranges(address: int | None) -> list[tuple[int, int]]:
    """Return the executable mappings of the file that *address* is in; None: of all files."""
    files: dict[str, list[tuple[int, int]]] = {}
    wanted = None
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, permissions, _offset, _device, _inode, *name = line.split(None, 5)
        low, high = (int(part, 16) for part in place.split("-"))
        if name and name[0].startswith("/") and "x" in permissions:
            files.setdefault(name[0], []).append((low, high))
            if address is not None and low <= address < high:
                wanted = name[0]
    if address is None:
        return [span for spans in files.values() for span in spans]
    if wanted is None:
        raise ValueError(f"no executable file is mapped at {address:#x}")
    return files[wanted]


def _initial_area(size: int) -> bytes:
    """Return an XSAVE area with the vector and x87 registers that a program starts with."""
    area = bytearray(size)
    struct.pack_into("<H", area, 0, 0x37F)
    struct.pack_into("<I", area, 24, 0x1F80)
    struct.pack_into("<Q", area, 512, 3)  # x87 and SSE are in the area, all else is as at a start
    return bytes(area)


class NativeSide:
    """A fork of this process, single-stepped by ptrace."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.end = ""
        start = call.start()
        pid = os.fork()
        if pid == 0:
            trace_me()
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(1)
        self._tracee = Tracee(pid)
        now = dict(zip(REGISTERS, self._tracee.registers, strict=True))
        now |= start | {"orig_rax": (1 << 64) - 1}
        self._tracee.registers = tuple(now[name] for name in REGISTERS)
        self._tracee.area = _initial_area(len(self._tracee.area))
        self._order = tuple(REGISTERS.index(name) for name in NAMES)

    def read(self, address: int, size: int) -> bytes:
        """Return memory, or nothing if none is there."""
        return self._tracee.read(address, size)

    def close(self) -> None:
        """Kill the process."""
        self._tracee.close()

    def steps(self) -> Iterator[Step]:
        """Step to the return, and yield the state before each instruction in the ranges."""
        tracee, call = self._tracee, self._call
        for _ in range(call.most_steps):
            registers = tracee.registers
            values = [registers[at] for at in self._order]
            rip = values[RIP]
            if rip == RETURN_ADDRESS:
                self.end = _RETURNED
                return
            values[EFLAGS] &= ~TRAP_FLAG
            if call.covers(rip):
                yield Step(tuple(values), tracee.area[_XMM] if call.vectors else b"")
            bare = instruction_bytes(tracee.read(rip, 15))
            try:
                number = tracee.step()
            except TraceeDiedError as end:
                self.end = str(end)
                return
            if number != signal.SIGTRAP or bare[:1] == b"\xcc":
                self.end = f"{signal.Signals(number).name} at {rip:#x}"
                return
            self._hide_the_trap_flag(bare)

    def _hide_the_trap_flag(self, bare: bytes) -> None:
        """Stepping shows in what PUSHF pushes, and in R11 after a system call."""
        tracee = self._tracee
        if bare[:1] == bytes([_PUSHF]):
            tracee.hide_trap_flag()
        elif bare[:2] == _SYSCALL:
            registers = list(tracee.registers)
            registers[REGISTERS.index("r11")] &= ~TRAP_FLAG
            registers[REGISTERS.index("orig_rax")] = (1 << 64) - 1
            tracee.registers = tuple(registers)


class EngineSide:
    """A fork of this process that runs an engine, with a callback before each instruction."""

    def __init__(self, call: Call, engine: str = "pydbi") -> None:
        self._vectors = call.vectors
        self.end = ""
        reader, writer = os.pipe()
        start = call.start()
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            with contextlib.suppress(BaseException):
                os.close(reader)
                end = _run_engine(call, start, engine, writer)
                os.write(writer, b"E" + end.encode()[:400])
                status = 0
            os._exit(status)
        os.close(writer)
        self._pipe = os.fdopen(reader, "rb")

    def close(self) -> None:
        """Kill the process."""
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def steps(self) -> Iterator[Step]:
        """Yield what the callback saw."""
        while True:
            kind = self._pipe.read(1)
            if kind != b"S":
                break
            *values, vectors = _RECORD.unpack(self._pipe.read(_RECORD.size))
            yield Step(tuple(values), vectors if self._vectors else b"")
        self.end = self._pipe.read().decode(errors="replace")
        if not kind:
            status = os.waitpid(self._pid, 0)[1]
            self.end = f"the engine died with wait status {status:#x}"


def _run_engine(call: Call, start: dict[str, int], name: str, writer: int) -> str:
    """Run the function in this process, and return how it ended."""
    engine: Any = importlib.import_module(name)
    vm = engine.VM()
    for low, high in call.ranges:
        vm.addInstrumentedRange(low, high)
    gpr = vm.getGPRState()
    for register in (*GPR_NAMES, "eflags"):
        setattr(gpr, register, start[register])
    vm.setGPRState(gpr)
    go_on = engine.VMAction.CONTINUE
    xmm = [f"xmm{n}" for n in range(16)] if call.vectors else []

    def record(_vm: Any, gpr: Any, fpr: Any, _data: object) -> Any:
        values = [getattr(gpr, register) for register in NAMES]
        vectors = b"".join(getattr(fpr, register) for register in xmm)
        os.write(writer, b"S" + _RECORD.pack(*values, vectors))
        return go_on

    vm.addCodeCB(engine.InstPosition.PREINST, record, None)
    try:
        vm.run(call.function, RETURN_ADDRESS)
    except Exception as error:
        number = getattr(error, "signal", 0)
        if number:
            return f"{signal.Signals(number).name} at {error.app_address:#x}"  # type: ignore[attr-defined]
        return f"{type(error).__name__}: {error}"
    return _RETURNED


def address_of(library: str, function: str) -> int:
    """Return where a function of a shared library is; loads it.

    Raises:
        OSError: the library cannot be loaded.
        AttributeError: it has no such function.
    """
    found = ctypes.cast(getattr(ctypes.CDLL(library or None), function), ctypes.c_void_p).value
    assert found is not None
    return found


__all__ = ["Call", "EngineSide", "NativeSide", "address_of", "module_ranges", "place"]
