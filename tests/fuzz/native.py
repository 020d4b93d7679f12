"""The oracle: a process with nothing but the guest's memory in it, single-stepped through ptrace.

The process is a small ELF file made here, whose segments are the areas of `layout`. It has no
descriptors, no libraries and no thread pointer, and puts itself under seccomp's strict mode before
the first case. So whatever the random code does, it does to itself.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
from dataclasses import dataclass, field

from tests.exec.gnu_as import PREAMBLE, assemble
from tests.exec.machine_state import GPR_NAMES, State
from tests.fuzz import layout
from tests.fuzz.explained import cut_reason
from tests.fuzz.layout import AREA_SIZE, AREAS, DATA, PAGE, STACK, slot_address
from tests.fuzz.xstate import Converter
from tests.lockstep.tracer import (
    EFLAGS,
    REGISTERS,
    RIP,
    RSP,
    SignalInfo,
    Tracee,
    TraceeDiedError,
    instruction_bytes,
    trace_me,
)

STEP_LIMIT = 300
LONGEST = 15
"""Bytes of the longest instruction."""
NOWHERE = 0xDEAD000000000000
"""An address that nothing can be at: it is not canonical."""
_IDENTIFICATION = 0x200000
_PUSHF, _POPF = 0x9C, 0x9D
_TRAPS = (b"\xcc", b"\xf1", b"\xcd\x03", b"\xcd\x04")
"""The instructions whose signal shows rip behind them."""
# prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), then stop.
_ENTRY = PREAMBLE + "mov eax, 157; mov edi, 22; mov esi, 1; syscall; int3"


@dataclass
class Outcome:
    """How a case ended, and the state it left."""

    state: State
    """With ``rip``; without it after a trap, whose rip is behind the instruction."""
    memory: tuple[bytes, ...]
    """The data area, the stack and the case's own page."""
    stop: int = 0
    """Where it was stopped; 0 if a signal ended it."""
    reason: str = ""
    """Why it was stopped."""
    signal: SignalInfo | None = None
    at: int = 0
    """The address of the instruction that raised the signal."""
    bare: bytes = b""
    """That instruction without prefixes, and what follows."""
    steps: int = 0
    visited: dict[int, int] = field(default_factory=dict)
    """After how many steps each address was first reached."""


def _elf() -> bytes:
    """An executable whose segments are the areas (ELF-64 specification, chapters 2 and 3)."""
    entry = assemble(_ENTRY)
    headers, at = b"", PAGE
    for address, size, protection in AREAS:
        flags = protection >> 2 & 1 | protection & 2 | (protection & 1) << 2  # PF_X, PF_W, PF_R
        headers += struct.pack("<IIQQQQQQ", 1, flags, at, address, address, size, size, PAGE)
        at += size
    headers += struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # PT_GNU_STACK, not X
    count = len(AREAS) + 1
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    fields = (2, 62, 1, layout.CODE, 64, 0, 0, 64, 56, count, 0, 0, 0)
    header = ident + struct.pack("<HHIQQQIHHHHHH", *fields)
    return (header + headers).ljust(PAGE, b"\0") + entry.ljust(at - PAGE, b"\0")


