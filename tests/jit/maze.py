"""Mazes: random programs of small blocks that jump about, and a model that says what they compute.

A block adds its own number to r8, turns it, counts rcx down, and goes to one of two blocks by a
bit of r8: by jcc and then falling through, jumping, jumping indirectly, or calling something
first. Whatever the engine does with links, lookups and placement, r8 at the end must be the
model's. Imported by the children of the tests, where generated code runs.
"""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Sequence
from typing import Any

SLOT_SIZE = 64
_WORD = (1 << 64) - 1
_REACH = (1 << 31) - (1 << 20)
_FALL, _JMP, _INDIRECT, _CALL, _CALL_INDIRECT = range(5)
_KINDS = (_FALL, _JMP, _INDIRECT, _CALL, _CALL_INDIRECT)
_CALLED = 48  # offset in a slot of the function that calls use: xor r8, number; ret


def _relative(opcode: bytes, site: int, target: int) -> bytes:
    return opcode + struct.pack("<i", target - site - len(opcode) - 4)


class Maze:
    """Blocks in the memory slots at *addresses*, of which the last is where runs end.

    Args:
        doors: slots that lead to the end, for blocks too far away to jump there directly.

    Attributes:
        instructions: how many instructions the last `model` executed.
        executed, visits: instructions of each slot, and arrivals at it; the last one is the end's.
        left: rcx at the end.
    """

    def __init__(self, addresses: list[int], seed: int, doors: Sequence[int] = ()) -> None:
        self.random = random.Random(seed)
        self.addresses = addresses
        self.count = len(addresses) - 1
        self.end = addresses[-1]
        self.instructions = self.left = 0
        self.fell = False
        self.executed: list[int] = []
        self.visits: list[int] = []
        self.doors = [self.end, *doors]
        for door in doors:  # movabs rax, end; jmp rax
            ctypes.memmove(door, b"\x48\xb8" + struct.pack("<Q", self.end) + b"\xff\xe0", 12)
        self.numbers = [self.random.randrange(1 << 31) for _ in range(self.count)]
        self.bits = [self.random.randrange(64) for _ in range(self.count)]
        self.when_set = [self.random.choice((True, False)) for _ in range(self.count)]
        self.taken = [self.pick(block, _JMP) for block in range(self.count)]
        self.kinds = [self.random.choice(_KINDS) for _ in range(self.count)]
        self.others = [self.pick(block, self.kinds[block]) for block in range(self.count)]
        for block in range(self.count):
            behind = addresses[block] + SLOT_SIZE == addresses[block + 1]
            if self.kinds[block] == _FALL and (not behind or block + 1 == self.count):
                self.kinds[block] = _JMP
            if self.kinds[block] == _FALL:
                self.others[block] = block + 1
            self.write(block)
        ctypes.memmove(self.end, b"\x0f\x0b", 2)

    def pick(self, block: int, kind: int) -> int:
        """Return a random block that an instruction of this kind in *block* can go to."""
        while True:
            other = self.random.randrange(self.count)
            distance = abs(self.addresses[other] - self.addresses[block])
            if kind == _INDIRECT or distance < _REACH:
                return other

    def door_of(self, block: int) -> int:
        """Return where *block* goes to end the run."""
        return min(self.doors, key=lambda door: abs(door - self.addresses[block]))

    def change(self, block: int) -> None:
        """Give a block another number and other ways to go, in memory and in the model."""
        self.numbers[block] = self.random.randrange(1 << 31)
        self.taken[block] = self.pick(block, _JMP)
        self.when_set[block] = self.random.choice((True, False))
        self.write(block)

    def write(self, block: int) -> None:
        """Write the machine code of a block into its slot."""
        here = self.addresses[block]
        number = struct.pack("<i", self.numbers[block])
        code = b"\x49\x81\xc0" + number  # add r8, number
        code += b"\x49\xc1\xc0\x07\x48\xff\xc9"  # rol r8, 7; dec rcx
        code += _relative(b"\x0f\x84", here + len(code), self.door_of(block))  # jz end
        code += b"\x49\x0f\xba\xe0" + bytes((self.bits[block],))  # bt r8, bit
        jcc = b"\x0f\x82" if self.when_set[block] else b"\x0f\x83"
        code += _relative(jcc, here + len(code), self.addresses[self.taken[block]])
        kind, other = self.kinds[block], self.addresses[self.others[block]]
        if kind == _CALL:
            code += _relative(b"\xe8", here + len(code), here + _CALLED)
        elif kind == _CALL_INDIRECT:
            code += b"\x41\xff\xd1"  # call r9
        if kind in (_JMP, _CALL, _CALL_INDIRECT):
            code += _relative(b"\xe9", here + len(code), other)
        elif kind == _INDIRECT:
            code += b"\x48\xb8" + struct.pack("<Q", other) + b"\xff\xe0"  # movabs rax; jmp rax
        if kind == _FALL:
            code = code.ljust(SLOT_SIZE, b"\x90")
        else:
            code = code.ljust(_CALLED, b"\xcc") + b"\x49\x81\xf0" + number + b"\xc3"
        assert len(code) <= SLOT_SIZE
        ctypes.memmove(here, code, len(code))

    def model(self, start: int, r8: int, rcx: int, stop: int | None = None) -> int:
        """Return r8 at the end of a run from block *start* to block *stop*, or to the end."""
        block = start
        executed = self.executed = [0] * (self.count + 1)
        visits = self.visits = [0] * (self.count + 1)
        self.fell = False
        while block != stop:
            self.fell = False
            visits[block] += 1
            number = self.numbers[block]
            r8 = r8 + number & _WORD
            r8 = (r8 << 7 | r8 >> 57) & _WORD
            rcx -= 1
            executed[block] += 4
            if not rcx:
                executed[-1] += 2 * (self.door_of(block) != self.end)
                block = self.count
                break
            executed[block] += 2
            if bool(r8 >> self.bits[block] & 1) == self.when_set[block]:
                block = self.taken[block]
                continue
            kind = self.kinds[block]
            if kind in (_CALL, _CALL_INDIRECT):
                function = self.called if kind == _CALL_INDIRECT else block
                r8 ^= self.numbers[function]
                executed[block] += 1
                executed[function] += 2
            executed[block] += {_FALL: self.padding(), _JMP: 1, _INDIRECT: 2}.get(kind, 1)
            self.fell = kind == _FALL
            block = self.others[block]
        visits[block] += 1
        self.left = rcx
        self.instructions = sum(executed)
        return r8

    @staticmethod
    def padding() -> int:
        """How many no-ops lie behind a block that falls through to the next."""
        return SLOT_SIZE - 31

    @property
    def called(self) -> int:
        """The block whose function calls through r9 go to."""
        return next(b for b in range(self.count) if self.kinds[b] != _FALL)

    def check(self, vm: Any, start: int, rounds: int, stop: int | None = None) -> None:
        """Run from block *start* for so many blocks, or until *stop*; assert what the model says.

        A run whose stop is not reached in time goes on to the end, and nobody may stop it there:
        then nothing is run, and the model's counts are all 0.
        """
        gpr = vm.getGPRState()
        r8, rsp = self.random.getrandbits(64), gpr.rsp
        expected = self.model(start, r8, rounds, stop)
        if stop is not None and not self.left:
            self.executed, self.visits = [0] * (self.count + 1), [0] * (self.count + 1)
            return
        gpr.r8, gpr.rcx, gpr.r9 = r8, rounds, self.addresses[self.called] + _CALLED
        vm.setGPRState(gpr)
        where = self.end if stop is None else self.addresses[stop]
        assert vm.run(self.addresses[start], where)
        gpr = vm.getGPRState()
        assert gpr.r8 == expected, f"r8 is {gpr.r8:#x}, not {expected:#x}"
        assert (gpr.rcx, gpr.rsp, gpr.rip) == (self.left, rsp, where)


def slots(address: int, count: int) -> list[int]:
    """Return the addresses of *count* slots one behind the other."""
    return [address + SLOT_SIZE * number for number in range(count)]


def map_code(size: int, address: int = 0) -> int:
    """Map memory for code at exactly *address*, or anywhere."""
    from pydbi.host.memory import map_memory

    return map_memory(size, 7, address, fixed_noreplace=bool(address))


def machine(arena_size: int = 0) -> Any:
    """Return a VM with a stack, whose arenas are of *arena_size* (0: the usual)."""
    import functools

    import pydbi
    import pydbi.vm
    from pydbi.jit.engine import Engine

    if arena_size:
        pydbi.vm.Engine = functools.partial(Engine, arena_size=arena_size)
    vm = pydbi.VM()
    if arena_size:
        pydbi.vm.Engine = Engine
    vm.codeCheck = pydbi.CodeCheck.NEVER  # its code is writable, and its blocks are looked at
    pydbi.allocateVirtualStack(vm.getGPRState(), 1 << 16)
    vm.addInstrumentedRange(0, 1 << 47)
    return vm
