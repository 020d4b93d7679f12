"""The scanner against Capstone, against the processor, and against itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydbi.errors import DecodeError
from pydbi.x86 import traits
from pydbi.x86.automaton import record_of
from pydbi.x86.instruction import EVEX, LEGACY, VEX2, VEX3, XOP, decode
from pydbi.x86.scanner import (
    FLOW,
    INVALID,
    LIMIT,
    TRUNCATED,
    Instruction,
    scan,
    scan_block,
)
from tests.x86.capstone_oracle import (
    CAPSTONE,
    LEGACY_PREFIXES,
    Theirs,
    capstone_error,
    difference_to_capstone,
    disassemble,
    opcode_bytes,
    words,
)
from tests.x86.libraries import executable_sections, libraries
from tests.x86.processor import EXECUTED, FAULT, TOO_LONG, UNDEFINED, Processor

_THOROUGH: Final = os.environ.get("PYDBI_TEST_THOROUGH") == "1"
#: Instructions looked at in each section, unless the run is thorough.
_SAMPLE: Final = 10**9 if _THOROUGH else 150_000
_EXAMPLES: Final = 100_000 if _THOROUGH else 4_000
_LIBRARIES: Final = libraries()


@pytest.mark.parametrize("path", _LIBRARIES, ids=lambda path: path.name)
def test_scan_agrees_with_capstone_over_whole_libraries(path: Path) -> None:
    """Length, RIP-relative displacement and flow kind of each instruction are Capstone's."""
    count = 0
    for address, code in executable_sections(path):
        in_section = 0
        for theirs in disassemble(code):
            offset, size, mnemonic, operands = theirs
            ours = decode(code, offset)
            instruction = None if isinstance(ours, int) else ours
            difference = difference_to_capstone(instruction, theirs)
            if difference and not capstone_error(code[offset : offset + 15], instruction, theirs):
                shown = code[offset : offset + size].hex(" ")
                pytest.fail(f"{address + offset:#x}: {shown} {mnemonic} {operands}: {difference}")
            in_section += 1
            if in_section >= _SAMPLE:
                break
        count += in_section
    assert count > 10, "the file has no code: the test looked at nothing"


def _check_block(code: bytes, start: int, limit: int) -> int:
    """Compare `scan_block` at *start* with the reference decoder; return the block's end."""
    window = code[start : start + 400]
    starts, specials, end, status = scan_block(window, limit)
    expected_starts: list[int] = []
    expected_specials = []
    at = 0
    expected_status = LIMIT
    while len(expected_starts) < limit:
        instruction = decode(window, at)
        if isinstance(instruction, int):
            expected_status = instruction
            break
        length, flags, modrm, displacement, ends = record_of(instruction)
        expected_starts.append(at)
        if flags:
            expected_specials.append(
                (
                    at,
                    at + length,
                    flags,
                    at + modrm if modrm else 0,
                    at + displacement if displacement else 0,
                )
            )
        at += length
        if ends:
            expected_status = FLOW
            break
    assert (starts, specials, end, status) == (
        expected_starts,
        expected_specials,
        at,
        expected_status,
    ), f"at {start:#x}: {window[:40].hex(' ')}"
    return start + end


