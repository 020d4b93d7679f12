"""What is run: random bytes, instructions built from random parts, and mutated valid ones.

Everything follows from (seed, index), so that a case can be repeated alone.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

from pydbi.errors import DecodeError
from pydbi.x86.instruction import scan
from tests.exec import machine_state
from tests.exec.batch import FAMILIES, assemble_batch, make_snippet
from tests.exec.machine_state import GPR_NAMES, State
from tests.fuzz.layout import AREA_SIZE, DATA, PAGE, SLOT_COUNT, STACK, slot_address

_POOL_SIZE = 16
_LEGACY_PREFIXES = bytes.fromhex("66 67 f2 f3 f0 2e 36 3e 26 64 65")
_FILLER = b"\xcc"


@dataclass(frozen=True)
class Case:
    """One piece of code and where it lies."""

    seed: int
    index: int
    code: bytes
    offset: int
    """Of the code within the slot's page."""

    @property
    def slot(self) -> int:
        """Which page it has."""
        return self.index % SLOT_COUNT

    @property
    def start(self) -> int:
        """Its address."""
        return slot_address(self.slot) + self.offset

    @property
    def page(self) -> bytes:
        """The whole page: the rest of it is int3."""
        return (_FILLER * self.offset + self.code).ljust(PAGE, _FILLER)


@functools.cache
def corpus() -> tuple[bytes, ...]:
    """Return some thousand valid instructions of all kinds, always the same."""
    names = [name for name in FAMILIES if name not in ("mixed", "system")]
    snippets = [make_snippet(name, seed) for name in names for seed in range(60)]
    found = set()
    for at in range(0, len(snippets), 200):
        batch = assemble_batch(snippets[at : at + 200])
        for case in batch.cases:
            code = batch.bytes_of(case)
            place = 0
            while place < len(code):
                try:
                    instruction = scan(code, place)
                except DecodeError:
                    break
                found.add(instruction.code)
                place += len(instruction.code)
    return tuple(sorted(found))


def _built(rng: random.Random) -> bytes:
    """An instruction from random parts: prefixes, an encoding, an opcode, operands."""
    prefixes = bytes(rng.choice(_LEGACY_PREFIXES) for _ in range(rng.choice((0, 0, 0, 1, 1, 2))))
    tail = bytes([_modrm(rng)]) + rng.randbytes(rng.choice((0, 1, 2, 5, 9)))
    opcode = rng.randbytes(1)
    kind = rng.randrange(8)
    if kind == 0:
        return prefixes + b"\xc5" + rng.randbytes(1) + opcode + tail
    if kind == 1:
        second = rng.choice((1, 2, 3)) | rng.choice((0xE0, 0xC0, rng.getrandbits(3) << 5))
        return prefixes + bytes([0xC4, second]) + rng.randbytes(1) + opcode + tail
    if kind == 2:
        second = rng.choice((1, 2, 3, 5, 6)) | rng.choice((0xF0, rng.getrandbits(4) << 4))
        return (
            prefixes
            + bytes([0x62, second, rng.getrandbits(8) | 4])
            + rng.randbytes(1)
            + opcode
            + tail
        )
    rex = bytes([0x40 | rng.getrandbits(4)]) if rng.random() < 0.5 else b""
    escape = (b"", b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")[kind - 3]
    return prefixes + rex + escape + opcode + tail


def _modrm(rng: random.Random) -> int:
    """A ModRM byte: mostly registers, and memory through a pointer without displacement."""
    form = rng.choice((0xC0, 0xC0, 0x00, 0x40, 0x80))
    return form | rng.getrandbits(6)


def _mutated(rng: random.Random, code: bytes) -> bytes:
    data = bytearray(code)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        at = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.getrandbits(8)
        elif kind == 2:
            data.insert(0, rng.choice((*_LEGACY_PREFIXES, 0x40 | rng.getrandbits(4))))
        elif len(data) > 1:
            del data[at]
    return bytes(data)


def _branch(rng: random.Random, at: int, total: int) -> bytes:
    """A direct branch that leads into the code or a little beyond."""
    target = rng.randrange(total + 8)
    near = target - at
    kind = rng.randrange(4)
    if kind == 0:
        opcode = rng.choice((0xEB, *range(0x70, 0x80), *range(0xE0, 0xE4)))
        return bytes([opcode, (near - 2) & 0xFF])
    if kind == 1:
        return bytes([rng.choice((0xE8, 0xE9))]) + (near - 5).to_bytes(4, "little", signed=True)
    if kind == 2:
        opcode = bytes([0x0F, 0x80 + rng.randrange(16)])
        return opcode + (near - 6).to_bytes(4, "little", signed=True)
    register = rng.randrange(8)
    return bytes([0xFF, rng.choice((0xD0, 0xE0, 0x10, 0x20)) | register])


def _make_code(rng: random.Random) -> bytes:
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.choice((4, 8, 16, 40)))
    parts, size = [], 0
    for _ in range(rng.choice((1, 2, 4, 8, 16))):
        choice = rng.uniform(0.1 if kind == 4 else 0, 1)
        if choice < 0.12:
            part = _branch(rng, size, 60)
        elif choice < 0.16:
            part = rng.randbytes(rng.randrange(1, 8))
        elif choice < (0.6 if kind == 1 else 0.2):
            part = _built(rng)
        elif kind >= 3:
            part = rng.choice(corpus())
        else:
            part = _mutated(rng, rng.choice(corpus()))
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _aim(rng: random.Random, code: bytes, start: int) -> bytes:
    """Let most operands relative to RIP be in the data area."""
    data, at = bytearray(code), 0
    while at < len(data):
        try:
            instruction = scan(bytes(data), at)
        except DecodeError:
            break
        end = at + len(instruction.code)
        if instruction.is_rip_relative and rng.random() < 0.9:
            displacement = DATA + rng.randrange(AREA_SIZE) - start - end
            place = at + instruction.disp_offset
            data[place : place + 4] = displacement.to_bytes(4, "little", signed=True)
        at = end
    return bytes(data)


