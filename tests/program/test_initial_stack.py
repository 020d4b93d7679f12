"""The stack that a program begins with."""

from __future__ import annotations

import struct

import pytest

from pydbi.program import initial_stack
from pydbi.program.errors import ProgramError

TOP, SIZE = 0x7F00_0000_0000, 1 << 20


def test_pointers_lead_to_texts() -> None:
    """The number of arguments, their pointers, those of the variables, the auxiliary vector."""
    arguments, environment = [b"first", b"", b"third one"], [b"A=1", b"B=2"]
    auxiliary: dict[int, int | bytes] = {6: 4096, 25: bytes(range(16)), 15: b"x86_64\0"}
    rsp, content, vector = initial_stack.build(
        TOP, SIZE, arguments, environment, b"/the/path", auxiliary
    )
    assert rsp % 16 == 0
    assert rsp + len(content) == TOP

    def text(address: int) -> bytes:
        start = address - rsp
        return content[start : content.index(b"\0", start)]

    words = struct.unpack_from(f"<{len(content) // 8}Q", content)
    assert words[0] == 3
    assert [text(address) for address in words[1:4]] == arguments
    assert words[4] == 0
    assert [text(address) for address in words[5:7]] == environment
    assert words[7] == 0
    entries = dict(zip(words[8::2], words[9::2], strict=False))
    assert entries[6] == 4096
    assert content[entries[25] - rsp :][:16] == bytes(range(16))
    assert entries[25] % 16 == 0
    assert text(entries[15]) == b"x86_64"
    assert text(entries[initial_stack.AT_EXECFN]) == b"/the/path"
    assert content[64 : 64 + len(vector)] == vector
    assert vector.endswith(bytes(16))
    assert (
        words[1] + len(b"first") + 1 == words[2]
    )  # programs that overwrite their title rely on it


def test_the_kernels_facts_are_passed_on() -> None:
    """Those that do not depend on the program."""
    vector = initial_stack.auxiliary_vector({initial_stack.AT_PHNUM: 7})
    with open("/proc/self/auxv", "rb") as file:
        here = dict(struct.iter_unpack("<QQ", file.read()))
    for key in (6, 11, 13, 16, 17, 23, 26, 33, 51):
        assert vector.get(key) == here.get(key), key
    assert vector[initial_stack.AT_PHNUM] == 7


def test_too_many_arguments_are_refused() -> None:
    """A quarter of the stack is the most that they may take."""
    with pytest.raises(ProgramError, match="too long"):
        initial_stack.build(TOP, SIZE, [b"a" * (SIZE // 4)], [], b"/x", {})


def test_the_stack_has_its_limits_size() -> None:
    """RLIMIT_STACK counts, as far as it makes sense."""
    size, guard = initial_stack.stack_size()
    assert size % 4096 == 0
    assert (1 << 17) <= size <= (1 << 28)
    assert guard >= 4096
