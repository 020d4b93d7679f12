"""``python -m tests.lockstep LIBRARY FUNCTION [ARGUMENT ...]``: where do pydbi and processor part?

An argument is an integer, ``buffer:SIZE`` for a pointer to so many zeros, or text for a pointer to
it.
"""

from __future__ import annotations

import argparse
import sys

from tests.exec.campaign import disassembly
from tests.lockstep.compare import NAMES, Parting, Step, first_parting
from tests.lockstep.function import (
    Call,
    EngineSide,
    NativeSide,
    address_of,
    module_ranges,
    place,
)

_BUFFER = "buffer:"


def _argument(text: str) -> int:
    """Return the integer that an argument is, or the address of what it names."""
    try:
        return int(text, 0) & 0xFFFFFFFFFFFFFFFF
    except ValueError:
        pass
    if text.startswith(_BUFFER):
        return place(bytes(int(text[len(_BUFFER) :], 0)))
    return place(text.encode())


def describe(parting: Parting) -> str:
    """Return a report: the instruction, what differs, and both states."""
    lines = [f"they part after {parting.executed} instructions"]
    if parting.instruction:
        lines.append(f"behind the instruction at {parting.instruction:#x}:")
        lines += disassembly(parting.code)[:1]
    lines += [f"  {line}" for line in parting.differences]
    for title, step in (("processor", parting.expected), ("engine", parting.found)):
        lines += [f"{title}:", *_shown(step)]
    return "\n".join(lines)


def _shown(step: Step | None) -> list[str]:
    if step is None:
        return ["  at its end"]
    words = [f"{name}={value:#x}" for name, value in zip(NAMES, step.values, strict=True)]
    return ["  " + " ".join(words[at : at + 6]) for at in range(0, len(words), 6)]


def check(call: Call, engine: str = "pydbi") -> tuple[int, Parting | None]:
    """Execute a call on both sides; return the number of steps compared and the difference."""
    native = NativeSide(call)
    tested = EngineSide(call, engine)
    try:
        return first_parting(native, tested)
    finally:
        native.close()
        tested.close()


def main() -> int:
    """Return the exit status: 1 if they part."""
    parser = argparse.ArgumentParser(prog="python -m tests.lockstep", description=__doc__)
    parser.add_argument("library", help="a shared library; '' for what Python is linked with")
    parser.add_argument("function")
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--all", action="store_true", help="compare the code of all files")
    parser.add_argument("--vectors", action="store_true", help="compare xmm0-15 too")
    parser.add_argument("--engine", default="pydbi", help="a module with PyQBDI's interface")
    options = parser.parse_args()
    arguments = [_argument(text) for text in options.arguments]
    function = address_of(options.library, options.function)
    ranges = module_ranges(None if options.all else function)
    count, parting = check(Call(function, arguments, ranges, options.vectors), options.engine)
    if parting is None:
        print(f"{count} instructions alike")
        return 0
    print(describe(parting))
    return 1


if __name__ == "__main__":
    sys.exit(main())
