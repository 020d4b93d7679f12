"""The block scanner: where instructions start, and which of them the engine must look at.

`scan_block` is the hot path of translation. It walks the automaton of `pydbi.x86.automaton`, whose
answer after two to four bytes is the length of an instruction that can be copied verbatim, or the
record of a special one; only for what the automaton has not met does it ask the reference
decoder `pydbi.x86.instruction.scan`. What was measured and rejected stands at the loop.
"""

from __future__ import annotations

from itertools import repeat
from typing import Final

from pydbi.x86.automaton import FIRST, FIRST_ROW, RECORDS, ROWS, UNKNOWN, learn, record_of
from pydbi.x86.instruction import TRUNCATED, Instruction, decode, scan
from pydbi.x86.instruction import UNDEFINED as INVALID

__all__ = [
    "FLOW",
    "INVALID",
    "LIMIT",
    "TRUNCATED",
    "Instruction",
    "Special",
    "scan",
    "scan_block",
]

#: A special instruction: (start, end, traits, modrm_offset, disp_offset), all offsets in the code.
Special = tuple[int, int, int, int, int]

#: Why `scan_block` stopped, beside TRUNCATED and INVALID: the last instruction ends the block.
FLOW: Final = 0
#: *count_limit* instructions were scanned, and the last one does not end the block.
LIMIT: Final = 1


def scan_block(code: bytes, count_limit: int) -> tuple[list[int], list[Special], int, int]:
    """Return (starts, specials, end, status) of the basic block at the start of *code*.

    starts holds the offset of each instruction, end the offset behind the last one. specials
    describes, as (start, end, traits, modrm_offset, disp_offset), the instructions that cannot be
    copied verbatim or whose effect the engine must know: those with traits beside FS, SSE and AVX
    (`pydbi.x86.traits`), which are left out of the numbers too. modrm_offset is 0 without ModRM;
    disp_offset is that of a RIP-relative displacement, or 0.

    status is FLOW (the last instruction ends the block), LIMIT (*count_limit* instructions),
    TRUNCATED (the instruction at end runs past the buffer) or INVALID (no instruction there).
    Bytes behind the end of *code* are never needed and never read.
    """
    # Figures are microseconds per instruction over libc's basic blocks, 4.6 instructions and 1.2
    # specials each (CPython 3.11, Zen 5): this loop 0.193. Rejected: one test for all lengths
    # after the lookups instead of one after each, 0.202; a conditional expression for each field
    # of a special instead of three branches, 0.209. An iteration over the bytes would be cheaper
    # than indexing (2.6 against 12 ns a byte), but has to visit displacements and immediates.
    # Turning the bytes into a list first makes an access 7 ns cheaper and costs 5 ns a byte.
    starts: list[int] = []
    specials: list[Special] = []
    first = FIRST
    rows = ROWS
    at = 0
    status = FLOW
    try:
        for _ in repeat(None, count_limit):
            starts.append(at)
            number = first[code[at]][code[at + 1]]
            if number < 16:
                at += number
                continue
            if number >= FIRST_ROW:
                number = rows[number][code[at + 2]]
                if number < 16:
                    at += number
                    continue
                if number >= FIRST_ROW:
                    number = rows[number][code[at + 3]]
                    if number < 16:
                        at += number
                        continue
                    more = at + 4
                    while number >= FIRST_ROW:
                        number = rows[number][code[more]]
                        more += 1
                    if number < 16:
                        at += number
                        continue
            if number != UNKNOWN:
                length, traits, modrm, displacement, ends = RECORDS[number]
            else:
                instruction = decode(code, at)
                if isinstance(instruction, int):
                    starts.pop()
                    return starts, specials, at, instruction
                learn(instruction)
                length, traits, modrm, displacement, ends = record_of(instruction)
                if not traits:
                    at += length
                    continue
            start = at
            at += length
            if displacement:
                specials.append((start, at, traits, start + modrm, start + displacement))
            elif modrm:
                specials.append((start, at, traits, start + modrm, 0))
            else:
                specials.append((start, at, traits, 0, 0))
            if ends:
                break
        else:
            status = LIMIT
    except IndexError:
        # The automaton looked for a byte behind the buffer; *at* has been appended already.
        starts.pop()
        if at <= len(code):
            return _scan_tail(code, count_limit, starts, specials, at)
    if at > len(code):
        # The last instruction's tail, at which the automaton does not look, is not there.
        at = starts.pop()
        if specials and specials[-1][0] == at:
            specials.pop()
        status = TRUNCATED
    return starts, specials, at, status


def _scan_tail(
    code: bytes, count_limit: int, starts: list[int], specials: list[Special], at: int
) -> tuple[list[int], list[Special], int, int]:
    """Go on at *at*, so near to the end of *code* that the automaton would read behind it."""
    while len(starts) < count_limit:
        instruction = decode(code, at)
        if isinstance(instruction, int):
            return starts, specials, at, instruction
        length, traits, modrm, displacement, ends = record_of(instruction)
        starts.append(at)
        end = at + length
        if traits:
            specials.append(
                (at, end, traits, modrm and at + modrm, displacement and at + displacement)
            )
        at = end
        if ends:
            return starts, specials, at, FLOW
    return starts, specials, at, LIMIT
