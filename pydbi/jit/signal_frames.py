"""Signal frames: what the kernel puts on the stack for a handler, and `rt_sigreturn` takes back.

Layout: ``struct rt_sigframe``, ``struct ucontext`` and ``struct sigcontext`` of Linux (arch/x86),
the floating-point state behind them in the standard XSAVE format (SDM vol. 1, 13.4).
"""

from __future__ import annotations

import struct

from pydbi.host import cpu
from pydbi.jit.app_memory import AppMemory
from pydbi.jit.context import (
    EFLAGS_FIXED,
    EFLAGS_USER,
    FCW_DEFAULT,
    FPR_OFFSET,
    GPR_OFFSET,
    MXCSR_DEFAULT,
    OPMASK_OFFSET,
    SIGINFO_SIZE,
    ZMM_OFFSET,
)
from pydbi.jit.guest import AlternateStack, Guest
from pydbi.tuples import NamedTuple

UC_SIZE = 304
_FRAME_SIZE = 8 + UC_SIZE + SIGINFO_SIZE
"""Return address, ucontext, siginfo; behind it, at a multiple of 64, the floating-point state."""
_RED_ZONE = 128

_UC_FLAGS = 1 | 2 | 4  # UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
_SELECTORS = 0x33 | 0x2B << 48  # cs and ss of 64-bit user code
_REGISTERS = (
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip", "eflags",
)  # fmt: skip
_PLACES = tuple(GPR_OFFSET[name] >> 3 for name in _REGISTERS)
_UCONTEXT = struct.Struct("<QQ QQQ 18Q QQQQQQ 64x Q")
assert _UCONTEXT.size == UC_SIZE

_FXSAVE_SIZE, _XSTATE_HEADER = 512, 64
_MXCSR, _XMM, _RESERVED = 24, 160, 464
_MAGIC1, _MAGIC2 = 0x46505853, 0x46505845
_RESERVED_FORM = struct.Struct("<IIQI28x")
_LEGACY = 1 << cpu.X87 | 1 << cpu.SSE
_AVX512 = 1 << cpu.OPMASK | 1 << cpu.ZMM_HI256 | 1 << cpu.HI16_ZMM
_DIRECTION_FLAG = 0x400


class Fault(NamedTuple):
    """What a handler of a fault finds in its frame beside the siginfo."""

    error: int = 0
    trap: int = 0
    address: int = 0


class Frame(NamedTuple):
    """What a frame is made of."""

    signal: int
    info: bytes
    handler: int
    restorer: int
    mask: int
    """The signals that were blocked before."""
    stack: AlternateStack
    top: int
    """Where the stack begins, if that is not at the guest's rsp: an alternate stack."""
    fault: Fault


def push_frame(guest: Guest, memory: AppMemory, frame: Frame) -> bool:
    """Let the guest enter a handler; return whether there was room for the frame."""
    words = guest.words
    state = _pack_state(guest)
    state_at = (frame.top or words[GPR_OFFSET["rsp"] >> 3] - _RED_ZONE) - len(state) & -64
    base = (state_at - _FRAME_SIZE & -16) - 8
    content = (
        frame.restorer.to_bytes(8, "little")
        + _UCONTEXT.pack(
            _UC_FLAGS,
            0,
            frame.stack.sp,
            frame.stack.flags,
            frame.stack.size,
            *(words[place] for place in _PLACES),
            _SELECTORS,
            frame.fault.error,
            frame.fault.trap,
            frame.mask & 0xFFFFFFFF,
            frame.fault.address,
            state_at,
            frame.mask,
        )
        + frame.info
    )
    content += bytes(state_at - base - len(content)) + state
    if not 0 < base < 1 << 47 or not memory.write_data(base, content):
        return False
    gpr = guest.gpr
    gpr.rsp, gpr.rip, gpr.rax = base, frame.handler, 0
    gpr.rdi, gpr.rsi, gpr.rdx = frame.signal, base + 8 + UC_SIZE, base + 8
    gpr.eflags &= ~_DIRECTION_FLAG
    return True


