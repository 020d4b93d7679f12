"""Which blocks and edges of a function an input reaches, as fuzzers want to know it.

An edge is a pair of blocks executed one after the other. Blocks are written in the drcov format,
which coverage viewers read, if a file is named: ``python coverage.py FILE``. Here the
function is ``strtol`` of the C library, and the question is what each input adds.
"""

from __future__ import annotations

import ctypes
import struct
import sys

import pydbi as pyqbdi

INPUTS = (b"7", b"-7", b" 7", b"0x7", b"77", b"", b"seven", b"-77")


class Coverage:
    """What was reached: blocks as (start, end), edges as (start, start)."""

    def __init__(self) -> None:
        self.blocks: set[tuple[int, int]] = set()
        self.edges: set[tuple[int, int]] = set()
        self.latest = 0


def on_entry(
    vm: pyqbdi.VM,
    state: pyqbdi.VMState,
    gpr: pyqbdi.GPRState,
    fpr: pyqbdi.FPRState,
    coverage: Coverage,
) -> pyqbdi.VMAction:
    """Note the block, and how it was reached."""
    coverage.blocks.add((state.basicBlockStart, state.basicBlockEnd))
    coverage.edges.add((coverage.latest, state.basicBlockStart))
    coverage.latest = state.basicBlockStart
    return pyqbdi.CONTINUE


def drcov(blocks: set[tuple[int, int]]) -> bytes:
    """Return a drcov file, version 2: a table of modules, then a table of blocks."""
    maps: dict[str, list[pyqbdi.Range]] = {}
    for region in pyqbdi.getCurrentProcessMaps(True):
        if region.name.startswith("/"):
            maps.setdefault(region.name, []).append(region.range)
    lines = ["DRCOV VERSION: 2", "DRCOV FLAVOR: drcov"]
    lines += [f"Module Table: version 2, count {len(maps)}"]
    lines += ["Columns: id, base, end, entry, checksum, timestamp, path"]
    entries = []
    for number, (path, ranges) in enumerate(maps.items()):
        low, high = ranges[0].start, ranges[-1].end
        lines.append(f"{number}, {low:#x}, {high:#x}, 0x0, 0x0, 0x0, {path}")
        entries += [
            struct.pack("<IHH", start - low, end - start, number)
            for start, end in sorted(blocks)
            if low <= start < high
        ]
    lines.append(f"BB Table: {len(entries)} bbs\n")
    return "\n".join(lines).encode() + b"".join(entries)


def main() -> None:
    """Run all inputs, print what each adds, and write the file if one is named."""
    function = ctypes.cast(ctypes.CDLL(None).strtol, ctypes.c_void_p).value
    vm = pyqbdi.VM()
    stack = pyqbdi.allocateVirtualStack(vm.getGPRState(), 0x10000)
    vm.addInstrumentedModuleFromAddr(function)
    coverage = Coverage()
    vm.addVMEventCB(pyqbdi.BASIC_BLOCK_ENTRY, on_entry, coverage)

    for data in INPUTS:
        blocks, edges = len(coverage.blocks), len(coverage.edges)
        coverage.latest = 0
        text = ctypes.create_string_buffer(data)
        vm.call(function, [ctypes.addressof(text), 0, 0])
        new_blocks, new_edges = len(coverage.blocks) - blocks, len(coverage.edges) - edges
        print(f"{data!r:9} adds {new_blocks:2} blocks and {new_edges:2} edges")
    print(f"in all {len(coverage.blocks)} blocks, {len(coverage.edges)} edges")
    if len(sys.argv) > 1:
        with open(sys.argv[1], "wb") as file:
            file.write(drcov(coverage.blocks))
    pyqbdi.alignedFree(stack)


if __name__ == "__main__":
    main()
