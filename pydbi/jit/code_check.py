"""Code that may change: a block made of it compares its bytes each time it is entered.

That finds every change, whoever made it: the guest, the host, the kernel, or any of them through
another mapping of the same memory. A block of such code ends behind the first instruction that
writes memory, or compares what is left of it there, so that a change takes effect at the next
instruction, in the running block too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pydbi.host.late import load
from pydbi.jit.cache import EXIT_STALE
from pydbi.jit.context import SLOT
from pydbi.jit.stubs import stubs
from pydbi.x86.encoder import load_gs, move_immediate, store_gs
from pydbi.x86.registers import RAX, RCX

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft

_SLOT_0, _SLOT_1 = SLOT["SCRATCH_0"], SLOT["SCRATCH_1"]
_SAVE = store_gs(RAX, _SLOT_0) + b"\x9f\x0f\x90\xc0" + store_gs(RCX, _SLOT_1)  # lahf; seto al
_RESTORE = load_gs(RCX, _SLOT_1) + b"\x04\x7f\x9e" + load_gs(RAX, _SLOT_0)  # add al, 0x7f; sahf
_COMPARE = {4: b"\x81\xb9", 2: b"\x66\x81\xb9", 1: b"\x80\xb9"}
"""cmp [rcx + displacement], immediate; by size."""
_JNE = b"\x0f\x85"
_EXIT = stubs().template("exit")


def emit_check(draft: Draft, end: int, offset: int = 0) -> None:
    """Emit what compares the block's bytes from *offset* to *end*, and leaves if they differ."""
    out = draft.out
    code = draft.code[offset:end]
    index = draft.take_exits(1)
    draft.exits[index] = (draft.app + offset, EXIT_STALE)
    first = len(out)
    out += _SAVE + move_immediate(RCX, draft.app + offset)
    jumps = []
    place = 0
    while place < len(code):
        at = draft.app + offset + place  # aligned, for the guest may have set AC
        size = next(size for size in (4, 2, 1) if size <= len(code) - place and not at % size)
        out += _COMPARE[size] + place.to_bytes(4, "little") + code[place : place + size]
        out += _JNE + bytes(4)
        jumps.append(len(out))
        place += size
    out += _RESTORE
    stale = _RESTORE + _EXIT.filled("index", index.to_bytes(4, "little"))
    out += b"\xeb" + bytes((len(stale),))  # jmp short, over what follows
    for jump in jumps:
        out[jump - 4 : jump] = (len(out) - jump).to_bytes(4, "little")
    draft.rests(first, len(out), RAX, _SLOT_0)
    draft.rests(first + len(_SAVE), len(out), RCX, _SLOT_1)
    out += stale
    draft.shift(offset)


def behind_writes(starts: Sequence[int], code: bytes) -> list[int]:
    """Return the offsets of a block's instructions that follow one that writes memory."""
    load("pydbi.x86.accesses")
    from pydbi.x86.accesses import accesses_of

    return [
        stop
        for start, stop in pairwise(starts)
        if any(access.is_write for access in accesses_of(code[start:stop]))
    ]