def make_case(seed: int, index: int) -> Case:
    """Return the case with this number."""
    rng = random.Random(f"code {seed} {index}")
    code = _make_code(rng)[:200]
    room = PAGE - len(code)
    offset = room if rng.random() < 0.05 else rng.randrange(room)
    case = Case(seed, index, code, offset)
    return Case(seed, index, _aim(rng, code, case.start), offset)


@functools.cache
def _pool(seed: int, vector: int) -> tuple[State, ...]:
    """States from which a case takes its vector and x87 registers."""
    rng = random.Random(f"pool {seed}")
    return tuple(machine_state.random_state(rng, {}, vector=vector) for _ in range(_POOL_SIZE))


def _pointer(rng: random.Random, case: Case) -> int:
    """An address in the middle of an area, where most displacements stay inside, or of the code."""
    area = rng.choice((DATA, DATA, DATA, STACK, 0))
    if not area:
        return case.start + rng.randrange(-8, len(case.code) + 8)
    place = area + AREA_SIZE // 2 + rng.randrange(-512, 512)
    return place & -64 if rng.random() < 0.4 else place


def make_start(case: Case, vector: int) -> tuple[State, tuple[bytes, bytes]]:
    """Return the state from which a case starts, and what is in data area and stack."""
    rng = random.Random(f"state {case.seed} {case.index}")
    state = dict(rng.choice(_pool(case.seed, vector)))
    for name in GPR_NAMES:
        kind = rng.random()
        if kind < 0.6:
            state[name] = _pointer(rng, case)
        elif kind < 0.9:
            state[name] = rng.randrange(-8, 64) & 0xFFFFFFFFFFFFFFFF
        else:
            state[name] = machine_state.random_word(rng)
    state["eflags"] = 0x202 | rng.getrandbits(12) & 0x8D5
    if rng.random() < 0.95:
        state["rsp"] = (
            STACK + AREA_SIZE // 2 + 8 * rng.randrange(-64, 64) + rng.choice((0, 0, 0, 3))
        )
    state["fs"], state["gs"] = (DATA + 8 * rng.randrange(AREA_SIZE // 8) for _ in range(2))
    words = _words(case.seed)
    data, stack = (rng.randrange(0, len(words) - AREA_SIZE, 8) for _ in range(2))
    return state, (words[data : data + AREA_SIZE], words[stack : stack + AREA_SIZE])


@functools.cache
def _words(seed: int) -> bytes:
    """Memory contents to cut from; many words are addresses of code, which returns go to."""
    rng = random.Random(f"memory {seed}")
    words = bytearray(machine_state.random_bytes(rng, 4 * AREA_SIZE))
    for at in range(0, len(words), 8):
        if rng.random() < 0.2:
            area = rng.choice((DATA, STACK))
            words[at : at + 8] = (area + rng.randrange(AREA_SIZE)).to_bytes(8, "little")
    return bytes(words)
