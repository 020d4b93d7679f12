"""What scanning costs: microseconds per instruction, ours and Capstone's, on libc's own code.

Run with ``python -m benchmarks.scanner [FILE]``. The blocks are the real basic blocks that a
linear sweep finds; each is scanned from a window that goes on behind it, as the engine does. The
contestants take turns, and the medians of all rounds are printed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import capstone

from pydbi.x86.scanner import FLOW, scan, scan_block

_WINDOW: Final = 512
_ROUNDS: Final = 9
_CODE_LIMIT: Final = 1 << 20

Block = tuple[bytes, int, list[int]]
Contestant = Callable[[list[Block]], None]


def code_of(path: Path) -> bytes:
    """Return the largest executable section of an ELF file."""
    image = path.read_bytes()
    (table,) = struct.unpack_from("<Q", image, 0x28)
    entry_size, count = struct.unpack_from("<HH", image, 0x3A)
    sections = []
    for number in range(count):
        header = struct.unpack_from("<IIQQQQ", image, table + number * entry_size)
        _, kind, flags, _, offset, size = header
        if kind == 1 and flags & 4:
            sections.append(image[offset : offset + size])
    return max(sections, key=len)


def cut_into_blocks(code: bytes) -> Iterator[Block]:
    """Yield (window, size of the block, starts of its instructions) over *code*."""
    at = 0
    while at < len(code):
        window = code[at : at + _WINDOW]
        starts, _, end, status = scan_block(window, 10**6)
        if status == FLOW:
            yield window, end, starts
        at += end or 1


def scan_blocks(blocks: list[Block]) -> None:
    """Ours, block by block."""
    for window, _, _ in blocks:
        scan_block(window, 1000)


def scan_each(blocks: list[Block]) -> None:
    """Ours, complete, one instruction at a time."""
    for window, _, starts in blocks:
        for start in starts:
            scan(window, start)


def capstone_native(blocks: list[Block]) -> None:
    """libcapstone's cs_disasm through ctypes, without detail; its result is only counted."""
    library = capstone._cs
    handle = ctypes.c_size_t()
    library.cs_open(capstone.CS_ARCH_X86, capstone.CS_MODE_64, ctypes.byref(handle))
    result = ctypes.POINTER(capstone._cs_insn)()
    disassemble, free = library.cs_disasm, library.cs_free
    for window, size, _ in blocks:
        count = disassemble(handle, window, size, 0, 0, ctypes.byref(result))
        free(result, count)
    library.cs_close(ctypes.byref(handle))


def capstone_lite(blocks: list[Block]) -> None:
    """Capstone's own fast path: tuples of address, size and text."""
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    for window, size, _ in blocks:
        for _ in disassembler.disasm_lite(window[:size], 0):
            pass


def capstone_detail(blocks: list[Block]) -> None:
    """Capstone's objects, with operands and the registers read and written."""
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    for window, size, _ in blocks:
        for instruction in disassembler.disasm(window[:size], 0):
            _ = instruction.operands
            instruction.regs_access()


CONTESTANTS: Final[dict[str, Contestant]] = {
    "scan_block": scan_blocks,
    "scan": scan_each,
    "cs_disasm through ctypes": capstone_native,
    "capstone disasm_lite": capstone_lite,
    "capstone objects with detail": capstone_detail,
}
#: The slow ones need not scan everything.
_SHARE: Final = {"capstone objects with detail": 20, "scan": 4}


def measure(contestant: Contestant, blocks: list[Block]) -> float:
    """Return microseconds per instruction of one run."""
    count = sum(len(starts) for _, _, starts in blocks)
    begin = time.perf_counter()
    contestant(blocks)
    return (time.perf_counter() - begin) / count * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=libc_path())
    path = parser.parse_args().file
    code = code_of(path)[:_CODE_LIMIT]
    begin = time.perf_counter()
    blocks = list(cut_into_blocks(code))
    first = time.perf_counter() - begin
    count = sum(len(starts) for _, _, starts in blocks)
    specials = sum(len(scan_block(window, 1000)[1]) for window, _, _ in blocks)
    print(
        f"{path.name}: {len(blocks)} blocks, {count} instructions, {specials / count:.0%} special"
    )
    print(f"first pass, which learns the rows: {first / count * 1e6:.3f} us per instruction")
    results: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    gc.disable()
    for _ in range(_ROUNDS):
        for name, contestant in CONTESTANTS.items():
            share = blocks[:: _SHARE.get(name, 1)]
            results[name].append(measure(contestant, share))
    ours = statistics.median(results["scan_block"])
    print(f"{'':32}{'median':>8}{'best':>8}  us per instruction, and ratio to scan_block")
    for name, times in results.items():
        median = statistics.median(times)
        print(f"{name:32}{median:8.3f}{min(times):8.3f}{median / ours:8.1f}x")


def libc_path() -> Path:
    """Return the C library that this process uses."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        name = line.rsplit(None, 1)[-1]
        if Path(name).name.startswith(("libc.so", "libc-")):
            return Path(name)
    raise SystemExit("no libc is mapped here: name a file")


if __name__ == "__main__":
    main()
