"""The whole user-visible processor state as one value: made at random, set, read, compared.

A state is a mapping from register name to an integer or bytes. The block that native_runner.S loads
and stores, and an engine's GPRState and FPRState, are two other forms of it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from typing import Any

GPR_NAMES = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rbp", "rsp",
)  # fmt: skip
STATUS_FLAGS = {"CF": 0x1, "PF": 0x4, "AF": 0x10, "ZF": 0x40, "SF": 0x80, "DF": 0x400, "OF": 0x800}
FLAGS_COMPARED = 0x240CD5
"""The status flags, DF, and ID and AC, which a program can set too."""

BLOCK_SIZE = 0x1000
EFLAGS, FXSAVE, ZMM, OPMASK = 0x88, 0x400, 0x600, 0xE00

State = dict[str, Any]

# Bit patterns that arithmetic treats specially, as doubles; repeated halves do for floats.
_SPECIAL_WORDS = (
    0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
    0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF, 0x0101010101010101,
    0x3FF0000000000000, 0xBFF0000000000000, 0x7FF0000000000000, 0x7FF8000000000000,
    0x7FF0000000000001, 0x000FFFFFFFFFFFFF, 0x3F8000003F800000, 0x7F8000007F800001,
    0x007FFFFF80000000, 0x4049000042280000, 0xC0590000C2C80000,
)  # fmt: skip


def random_word(rng: random.Random) -> int:
    """A 64-bit pattern: often a special one, sometimes small, else random."""
    kind = rng.randrange(8)
    if kind < 2:
        return rng.choice(_SPECIAL_WORDS)
    if kind == 2:
        return rng.getrandbits(64) >> rng.randrange(64)
    if kind == 3:  # an ordinary double or two ordinary floats
        if rng.random() < 0.5:
            return int(struct.unpack("<Q", struct.pack("<d", rng.uniform(-1000, 1000)))[0])
        pair = struct.pack("<ff", rng.uniform(-100, 100), rng.uniform(-1e6, 1e6))
        return int(struct.unpack("<Q", pair)[0])
    return rng.getrandbits(64)


def random_bytes(rng: random.Random, size: int) -> bytes:
    """*size* (a multiple of 8) bytes of such patterns."""
    return struct.pack(f"<{size // 8}Q", *(random_word(rng) for _ in range(size // 8)))


def _random_extended(rng: random.Random) -> bytes:
    """An 80-bit value: mostly valid ones, also NaN, infinity, zero, denormal and MMX's."""
    sign = rng.getrandbits(1) << 15
    kind = rng.randrange(10)
    if kind == 0:
        exponent, mantissa = 0, rng.getrandbits(63) * rng.getrandbits(1)
    elif kind == 1:
        exponent, mantissa = 0x7FFF, 1 << 63 | rng.getrandbits(62) * rng.getrandbits(1)
    elif kind == 2:
        exponent, mantissa = 0x7FFF, random_word(rng)
    else:
        exponent, mantissa = rng.randrange(0x3FE0, 0x4020), 1 << 63 | rng.getrandbits(63)
    return struct.pack("<QH", mantissa, sign | exponent)


def random_state(rng: random.Random, fixed: Mapping[str, int], *, vector: int) -> State:
    """A random state in which no floating-point exception is unmasked.

    Args:
        fixed: registers with a meaning (pointers, rsp).
        vector: 1 for ymm0-15, 2 for zmm0-31 and k0-7.
    """
    state: State = {name: random_word(rng) for name in GPR_NAMES}
    state.update(fixed)
    state["eflags"] = 0x202 | rng.getrandbits(12) & 0x8D5
    # 0x1F80: all exceptions masked; rounding, flush-to-zero, denormals-are-zero and flags random.
    state["mxcsr"] = 0x1F80 | rng.getrandbits(6) | rng.choice((0, 0, rng.getrandbits(16) & 0xE040))
    state["rfcw"] = 0x37F if rng.random() < 0.5 else 0x7F | rng.choice((0, 2, 3)) << 8
    state["rfcw"] |= rng.choice((0, 0, rng.getrandbits(2) << 10))
    state["rfsw"] = rng.getrandbits(16) & 0x7F7F  # no ES and B: they follow the exception flags
    state["ftw"] = rng.choice((0, 0, 0xFF, rng.getrandbits(8)))
    for index in range(8):
        state[f"stmm{index}"] = _random_extended(rng)
    name, count = ("zmm", 32) if vector == 2 else ("ymm", 16)
    for index in range(count):
        state[f"{name}{index}"] = random_bytes(rng, 64 if vector == 2 else 32)
    if vector == 2:
        for index in range(8):
            state[f"k{index}"] = random_word(rng)
    return state


