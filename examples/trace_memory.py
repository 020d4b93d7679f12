"""Which bytes a function reads and writes, and their values.

A callback at each instruction that accesses memory asks what the accesses are. Here it watches
``swab`` of the C library, which copies bytes and swaps each two of them, and shows its own buffers
by name.
"""

from __future__ import annotations

import ctypes

import pydbi as pyqbdi

SOURCE, TARGET = ctypes.create_string_buffer(b"badcfe", 6), ctypes.create_string_buffer(6)
PLACES = {"source": SOURCE, "target": TARGET}


def name_of(address: int) -> str:
    """Say where an address lies."""
    for name, buffer in PLACES.items():
        offset = address - ctypes.addressof(buffer)
        if 0 <= offset < len(buffer):
            return f"{name}[{offset}]"
    return "the stack"


def on_access(
    vm: pyqbdi.VM, gpr: pyqbdi.GPRState, fpr: pyqbdi.FPRState, lines: list[str]
) -> pyqbdi.VMAction:
    """Write down the accesses of the instruction that has just been executed."""
    for access in vm.getInstMemoryAccess():
        verb = "reads " if access.type == pyqbdi.MEMORY_READ else "writes"
        place = name_of(access.accessAddress)
        value = "" if place == "the stack" else f" = {access.value:#0{2 * access.size + 2}x}"
        lines.append(f"{verb} {access.size} bytes of {place}{value}")
    return pyqbdi.CONTINUE


def main() -> None:
    """Trace one call and print its accesses."""
    function = ctypes.cast(ctypes.CDLL(None).swab, ctypes.c_void_p).value
    vm = pyqbdi.VM()
    stack = pyqbdi.allocateVirtualStack(vm.getGPRState(), 0x10000)
    vm.addInstrumentedModuleFromAddr(function)

    lines: list[str] = []
    vm.addMemAccessCB(pyqbdi.MEMORY_READ_WRITE, on_access, lines)
    vm.call(function, [ctypes.addressof(SOURCE), ctypes.addressof(TARGET), len(SOURCE)])
    print(*lines, sep="\n")
    print(f"the target is {TARGET.raw!r}")
    pyqbdi.alignedFree(stack)


if __name__ == "__main__":
    main()
