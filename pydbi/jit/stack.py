"""Virtual stacks, and the guest's state as if a function had just been called."""

from __future__ import annotations

from collections.abc import Collection

from pydbi.enums.integers import unsigned
from pydbi.host.memory import map_stack, writeMemory
from pydbi.jit.states import GPRState

ARGUMENT_REGISTERS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
"""Integer arguments in order (System V ABI, 3.2.3)."""
FRAME_WORDS = 16
"""What `simulateCall` leaves above the return address at least, as PyQBDI does: 16 words."""
FRAME_SIZE = FRAME_WORDS * 8


def allocateVirtualStack(gprstate: GPRState, size: int) -> int | None:
    """Allocate a stack of *size* bytes and let rsp and rbp point to its end.

    Below it lies a gap: what runs over its end is a GuestFault.

    Returns:
        Its lowest address, for `alignedFree`; None if there is no memory.
    """
    _check_state(gprstate)
    size = unsigned(size, "size", 32)
    try:
        base = map_stack(size)
    except OSError:
        return None
    gprstate.rsp = gprstate.rbp = base + size
    return base


def simulateCall(ctx: GPRState, returnAddress: int, args: Collection[int] = ()) -> None:
    """Set registers and stack as if a function had just been called.

    Lowers rsp by 0x88, writes *returnAddress* there, and passes *args* as the System V ABI does
    integers: six in registers, the others from rsp + 8 on.

    Raises:
        GuestMemoryError: the stack is not writable.
        TypeError: a value is no unsigned 64-bit integer.
    """
    _check_state(ctx)
    if isinstance(args, (str, bytes)) or not isinstance(args, Collection):
        raise TypeError(f"arguments are a sequence of integers, not {args!r}")
    target = unsigned(returnAddress, "return address")
    values = [unsigned(value, "argument") for value in args]
    beyond = values[len(ARGUMENT_REGISTERS) :]
    frame = max(FRAME_WORDS, len(beyond) + len(beyond) % 2)
    rsp = ctx.rsp - frame * 8 - 8
    writeMemory(rsp, b"".join(word.to_bytes(8, "little") for word in (target, *beyond)))
    ctx.rsp = rsp
    for name, value in zip(ARGUMENT_REGISTERS, values, strict=False):
        setattr(ctx, name, value)


def _check_state(state: GPRState) -> None:
    if not isinstance(state, GPRState):
        raise TypeError(f"a GPRState is due, not {state!r}")