def to_block(state: State) -> bytes:
    """The form native_runner.S loads."""
    block = bytearray(BLOCK_SIZE)
    struct.pack_into("<16Q", block, 0, *(state[name] for name in GPR_NAMES))
    struct.pack_into("<Q", block, EFLAGS, state["eflags"])
    struct.pack_into("<HHB", block, FXSAVE, state["rfcw"], state["rfsw"], state["ftw"])
    struct.pack_into("<I", block, FXSAVE + 24, state["mxcsr"])
    for index in range(8):
        at = FXSAVE + 32 + 16 * index
        block[at : at + 10] = state[f"stmm{index}"]
    for name, at, size in _vector_places(state):
        block[at : at + size] = state[name]
    for index in range(8 if "k0" in state else 0):
        struct.pack_into("<Q", block, OPMASK + 8 * index, state[f"k{index}"])
    return bytes(block)


def from_block(block: bytes, like: State) -> State:
    """The state in a block that native_runner.S stored, with the registers that *like* has."""
    state: State = dict(zip(GPR_NAMES, struct.unpack_from("<16Q", block), strict=True))
    state["eflags"] = struct.unpack_from("<Q", block, EFLAGS)[0]
    state["mxcsr"] = struct.unpack_from("<I", block, FXSAVE + 24)[0]
    state["rfcw"], state["rfsw"], state["ftw"] = struct.unpack_from("<HHB", block, FXSAVE)
    for index in range(8):
        at = FXSAVE + 32 + 16 * index
        state[f"stmm{index}"] = block[at : at + 10]
    for name, at, size in _vector_places(like):
        state[name] = block[at : at + size]
    for index in range(8 if "k0" in like else 0):
        state[f"k{index}"] = struct.unpack_from("<Q", block, OPMASK + 8 * index)[0]
    return state


def _vector_places(state: State) -> list[tuple[str, int, int]]:
    if "zmm0" in state:
        return [(f"zmm{index}", ZMM + 64 * index, 64) for index in range(32)]
    return [(f"ymm{index}", ZMM + 64 * index, 32) for index in range(16)]


def to_engine(state: State, vm: Any) -> None:
    """Give the engine's guest this state; fs and gs stay as they are."""
    gpr, fpr = vm.getGPRState(), vm.getFPRState()
    for name in (*GPR_NAMES, "eflags"):
        setattr(gpr, name, state[name])
    for name, value in state.items():
        if name in GPR_NAMES or name == "eflags":
            continue
        if name.startswith("stmm"):
            getattr(fpr, name).st = value
        elif name.startswith("ymm") or not hasattr(fpr, name):  # PyQBDI has no AVX-512
            _set_halves(fpr, name, value)
        else:
            setattr(fpr, name, value)
    vm.setGPRState(gpr)
    vm.setFPRState(fpr)


def from_engine(vm: Any, like: State) -> State:
    """The engine's guest state: of the registers that *like* has, all that the engine knows."""
    gpr, fpr = vm.getGPRState(), vm.getFPRState()
    state: State = {name: getattr(gpr, name) for name in (*GPR_NAMES, "eflags")}
    for name in like:
        if name in state:
            continue
        if name.startswith("stmm"):
            state[name] = getattr(fpr, name).st
        elif hasattr(fpr, name) and not name.startswith("ymm"):
            state[name] = getattr(fpr, name)
        elif name[1:].startswith("mm") and hasattr(fpr, "y" + name[1:]):
            state["y" + name[1:]] = getattr(fpr, "x" + name[1:]) + getattr(fpr, "y" + name[1:])
    return state


def _set_halves(fpr: Any, name: str, value: bytes) -> None:
    """Set the low 32 bytes of a vector register: an engine's ymm is the upper half of them."""
    if hasattr(fpr, "y" + name[1:]):
        setattr(fpr, "x" + name[1:], value[:16])
        setattr(fpr, "y" + name[1:], value[16:32])


def _comparable(state: State, name: str) -> Any:
    if name not in state and name.startswith("ymm"):
        return state["z" + name[1:]][:32]
    return state[name]


def _printed(value: Any) -> str:
    return hex(value) if isinstance(value, int) else "0x" + bytes(value)[::-1].hex()


def differences(expected: State, actual: State) -> list[str]:
    """One line for each register that differs: general registers and flags first, then the rest."""
    found = []
    for name in actual:
        want, got = _comparable(expected, name), actual[name]
        if name == "eflags":
            changed = (want ^ got) & FLAGS_COMPARED
            if changed:
                flags = [flag for flag, bit in STATUS_FLAGS.items() if changed & bit]
                where = f" ({' '.join(flags)})" if flags else ""
                found.append(f"eflags{where}: expected {want:#x}, got {got:#x}")
        elif want != got:
            found.append(f"{name}: expected {_printed(want)}, got {_printed(got)}")
    return found