def pop_frame(guest: Guest, memory: AppMemory) -> tuple[int, AlternateStack] | None:
    """Give the guest the registers of the frame whose ucontext rsp points to.

    Returns:
        The mask of blocked signals, and the alternate stack; None if the frame cannot be read.
    """
    words = guest.words
    content = memory.read_data(words[GPR_OFFSET["rsp"] >> 3], UC_SIZE)
    if content is None:
        return None
    _, _, sp, flags, size, *values, _, _, _, _, _, state_at, mask = _UCONTEXT.unpack(content)
    if state_at:
        state = memory.read_data(state_at, _FXSAVE_SIZE)
        if state is None:
            return None
        magic, extended_size, features, _ = _RESERVED_FORM.unpack_from(state, _RESERVED)
        if magic == _MAGIC1 and _FXSAVE_SIZE + _XSTATE_HEADER <= extended_size <= 8192:
            state = memory.read_data(state_at, extended_size - 4) or state
        _unpack_state(guest, state, features)
    else:
        guest.fpr.reset()
    for place, value in zip(_PLACES, values, strict=True):
        words[place] = value
    guest.gpr.eflags = guest.gpr.eflags & EFLAGS_USER | EFLAGS_FIXED
    guest.notice_state()
    return mask, AlternateStack(sp, flags, size)


# The floating-point state.


def _pack_state(guest: Guest) -> bytes:
    memory = guest.memory
    area = bytearray(memory[FPR_OFFSET : FPR_OFFSET + _FXSAVE_SIZE])
    for number in range(16):
        register = ZMM_OFFSET + number * 64
        area[_XMM + number * 16 : _XMM + number * 16 + 16] = memory[register : register + 16]
    features = _LEGACY
    if cpu.has_avx():
        features |= 1 << cpu.AVX
    if guest.uses_avx512:
        features |= _AVX512
    places = _extended(features)
    size = max([_FXSAVE_SIZE + _XSTATE_HEADER, *(end for _, end, _ in places)])
    _RESERVED_FORM.pack_into(area, _RESERVED, _MAGIC1, size + 4, features, size)
    area += features.to_bytes(8, "little")
    area += bytes(size - len(area))
    for start, end, parts in places:
        area[start:end] = b"".join(memory[first : first + length] for first, length in parts)
    return bytes(area) + _MAGIC2.to_bytes(4, "little")


def _unpack_state(guest: Guest, state: bytes, known: int) -> None:
    """Load the state; components that the frame has room for but does not fill are reset."""
    memory = guest.memory
    features, known = (_LEGACY, _LEGACY | known) if len(state) == _FXSAVE_SIZE else (
        int.from_bytes(state[_FXSAVE_SIZE : _FXSAVE_SIZE + 8], "little"), known
    )  # fmt: skip
    mxcsr = state[_MXCSR : _MXCSR + 4]
    if features & 1 << cpu.X87:
        memory[FPR_OFFSET : FPR_OFFSET + _XMM] = state[:_XMM]
    else:
        memory[FPR_OFFSET : FPR_OFFSET + _XMM] = bytes(_XMM)
        memory[FPR_OFFSET : FPR_OFFSET + 2] = FCW_DEFAULT.to_bytes(2, "little")
    if not features & (1 << cpu.SSE | 1 << cpu.AVX):
        mxcsr = MXCSR_DEFAULT.to_bytes(4, "little")
    memory[FPR_OFFSET + _MXCSR : FPR_OFFSET + _MXCSR + 4] = mxcsr
    for number in range(16):
        register = ZMM_OFFSET + number * 64
        value = state[_XMM + number * 16 : _XMM + number * 16 + 16]
        memory[register : register + 16] = value if features & 1 << cpu.SSE else bytes(16)
    for start, end, parts in _extended(known & ~_LEGACY):
        value = state[start:end] if _feature_at(start) & features else bytes(end - start)
        for first, length in parts:
            memory[first : first + length] = value[:length]
            value = value[length:]


def _extended(features: int) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """Return (start, end) in an XSAVE area, and the places in a context, of each component."""
    parts = {
        cpu.AVX: [(ZMM_OFFSET + number * 64 + 16, 16) for number in range(16)],
        cpu.OPMASK: [(OPMASK_OFFSET, 64)],
        cpu.ZMM_HI256: [(ZMM_OFFSET + number * 64 + 32, 32) for number in range(16)],
        cpu.HI16_ZMM: [(ZMM_OFFSET + 16 * 64, 16 * 64)],
    }
    components = cpu.cpu().components
    return [
        (components[number].offset, components[number].offset + components[number].size, places)
        for number, places in parts.items()
        if features >> number & 1 and number in components
    ]


def _feature_at(offset: int) -> int:
    """Return the bit of the component at *offset* of an XSAVE area."""
    return next(1 << n for n, place in cpu.cpu().components.items() if place.offset == offset)
