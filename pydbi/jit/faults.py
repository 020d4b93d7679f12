"""From a fault in the cache to the exception that names the app instruction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydbi.errors import CacheError, GuestFault
from pydbi.jit.app_memory import LONGEST_INSTRUCTION
from pydbi.jit.context import NATIVE_STACK_ENTRIES, NATIVE_STACK_OFFSET, SLOT
from pydbi.jit.guest import Guest
from pydbi.x86.instruction import TRUNCATED, decode

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine


def guest_fault(engine: Engine) -> GuestFault:
    """Return the fault that the handler stub has recorded, and make the guest's state exact."""
    words = engine.guest.words
    pc = words[SLOT["FAULT_PC"] >> 3]
    block = engine.cache.block_of(pc)
    app = engine.guest.gpr.rip
    if block is not None:
        app = block.app_of(pc)
        offset = pc - block.code
        for first, last, register, slot in block.scratch:
            if first <= offset < last:
                engine.guest.gpr[register] = words[slot >> 3]
    engine.guest.gpr.rip = app
    code = engine.memory.read_data(app, LONGEST_INSTRUCTION) or b""
    instruction = decode(code, 0) if code else TRUNCATED
    if not isinstance(instruction, int):
        code = instruction.code
    signal, si_code, address = (
        words[SLOT[name] >> 3] for name in ("FAULT_SIGNAL", "FAULT_CODE", "FAULT_ADDRESS")
    )
    if address == pc:  # the instruction's own address, as SIGILL and SIGFPE report it
        address = app
    return GuestFault(signal, si_code, app, address, code)


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
