"""What a function compares its input with.

An instrumentation rule is asked once for each instruction, when it is translated, and says which
callbacks it wants there. This one wants those that compare a register with a constant, and looks
at the register each time. So constants that an input must match come to light: fuzzers
use it to get past checks. Here it looks into ``strtol("0x1f!", NULL, 0)`` of the C library.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import pydbi as pyqbdi

WANTED = pyqbdi.ANALYSIS_INSTRUCTION | pyqbdi.ANALYSIS_OPERANDS


class Comparison(NamedTuple):
    """A comparison of a register with a constant."""

    offset: int
    register: pyqbdi.OperandAnalysis
    constant: int
    found: list[tuple[int, int, int]]


def on_compare(
    vm: pyqbdi.VM, gpr: pyqbdi.GPRState, fpr: pyqbdi.FPRState, comparison: Comparison
) -> pyqbdi.VMAction:
    """Note both sides."""
    register = comparison.register
    mask = (1 << 8 * register.size) - 1
    value = gpr[register.regCtxIdx] >> register.regOff & mask
    comparison.found.append((comparison.offset, value, comparison.constant & mask))
    return pyqbdi.CONTINUE


class Rule:
    """The rule, and what its callbacks find."""

    def __init__(self, function: int) -> None:
        self.function = function
        self.found: list[tuple[int, int, int]] = []

    def __call__(
        self, vm: pyqbdi.VM, instruction: pyqbdi.InstAnalysis, data: object
    ) -> list[pyqbdi.InstrRuleDataCBK]:
        """Ask for a callback before the instruction, if it compares a register with a constant."""
        # isCompare is also true for test and sub.
        if not instruction.mnemonic.startswith("CMP") or instruction.mayLoad:
            return []
        registers = [o for o in instruction.operands if o.type == pyqbdi.OPERAND_GPR]
        constants = [o for o in instruction.operands if o.type == pyqbdi.OPERAND_IMM]
        if not registers or not constants:
            return []
        offset = instruction.address - self.function
        comparison = Comparison(offset, registers[0], constants[0].value, self.found)
        return [pyqbdi.InstrRuleDataCBK(on_compare, comparison, pyqbdi.PREINST)]


def main() -> None:
    """Call the function and print its comparisons."""
    function = ctypes.cast(ctypes.CDLL(None).strtol, ctypes.c_void_p).value
    text = ctypes.create_string_buffer(b"0x1f!")
    vm = pyqbdi.VM()
    stack = pyqbdi.allocateVirtualStack(vm.getGPRState(), 0x10000)
    vm.addInstrumentedModuleFromAddr(function)

    rule = Rule(function)
    vm.addInstrRule(rule, WANTED, None)
    _, result = vm.call(function, [ctypes.addressof(text), 0, 0])
    for offset, value, constant in rule.found:
        shown = f"  {chr(value)!r} and {chr(constant)!r}" if 32 <= value < 127 else ""
        print(f"{offset:+#7x}  {value:#4x} with {constant:#4x}{shown}")
    print(f"strtol gave {result:#x}")
    pyqbdi.alignedFree(stack)


if __name__ == "__main__":
    main()
