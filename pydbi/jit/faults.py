"""From a fault in the cache to the exception that names the app instruction."""

from __future__ import annotations

from array import array
from signal import SIGSEGV
from typing import TYPE_CHECKING

from pydbi.errors import CacheError, GuestFault
from pydbi.host.late import load
from pydbi.host.memory import is_below_stack
from pydbi.jit.app_memory import LONGEST_INSTRUCTION
from pydbi.jit.block import Block
from pydbi.jit.context import (
    GPR_NAMES,
    GPR_OFFSET,
    NATIVE_STACK_ENTRIES,
    NATIVE_STACK_OFFSET,
    SLOT,
)
from pydbi.jit.guest import Guest
from pydbi.types import AnalysisType
from pydbi.x86.instruction import TRUNCATED, decode

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

_FAULT_PC, _RIP = SLOT["FAULT_PC"] >> 3, GPR_OFFSET["rip"] >> 3
_FAULT_SIGNAL, _FAULT_CODE = SLOT["FAULT_SIGNAL"] >> 3, SLOT["FAULT_CODE"] >> 3
_FAULT_ADDRESS = SLOT["FAULT_ADDRESS"] >> 3
_WORD = (1 << 64) - 1
_SI_KERNEL = 128


def resting_at(block: Block, cache_address: int) -> list[tuple[int, int]]:
    """Return the registers of the guest that are not in their place there.

    Returns:
        (register, slot): it rests in that slot. (register, -slot): the slot's value is added to it.
    """
    offset = cache_address - block.code
    return [
        (register, slot) for first, last, register, slot in block.scratch if first <= offset < last
    ]


def give_back(guest: Guest, resting: list[tuple[int, int]], app: int, go_on: int) -> None:
    """Put *resting*, which `resting_at` has found, where they belong; rip is *app* then.

    A signal handler of Python's may raise anywhere, and the same be tried again. So all of it is
    one store, after which the guest counts as stopped at the cache address *go_on*.
    """
    words = guest.words
    values = array("Q", words[: _FAULT_PC + 1])
    for register, slot in resting:
        value = words[abs(slot) >> 3]
        values[register] = value if slot > 0 else values[register] - value & _WORD
    values[_RIP] = app
    values[_FAULT_PC] = go_on
    words[: _FAULT_PC + 1] = memoryview(values)


def settle_fault(engine: Engine) -> tuple[int, int, int]:
    """Make the guest's state exact after the fault that the handler stub has recorded.

    It may be called again, for an exception may come between.

    Returns:
        signal, si_code and si_addr as they are natively.
    """
    words = engine.guest.words
    pc = words[_FAULT_PC]
    block = engine.cache.block_of(pc)
    if block is not None:
        app = block.app_of(pc)
        if words[_FAULT_ADDRESS] == pc:  # the instruction's own, as SIGILL and SIGFPE report it
            words[_FAULT_ADDRESS] = app
        give_back(engine.guest, resting_at(block, pc), app, 0)
    return words[_FAULT_SIGNAL], words[_FAULT_CODE], words[_FAULT_ADDRESS]


def leave_record(engine: Engine) -> tuple[int, int] | None:
    """Go on behind code that records an access if the fault that has come is its own.

    The processor shall find for itself what is wrong with the instruction: another operand, or the
    opcode. What could not be read is unknown until then.

    Returns:
        The app address of the instruction and the cache address to go on at; None if the fault is
        not one of code for records.
    """
    words, cache = engine.guest.words, engine.cache
    pc = words[_FAULT_PC]
    block = cache.block_of(pc)
    if block is None:
        return None
    app = block.app_of(pc)
    for first, last, plan in cache.loads.get(app, ()):
        if first <= pc < last:
            load("pydbi.jit.record_views")
            from pydbi.jit.record_views import tell_unread
            from pydbi.jit.recording import forget_values

            give_back(engine.guest, resting_at(block, pc), app, 0)
            forget_values(plan, words)
            for gate, view in cache.gate_records.items():
                if view.plan is plan:
                    cache.instruction_readers[gate] = tell_unread(view.of_instruction())
                    cache.sequence_readers[gate] = tell_unread(view.of_sequence())
            return app, last
    return None


def guest_fault(engine: Engine) -> GuestFault:
    """Return the fault that the handler stub has recorded, and make the guest's state exact."""
    signal, si_code, address = settle_fault(engine)
    app = engine.guest.words[_RIP]
    code = engine.memory.read_data(app, LONGEST_INSTRUCTION) or b""
    instruction = decode(code, 0) if code else TRUNCATED
    if not isinstance(instruction, int):
        code = instruction.code
    details = _describe(engine, address if signal == SIGSEGV else 0)
    if isinstance(instruction, int):
        return GuestFault(signal, si_code, app, address, code, details)
    kinds = AnalysisType.ANALYSIS_INSTRUCTION | AnalysisType.ANALYSIS_DISASSEMBLY
    analysis = engine.inspector.analysis(app, kinds)
    try:
        text = f":\n{analysis.disassembly.strip()}"
    except ImportError:  # there is no Capstone
        text = ""
    fault = GuestFault(signal, si_code, app, address, code, f"{text}{details}")
    fault.instruction = analysis
    return fault


def stack_fault(engine: Engine, address: int) -> GuestFault:
    """Return the fault of a guest whose stack at *address* cannot hold, or give, a signal frame."""
    app = engine.guest.gpr.rip
    code = engine.memory.read_data(app, LONGEST_INSTRUCTION) or b""
    details = "\nthere is no signal frame at its stack" + _describe(engine, address)
    return GuestFault(SIGSEGV, _SI_KERNEL, app, address, code, details)


def _describe(engine: Engine, accessed: int) -> str:
    """Return lines for the message of a fault: the registers, and whether a stack is exhausted."""
    gpr = engine.guest.gpr
    shown = [f"{name}={getattr(gpr, name):#x}" for name in GPR_NAMES]
    lines = [" ".join(shown[first : first + 6]) for first in range(0, len(shown), 6)]
    if is_below_stack(accessed):
        lines.insert(0, "the stack is exhausted: this is in the gap below it")
    return "".join(f"\n{line}" for line in lines)


def drop_abandoned_excursions(guest: Guest) -> None:
    """Forget native excursions that a longjmp has left.

    Raises:
        CacheError: there are none: native code and guest call each other too deeply.
    """
    words = guest.words
    base = NATIVE_STACK_OFFSET >> 3
    entries = [(words[base + 2 * i], words[base + 2 * i + 1]) for i in range(NATIVE_STACK_ENTRIES)]
    rsp = guest.gpr.rsp
    alive = [(address, place) for address, place in entries if place > rsp]
    if len(alive) == len(entries):
        raise CacheError(
            f"{NATIVE_STACK_ENTRIES} native calls are under way inside one another",
            app_address=words[SLOT["NATIVE_TARGET"] >> 3],
        )
    for index, (address, place) in enumerate(alive):
        words[base + 2 * index], words[base + 2 * index + 1] = address, place
    words[SLOT["NATIVE_DEPTH"] >> 3] = len(alive)