class NativeProcess:
    """Runs cases; a new process takes the place of one that died."""

    def __init__(self, vector: int) -> None:
        self._convert = Converter(vector)
        self._program = os.memfd_create("guest", os.MFD_CLOEXEC)
        os.write(self._program, _elf())
        self._code = (b"", b"")
        self._tracee = self._start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._tracee.pid

    def close(self) -> None:
        """Kill the process."""
        self._tracee.close()

    def _start(self) -> Tracee:
        pid = os.fork()
        if pid == 0:
            try:
                limits = ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0))
                for number, limit in limits:
                    resource.setrlimit(number, (limit, limit))
                os.set_inheritable(self._program, False)
                path = f"/proc/self/fd/{self._program}"
                os.closerange(0, self._program)
                os.closerange(self._program + 1, 1 << 20)
                trace_me()
                os.execve(path, ["guest"], {})
            finally:
                os._exit(1)
        tracee = Tracee(pid)
        if tracee.resume() != signal.SIGTRAP or tracee.registers[REGISTERS.index("rax")] != 0:
            raise OSError("the guest process could not be put under seccomp")
        self._fresh = tracee.registers
        return tracee

    def load(self, code: bytes, changing: bytes) -> None:
        """Put the code of a batch in."""
        self._code = code, changing
        self._tracee.write(layout.CODE, code)
        self._tracee.write(layout.CHANGING, changing)

    def run(
        self, slot: int, start: int, state: State, memory: tuple[bytes, bytes], stop: int = NOWHERE
    ) -> Outcome:
        """Run from *start* until a signal, what must not be executed, or too many steps.

        Args:
            slot: the one whose page belongs to the case.
            memory: what data area and stack contain.
            stop: an address to stop at.

        Raises:
            TraceeDiedError: the process is no more; there is a new one for the next case.
        """
        try:
            outcome = self._run(slot, start, state, memory, stop, STEP_LIMIT)
            if (
                outcome.reason == "limit" and outcome.stop != stop
            ):  # the last new place is reached by one way only
                last = max(outcome.visited, key=outcome.visited.__getitem__)
                limit = outcome.visited[last]
                outcome = self._run(slot, start, state, memory, last, limit)
                outcome.reason, outcome.stop = "limit", last
        except TraceeDiedError:
            self._tracee.close()
            self._tracee = self._start()
            self.load(*self._code)
            raise
        return outcome

    def _prepare(self, slot: int, start: int, state: State, memory: tuple[bytes, bytes]) -> None:
        tracee = self._tracee
        if tracee.registers[EFLAGS] & _IDENTIFICATION:
            self._clear_identification(start)
        tracee.write(DATA, memory[0])
        tracee.write(STACK, memory[1])
        if slot_address(slot) >= layout.CHANGING:
            tracee.write(layout.CHANGING, self._code[1])
        values = dict(zip(REGISTERS, self._fresh, strict=True))
        values.update((name, state[name]) for name in (*GPR_NAMES, "eflags"))
        values.update(rip=start, fs_base=state["fs"], gs_base=state["gs"])
        values["orig_rax"] = (1 << 64) - 1  # no system call is to be restarted
        tracee.registers = tuple(values[name] for name in REGISTERS)
        tracee.area = self._convert.to_area(state)

    def _clear_identification(self, at: int) -> None:
        """Clear the ID flag, which ptrace can read but not set: by a POPF in the place of *at*."""
        tracee = self._tracee
        before = tracee.read(at, 1)
        tracee.write(at, bytes([_POPF]))
        tracee.write(STACK, (0x202).to_bytes(8, "little"))
        values = list(self._fresh)
        values[RIP], values[RSP], values[REGISTERS.index("orig_rax")] = at, STACK, (1 << 64) - 1
        tracee.registers = tuple(values)
        tracee.step()
        tracee.write(at, before)

    def _run(
        self,
        slot: int,
        start: int,
        state: State,
        memory: tuple[bytes, bytes],
        stop: int,
        limit: int,
    ) -> Outcome:
        self._prepare(slot, start, state, memory)
        tracee = self._tracee
        visited: dict[int, int] = {}
        page = slot_address(slot)
        fixed = self._code[0][page - layout.CODE :][:PAGE] if page < layout.CHANGING else None
        registers = tracee.registers
        for count in range(limit + 1):
            rip = registers[RIP]
            visited.setdefault(rip, count)
            if fixed is not None and 0 <= rip - page < PAGE - LONGEST:
                code = fixed[rip - page : rip - page + LONGEST]
            else:
                code = tracee.read(rip, LONGEST)
            bare = instruction_bytes(code)
            reason = "stop" if rip == stop else cut_reason(code, bare)
            if bare[:1] == bytes([_POPF]) and self._sets_trap_flag(registers):
                reason = "popf"
            repeated = bool(reason) and rip != stop and visited[rip] != count
            if repeated or (count == limit and not reason):
                reason = "limit"  # an engine would stop at the first visit
            if reason:
                outcome = self._outcome(registers, page, count, visited)
                outcome.stop, outcome.reason = rip, reason
                return outcome
            number = tracee.step()
            registers = tracee.registers
            if number != signal.SIGTRAP or bare.startswith(_TRAPS):
                outcome = self._outcome(registers, page, count, visited)
                outcome.signal, outcome.at, outcome.bare = tracee.signal_info(), rip, bare
                if bare.startswith(_TRAPS):
                    del outcome.state["rip"]
                return outcome
            if fixed is None and registers[RIP] == rip and tracee.read(rip, LONGEST) != code:
                outcome = self._outcome(registers, page, count, visited)
                outcome.stop, outcome.reason = start, "rep on itself"
                return outcome
            if bare[:1] == bytes([_PUSHF]):
                tracee.hide_trap_flag()
        raise AssertionError("not reached")

    def _sets_trap_flag(self, registers: tuple[int, ...]) -> bool:
        second = self._tracee.read(registers[RSP] + 1, 1)
        return bool(second and second[0] & 1)

    def _outcome(
        self, registers: tuple[int, ...], page: int, count: int, visited: dict[int, int]
    ) -> Outcome:
        named = dict(zip(REGISTERS, registers, strict=True))
        state: State = {name: named[name] for name in (*GPR_NAMES, "rip")}
        state["eflags"] = registers[EFLAGS]
        state["fs"], state["gs"] = named["fs_base"], named["gs_base"]
        state.update(self._convert.from_area(self._tracee.area))
        places = ((DATA, AREA_SIZE), (STACK, AREA_SIZE), (page, PAGE))
        memory = tuple(self._tracee.read(*place) for place in places)
        return Outcome(state, memory, steps=count, visited=visited)
