"""How often each conditional branch of a function is taken.

A callback can be bound to instructions by their LLVM mnemonic; a trailing ``*`` stands for
anything. Behind a branch, rip is where execution goes on. Here the branches are those of
``strverscmp("libc-2.36", "libc-2.4")``, which compares numbers within texts.
"""

from __future__ import annotations

import collections
import ctypes

import pydbi as pyqbdi

Counts = collections.defaultdict[int, list[int]]


def behind_branch(
    vm: pyqbdi.VM, gpr: pyqbdi.GPRState, fpr: pyqbdi.FPRState, counts: Counts
) -> pyqbdi.VMAction:
    """Count the branch as taken (1) or not (0)."""
    branch = vm.getInstAnalysis(pyqbdi.ANALYSIS_INSTRUCTION)
    taken = gpr.rip != branch.address + branch.instSize
    counts[branch.address][taken] += 1
    return pyqbdi.CONTINUE


def main() -> None:
    """Profile one call and print its branches by address."""
    function = ctypes.cast(ctypes.CDLL(None).strverscmp, ctypes.c_void_p).value
    first, second = map(ctypes.create_string_buffer, (b"libc-2.36", b"libc-2.4"))
    vm = pyqbdi.VM()
    stack = pyqbdi.allocateVirtualStack(vm.getGPRState(), 0x10000)
    vm.addInstrumentedModuleFromAddr(function)

    counts: Counts = collections.defaultdict(lambda: [0, 0])
    vm.addMnemonicCB("JCC*", pyqbdi.POSTINST, behind_branch, counts)
    _, result = vm.call(function, [ctypes.addressof(first), ctypes.addressof(second)])
    for address, (passed, taken) in sorted(counts.items()):
        print(f"+{address - function:<4x} taken {taken:2} of {taken + passed:2} times")
    order = "after" if ctypes.c_int32(result & 0xFFFF_FFFF).value > 0 else "before"
    print(f"{first.value.decode()} comes {order} {second.value.decode()}")
    pyqbdi.alignedFree(stack)


if __name__ == "__main__":
    main()
