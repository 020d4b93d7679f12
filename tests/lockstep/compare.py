"""Two streams of steps, and where they part: knows nothing of what makes them.

A step is what an instruction finds: the registers before it. Any two sides that yield steps in
order can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from tests.exec.machine_state import FLAGS_COMPARED, GPR_NAMES, STATUS_FLAGS

NAMES = (*GPR_NAMES, "rip", "eflags")
"""What a step's values are, in order."""
RIP, RSP, EFLAGS = (NAMES.index(name) for name in ("rip", "rsp", "eflags"))
_KEPT = tuple(NAMES.index(name) for name in ("rbx", "rbp", "r12", "r13", "r14", "r15", "rsp"))
"""What a function gives back as it was (System V ABI, 3.2.1)."""


class Step(NamedTuple):
    """The state before one instruction."""

    values: tuple[int, ...]
    """Of `NAMES`."""
    vectors: bytes = b""
    """xmm0-15, or nothing."""


class Side(Protocol):
    """One way to execute the code."""

    end: str
    """How it ended, once the steps are over."""

    def steps(self) -> Iterator[Step]:
        """Execute, and yield the state before each instruction that is to be compared."""


class OracleSide(Side, Protocol):
    """The side that is right; its memory can be read between steps."""

    def read(self, address: int, size: int) -> bytes:
        """Return memory, or nothing if none is there."""


class Parting(NamedTuple):
    """The first difference."""

    executed: int
    """How many instructions were executed alike."""
    instruction: int
    """The address of the instruction behind which they differ; 0: they do from the start."""
    code: bytes
    """Its bytes."""
    differences: list[str]
    expected: Step | None
    """None: the side is at its end."""
    found: Step | None


def _without_repetition(steps: Iterator[Step]) -> Iterator[Step]:
    """Leave out steps at the address of the one before: REP counts once or once an iteration."""
    previous = -1
    for step in steps:
        if step.values[RIP] != previous:
            previous = step.values[RIP]
            yield step


def step_differences(expected: Step, found: Step) -> list[str]:
    """Return a line for each register that differs."""
    lines = [
        f"{name}: expected {want:#x}, got {got:#x}"
        for name, want, got in zip(NAMES, expected.values, found.values, strict=True)
        if want != got and name != "eflags"
    ]
    changed = (expected.values[EFLAGS] ^ found.values[EFLAGS]) & FLAGS_COMPARED
    if changed:
        flags = " ".join(name for name, bit in STATUS_FLAGS.items() if changed & bit)
        want, got = expected.values[EFLAGS], found.values[EFLAGS]
        lines.append(f"eflags ({flags}): expected {want:#x}, got {got:#x}")
    for number in range(len(expected.vectors) // 16):
        want_bytes, got_bytes = (
            step.vectors[16 * number : 16 * number + 16][::-1].hex() for step in (expected, found)
        )
        if want_bytes != got_bytes:
            lines.append(f"xmm{number}: expected 0x{want_bytes}, got 0x{got_bytes}")
    return lines


def _skip_call(
    oracle: OracleSide, right: Iterator[Step], expected: Step, found: Step
) -> Step | None:
    """If *found* is where the function just entered returns to, go on there on the right side.

    The engine runs some functions natively (malloc, for one), without callbacks.
    """
    place = expected.values[RSP]
    back = int.from_bytes(oracle.read(place, 8), "little")
    if back != found.values[RIP]:
        return None
    for step in right:
        if step.values[RIP] == back and step.values[RSP] == place + 8:
            return step
    return None


def first_parting(oracle: OracleSide, tested: Side) -> tuple[int, Parting | None]:
    """Execute both sides in lockstep.

    Returns:
        How many steps were compared, and the first difference, if there is one.
    """
    right, other = _without_repetition(oracle.steps()), _without_repetition(tested.steps())
    count = instruction = 0
    code = b""
    while True:
        expected, found = next(right, None), next(other, None)
        if expected is None or found is None:
            break
        differences = step_differences(expected, found)
        if expected.values[RIP] != found.values[RIP]:
            after = _skip_call(oracle, right, expected, found)
            if after is not None:
                kept = [NAMES[at] for at in _KEPT]
                expected = after
                differences = [
                    line
                    for line in step_differences(expected, found)
                    if line.split(":", 1)[0] in kept
                ]
        if differences:
            return count, Parting(count, instruction, code, differences, expected, found)
        count += 1
        instruction = expected.values[RIP]
        code = oracle.read(instruction, 15)
    if oracle.end != tested.end or expected is not found:
        line = f"end: expected {oracle.end or 'to go on'}, got {tested.end or 'more steps'}"
        return count, Parting(count, instruction, code, [line], expected, found)
    return count, None
