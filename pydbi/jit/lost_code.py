"""Code that a forked child has not got, since Python did not hear of the fork.

Where the cache is mapped twice its pages are a file's, which parent and child would share, so a
child gets none of them but from a fork that Python makes (`pydbi.host.code_memory`). The guest can
fork by libc's function, or by a system call of its own. Then the child's first translated
instruction faults, or it has none yet, and comes to the dispatcher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydbi.errors import CacheError
from pydbi.host.code_memory import is_lost
from pydbi.jit.app_memory import LONGEST_INSTRUCTION
from pydbi.jit.context import GPR_OFFSET, SLOT
from pydbi.jit.faults import give_back, resting_at
from pydbi.jit.syscalls import SYSCALL_SIZE
from pydbi.x86.instruction import decode
from pydbi.x86.traits import SYSCALL

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine

_FAULT_PC, _TARGET = SLOT["FAULT_PC"] >> 3, SLOT["TARGET"] >> 3
_SCRATCH_RCX, _RCX = SLOT["SCRATCH_RCX"] >> 3, GPR_OFFSET["rcx"] >> 3


def recover(engine: Engine) -> int:
    """If the fault that has come is due to such a fork, have all translated anew.

    Returns:
        The app address where the guest goes on; 0 if it is another fault.

    Raises:
        CacheError: where it was is not known.
    """
    if not _is_lost(engine):
        return 0
    app = _settle(engine, engine.guest.words[_FAULT_PC])
    replace_lost_code(engine)
    return app


def replace_lost_code(engine: Engine) -> None:
    """Map the cache anew if it is lost; to be called where the guest is not in it."""
    if _is_lost(engine):
        engine.cache.map_arenas(True)
        engine.invalidation.reset()


def _is_lost(engine: Engine) -> bool:
    arenas = engine.cache.arenas
    return bool(arenas) and is_lost(arenas[0].address)


def _settle(engine: Engine, code: int) -> int:
    """Make the guest's registers exact, and return the app address that it is at."""
    words = engine.guest.words
    if engine.lookup.get(words[_TARGET]) == code:  # a return, from fork
        words[_RCX] = words[_SCRATCH_RCX]
        return words[_TARGET]
    block = engine.cache.block_of(code)
    if block is None:
        raise CacheError("this process was forked in a way that Python does not know of")
    app = block.app_of(code)
    give_back(engine.guest, resting_at(block, code), app, 0)
    if block.code_of(app)[0] == code:
        return app
    instruction = decode(engine.memory.read_data(app, LONGEST_INSTRUCTION) or b"", 0)
    if isinstance(instruction, int) or not instruction.traits & SYSCALL:
        return app
    words[_RCX] = app + SYSCALL_SIZE  # fork was made in place, and is over
    return app + SYSCALL_SIZE