@pytest.mark.parametrize("path", _LIBRARIES, ids=lambda path: path.name)
def test_scan_block_agrees_with_scan_over_whole_libraries(path: Path) -> None:
    """The automaton gives, block by block, exactly what the reference decoder gives."""
    for _, code in executable_sections(path):
        at = 0
        for _ in range(_SAMPLE // 5):
            if at >= len(code):
                break
            end = _check_block(code, at, 64)
            at = end if end > at else at + 1


# ---- random bytes ------------------------------------------------------------------------------

_PREFIXES: Final = st.lists(st.sampled_from(LEGACY_PREFIXES), max_size=4).map(bytes)
_REX: Final = st.one_of(st.just(b""), st.integers(0x40, 0x4F).map(lambda byte: bytes((byte,))))
_ESCAPES: Final = st.sampled_from(
    (b"", b"", b"\x0f", b"\x0f", b"\x0f\x38", b"\x0f\x3a", b"\xc5", b"\xc4\xe1", b"\xc4\xe2",
     b"\xc4\xe3", b"\xc4", b"\x62\xf1", b"\x62\xf2", b"\x62\xf3", b"\x62", b"\x8f")
)  # fmt: skip
_TAIL: Final = st.binary(min_size=16, max_size=16)
_CODE: Final = st.tuples(_PREFIXES, _REX, _ESCAPES, _TAIL).map(b"".join)


@settings(max_examples=_EXAMPLES, deadline=None, print_blob=True)
@given(_CODE)
def test_random_bytes_agree_with_capstone(code: bytes) -> None:
    """Random prefixes, opcodes and tails decode as Capstone says, but for its known errors."""
    code = code[:15]
    decoded = decode(code, 0)
    ours = None if isinstance(decoded, int) else decoded
    theirs: Theirs | None = next(CAPSTONE.disasm_lite(code, 0, 1), None)
    if theirs is None:
        difference = "accepted" if ours is not None else None
    else:
        difference = difference_to_capstone(ours, theirs)
    if difference:
        assert capstone_error(code, ours, theirs), f"{code.hex(' ')} {theirs}: {difference}"


@settings(max_examples=_EXAMPLES, deadline=None, print_blob=True)
@given(_CODE, st.integers(0, 40), st.integers(0, 6))
def test_scan_block_agrees_with_scan_on_random_bytes(code: bytes, size: int, limit: int) -> None:
    """The automaton agrees with the reference decoder on any bytes, cut off anywhere."""
    code = (code + code[::-1])[:size]
    _check_block(code, 0, limit)
    # Now the automaton has learned, and has to give the same again.
    _check_block(code, 0, limit)


@settings(max_examples=_EXAMPLES, deadline=None, print_blob=True)
@given(_CODE, st.data())
def test_truncation_is_told_from_invalidity(code: bytes, data: st.DataObject) -> None:
    """A proper beginning of an instruction is TRUNCATED; of no instruction it never is valid."""
    whole = decode(code, 0)
    size = data.draw(st.integers(0, 15))
    part = decode(code[:size], 0)
    if isinstance(whole, Instruction) and size < whole.length:
        assert part == TRUNCATED
    elif isinstance(whole, int):
        assert part in (INVALID, TRUNCATED)
    else:
        assert part == whole


# ---- the processor -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processor() -> Iterator[Processor]:
    """A traced child that executes single instructions; skips where tracing is forbidden."""
    try:
        with Processor() as child:
            yield child
    except OSError as error:
        pytest.skip(f"no traced child: {error}")


@pytest.fixture(scope="module")
def is_amd() -> bool:
    """Whether the processor truncates 66-prefixed branches."""
    return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()


@settings(max_examples=_EXAMPLES // 4, deadline=None, print_blob=True)
@given(code=_CODE)
def test_processor_confirms_the_scanner(processor: Processor, is_amd: bool, code: bytes) -> None:
    """What this processor executes, or faults on otherwise than by #UD, has the length we say.

    The other direction cannot be tested on one processor: we accept what any of them executes.
    """
    code = code[:15]
    outcome = processor.measure(code)
    if outcome.kind not in (EXECUTED, FAULT):
        return
    if is_amd and _is_mov_cr8(code):
        return
    ours = scan(code)
    if is_amd and ours.traits & traits.PREFIX66_BRANCH:
        return
    assert ours.length == outcome.length, code.hex(" ")


def _is_mov_cr8(code: bytes) -> bool:
    """Whether it is LOCK MOV CR0, which AMD processors read as MOV CR8 (APM 3, MOV CRn)."""
    rest = opcode_bytes(code)
    prefixes = code[: len(code) - len(rest)]
    return 0xF0 in prefixes and rest[:2] in (b"\x0f\x20", b"\x0f\x22")


@pytest.mark.parametrize("code", ["652e488b00", "6536488b00", "65488b00", "643e488b00"])
def test_ignored_overrides_do_not_cancel_gs(processor: Processor, code: str) -> None:
    """CS, DS, ES and SS overrides behind an FS or GS override leave that in force."""
    instruction = scan(bytes.fromhex(code))
    name = {traits.GS: "gs_base", traits.FS: "fs_base"}[instruction.traits]
    base = 0x1234_5678_0000
    outcome = processor.step(instruction.code, rax=0x1000, **{name: base})
    assert (outcome.kind, outcome.fault_address) == (FAULT, base + 0x1000)


# ---- by hand -----------------------------------------------------------------------------------

_TRAITS_BY_HAND: Final = (
    ("90", 0),
    ("eb 00", traits.JMP),
    ("e9 00000000", traits.JMP),
    ("3e ff e0", traits.JMP_INDIRECT),
    ("74 00", traits.JCC),
    ("0f 84 00000000", traits.JCC),
    ("66 e9 00000000", traits.JMP | traits.PREFIX66_BRANCH),
    ("66 48 e8 00000000", traits.CALL),
    ("66 c3", traits.RET | traits.PREFIX66_BRANCH),
    ("67 e3 00", traits.LOOP),
    ("e8 00000000", traits.CALL),
    ("ff 25 00000000", traits.JMP_INDIRECT | traits.RIP),
    ("ff 15 00000000", traits.CALL_INDIRECT | traits.RIP),
    ("65 ff 10", traits.CALL_INDIRECT | traits.GS),
    ("ff 28", traits.FAR),
    ("48 cf", traits.FAR | traits.SYSTEM_FLAGS),
    ("0f 05", traits.SYSCALL),
    ("cc", traits.TRAP),
    ("cd 80", traits.TRAP),
    ("f4", traits.TRAP),
    ("0f 0b", traits.TRAP),
    ("c7 f8 00000000", traits.XBEGIN),
    ("48 8b 05 00000000", traits.RIP),
    ("48 8d 05 00000000", traits.RIP),
    ("67 48 8b 05 00000000", traits.RIP | traits.ADDR32),
    ("67 48 8b 00", 0),
    ("65 48 8b 04 25 00000000", traits.GS),
    ("64 48 8b 04 25 28000000", traits.FS),
    ("65 48 8b c0", 0),
    ("65 48 8d 00", 0),
    ("65 a1 0000000000000000", traits.GS),
    ("65 a4", traits.GS),
    ("65 aa", 0),
    ("65 d7", traits.GS),
    ("f3 65 a4", traits.GS | traits.REP_STRING),
    ("f3 48 ab", traits.REP_STRING),
    ("f2 ae", traits.REP_STRING),
    ("a4", 0),
    ("f3 c3", traits.RET),
    ("f3 48 0f ae c8", traits.GSBASE),
    ("f3 48 0f ae d8", traits.GSBASE),
    ("f3 0f ae c0", traits.FSBASE),
    ("8e e8", traits.SEGMENT_LOAD),
    ("8e e0", traits.SEGMENT_LOAD),
    ("8e d8", 0),
    ("0f a9", traits.SEGMENT_LOAD),
    ("d9 00", traits.X87),
    ("9b", traits.X87),
    ("0f 77", traits.X87),
    ("0f 6f c0", traits.X87),
    ("66 0f 6f c0", traits.SSE),
    ("f3 0f 6f c0", traits.SSE),
    ("0f 2a c0", traits.X87 | traits.SSE),
    ("f3 0f 2a c0", traits.SSE),
    ("66 0f 2d c0", traits.X87 | traits.SSE),
    ("f3 0f d6 c0", traits.X87 | traits.SSE),
    ("0f ae 00", traits.X87 | traits.SSE),
    ("0f c7 20", traits.X87 | traits.SSE | traits.AVX512),
    ("0f ae f0", 0),
    ("c5 f8 77", traits.AVX),
    ("c5 f8 92 c8", traits.AVX | traits.AVX512),
    ("62 f1 7c 48 58 c0", traits.AVX512),
    ("c5 fa 10 05 00000000", traits.AVX | traits.RIP),
    ("fc", traits.SYSTEM_FLAGS),
    ("fd", traits.SYSTEM_FLAGS),
    ("9d", traits.SYSTEM_FLAGS),
    ("fa", traits.SYSTEM_FLAGS),
    ("9c", 0),
    ("f0 48 0f b1 0a", 0),
)


@pytest.mark.parametrize(("code", "expected"), _TRAITS_BY_HAND, ids=lambda value: str(value))
def test_traits(code: str, expected: int) -> None:
    """Each kind of instruction has the traits that the engine relies on, and no others."""
    found = scan(bytes.fromhex(code)).traits
    assert traits.describe(found) == traits.describe(expected)


_NO_INSTRUCTIONS: Final = words(
    """
06 07 0e 16 17 1e 1f 27 2f 37 3f 60 61 82c000 9a000000000000 ce d40a d50a d6 ea000000000000
62f07c4858c0 62f17848 c4e05ac0 c4e47ac0 f090 f001c0 f08b00 f0488d00 f00fb600 8fe0 8f20 fed0 ffe8
fff8 c7c8 c6f0f0 0fbac000 0f04 0f0a 0f0c 0f24c0 0f39 0f3b 0fa6 660fae00 4cc5f877 66c5f877
f3c4e17877 f0c5f877 666666666666666666666666666666 f30f54c0 0fb8c0 8ec8 8cf0 f20fc7f0
    """
)


@pytest.mark.parametrize("code", sorted(_NO_INSTRUCTIONS))
def test_undefined_bytes_are_rejected(processor: Processor, code: str) -> None:
    """Bytes that are #UD in 64-bit mode are INVALID, and the processor refuses them too."""
    padded = bytes.fromhex(code).ljust(15, b"\0")
    assert scan_block(padded, 10) == ([], [], 0, INVALID)
    assert processor.measure(padded).kind in (UNDEFINED, TOO_LONG)
    with pytest.raises(DecodeError, match="0x1234: ") as caught:
        scan(padded, 0, 0x1234)
    assert (caught.value.app_address, caught.value.code) == (0x1234, padded)


def test_scan_block_stops_behind_the_first_branch() -> None:
    """The branch is included, what follows it is not looked at."""
    code = bytes.fromhex("55 4889e5 488b0511223344 c3 06")
    assert scan_block(code, 100) == (
        [0, 1, 4, 11],
        [(4, 11, traits.RIP, 6, 7), (11, 12, traits.RET, 0, 0)],
        12,
        FLOW,
    )


def test_scan_block_goes_on_behind_a_system_call() -> None:
    """A system call is special but does not end a block."""
    starts, specials, end, status = scan_block(bytes.fromhex("0f05 c3"), 100)
    assert (starts, [special[2] for special in specials], end, status) == (
        [0, 2],
        [traits.SYSCALL, traits.RET],
        3,
        FLOW,
    )


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_scan_block_counts_instructions(limit: int) -> None:
    """No more than *count_limit* instructions are scanned."""
    assert scan_block(b"\x90" * 40, limit) == (list(range(limit)), [], limit, LIMIT)


def test_flow_wins_over_the_limit() -> None:
    """A last instruction that ends the block is FLOW even where the count is used up."""
    assert scan_block(b"\x90\xc3", 2)[3] == FLOW


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("code", ["48b81122334455667788", "488b0511223344", "e811223344", "c5f877"])
def test_truncated_code_is_left_out(code: str, warm: bool) -> None:
    """An instruction that runs past the buffer is not among the starts, learned or not."""
    whole = bytes.fromhex(code)
    if warm:
        scan_block(whole + b"\x90" * 8, 1)
    for size in range(len(whole)):
        assert scan_block(b"\x90" + whole[:size], 50) == ([0], [], 1, TRUNCATED)
        assert scan_block(b"\x90" + whole[:size], 2)[2:] == (1, TRUNCATED)


def test_scan_says_that_bytes_are_missing() -> None:
    """The error for truncated bytes differs in its text from that for invalid ones."""
    with pytest.raises(DecodeError, match="past the bytes given"):
        scan(b"\xe8\0\0")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("4f8b849911223344", {"reg": 8, "base": 9, "index": 11, "scale": 4, "rex": 0x4F}),
        ("c4a17058149d10000000", {"reg": 2, "base": None, "index": 11, "vvvv": 1, "wide": False}),
        ("62a1ed4058c1", {"reg": 16, "rm": 17, "vvvv": 18, "wide": True, "encoding": EVEX}),
        ("4889d8", {"reg": 3, "rm": 0, "base": None, "is_memory": False, "encoding": LEGACY}),
        ("488b4424f8", {"base": 4, "index": None, "displacement": -8, "disp_size": 1}),
        ("c5f877", {"modrm": None, "reg": None, "vvvv": 0, "encoding": VEX2, "opcode_map": 1}),
        ("0f20c0", {"reg": 0, "rm": 0, "is_memory": False}),
        ("c8100001", {"imm_offset": 1, "imm_size": 3}),
        ("c4e2f1f7c0", {"encoding": VEX3, "opcode_map": 2, "vvvv": 1, "payload_prefix": 1}),
        ("8fe97801c8", {"encoding": XOP, "opcode_map": 9, "opcode": 1, "vvvv": 0}),
        ("64488b00", {"segment": 0x64, "prefixes": b"\x64"}),
        ("6683c0ff", {"immediate": -1, "imm_offset": 3, "opcode": 0x83, "opcode_offset": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parts_of_an_instruction(code: str, expected: dict[str, object]) -> None:
    """`scan` finds the fields, extended by the bits of REX, VEX and EVEX."""
    instruction = scan(bytes.fromhex(code))
    assert instruction.length == len(bytes.fromhex(code))
    assert {name: getattr(instruction, name) for name in expected} == expected
