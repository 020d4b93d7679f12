"""Print what the engine made of a function: ``python docs/show_blocks.py LIBRARY FUNCTION [N...]``.

Calls the function with integer arguments, and prints every block in the order of its placement:
the app's instructions, then those in the cache. An app address is shown as module+offset, a cache
address as an offset in its arena. It looks into the engine's private parts, as a tour may.
"""

from __future__ import annotations

import ctypes
import re
import sys

import capstone

import pydbi
from pydbi.jit.block import Block
from pydbi.jit.context import SLOT, TABLE_OFFSET

_SLOT_NAMES = {offset: name for name, offset in SLOT.items()} | {TABLE_OFFSET: "TABLE"}
_disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)


def show(label: str, start: int, end: int, base: int) -> None:
    """Print the instructions in [*start*, *end*), their addresses less *base*."""
    for line in _disassembler.disasm(pydbi.readMemory(start, end - start), start):
        text = re.sub(
            r"(?<=[\[ ])0x([0-9a-f]+)(?=\])",
            lambda match: _SLOT_NAMES.get(int(match[1], 16), match[0]),
            f"{line.mnemonic} {line.op_str}".replace("qword ptr ", "").replace("dword ptr ", ""),
        )
        if line.op_str.startswith("0x"):  # a direct branch
            text = f"{line.mnemonic} {int(line.op_str, 16) - base:+#x}"
        print(f"  {label} {line.address - base:+#6x}  {line.bytes.hex(' '):33} {text}")


def main(library: str, function: str, *arguments: str) -> None:
    """Call a function and show its blocks."""
    address = ctypes.cast(ctypes.CDLL(library)[function], ctypes.c_void_p).value
    assert address
    vm = pydbi.VM()
    vm.addInstrumentedModuleFromAddr(address)
    pydbi.allocateVirtualStack(vm.getGPRState(), 1 << 20)
    print(vm.call(address, [int(argument, 0) for argument in arguments]))
    engine = vm._engine
    for fields in engine.cache.blocks:
        block = Block._make(fields)
        module, _, path = engine.memory.module_of(block.app)
        arena = engine.cache.arena_at(block.code)
        print(f"\nblock {path.rpartition('/')[2]}+{block.app - module:#x}")
        show("app  ", block.app, block.end, module)
        pad = (engine.lookup.get(block.app) or 0) - engine.lookup.pad_entry
        if arena.address <= pad < block.code:
            show("pad  ", pad, block.code, arena.address)
        show("cache", block.code, block.code_end, arena.address)
    print(f"\n{vm.stats}")


if __name__ == "__main__":
    main(*sys.argv[1:])
