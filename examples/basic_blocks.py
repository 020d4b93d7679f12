"""How often each basic block of a function is executed.

Events tell when a block is entered. The first time, BASIC_BLOCK_NEW is among them. Here they watch
``strtol("1234567", NULL, 10)`` of the C library, whose hottest blocks are those for a digit.
"""

from __future__ import annotations

import collections
import ctypes

import pydbi as pyqbdi


class Blocks:
    """What is known of the blocks, by their start."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.entered: collections.Counter[int] = collections.Counter()


def on_entry(
    vm: pyqbdi.VM,
    state: pyqbdi.VMState,
    gpr: pyqbdi.GPRState,
    fpr: pyqbdi.FPRState,
    blocks: Blocks,
) -> pyqbdi.VMAction:
    """Count the block that is entered."""
    start = state.basicBlockStart
    blocks.entered[start] += 1
    if state.event & pyqbdi.BASIC_BLOCK_NEW:
        blocks.sizes[start] = state.basicBlockEnd - start
    return pyqbdi.CONTINUE


def main() -> None:
    """Watch one call and print its blocks in the order in which they were first executed."""
    function = ctypes.cast(ctypes.CDLL(None).strtol, ctypes.c_void_p).value
    text = ctypes.create_string_buffer(b"1234567")
    vm = pyqbdi.VM()
    stack = pyqbdi.allocateVirtualStack(vm.getGPRState(), 0x10000)
    vm.addInstrumentedModuleFromAddr(function)

    blocks = Blocks()
    vm.addVMEventCB(pyqbdi.BASIC_BLOCK_ENTRY, on_entry, blocks)
    _, result = vm.call(function, [ctypes.addressof(text), 0, 10])
    for start, size in blocks.sizes.items():
        print(f"{start - function:+#8x} {size:4} bytes {blocks.entered[start]:4} times")
    print(f"strtol gave {result} with {len(blocks.sizes)} blocks")
    pyqbdi.alignedFree(stack)


if __name__ == "__main__":
    main()
