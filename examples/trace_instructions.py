"""Every instruction that a function executes, in order.

The simplest tool of all: a callback in front of each instruction, which asks for its analysis.
Here it follows ``labs(-5)`` of the C library. Addresses are shown relative to the function.
"""

from __future__ import annotations

import ctypes

import pydbi as pyqbdi

WANTED = pyqbdi.ANALYSIS_INSTRUCTION | pyqbdi.ANALYSIS_DISASSEMBLY
MINUS_FIVE = -5 & 0xFFFF_FFFF_FFFF_FFFF  # arguments are unsigned


def on_instruction(
    vm: pyqbdi.VM, gpr: pyqbdi.GPRState, fpr: pyqbdi.FPRState, seen: list[tuple[int, str, str]]
) -> pyqbdi.VMAction:
    """Note the instruction that comes next."""
    instruction = vm.getInstAnalysis(WANTED)
    seen.append((instruction.address, instruction.mnemonic, instruction.disassembly))
    return pyqbdi.CONTINUE


def main() -> None:
    """Trace one call and print it."""
    function = ctypes.cast(ctypes.CDLL(None).labs, ctypes.c_void_p).value
    vm = pyqbdi.VM()
    stack = pyqbdi.allocateVirtualStack(vm.getGPRState(), 0x10000)
    vm.addInstrumentedModuleFromAddr(function)

    seen: list[tuple[int, str, str]] = []
    vm.addCodeCB(pyqbdi.PREINST, on_instruction, seen)
    complete, result = vm.call(function, [MINUS_FIVE])
    for address, mnemonic, text in seen:
        print(f"+{address - function:<4x} {mnemonic:12} {text.strip().expandtabs(8)}")
    print(f"labs(-5) = {result}: {len(seen)} instructions, complete: {complete}")
    pyqbdi.alignedFree(stack)


if __name__ == "__main__":
    main()
